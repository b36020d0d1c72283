package guardgrpc

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/grpc"
	testpb "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/metadata"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

const allOfIt = "rank=ffffffff;crit=critical;key=bob;api=vip;again;group=9;id=00000001;attempt=1;left=3600000;early=9"

// Baggage says what guard-context would, and neither reaches a handler if a stranger sends it, admitted or bypassed.
func TestBaggageOfACall(t *testing.T) {
	for _, sent := range []metadata.MD{
		metadata.Pairs(baggageKey, "a=1,guard-context="+url.QueryEscape(allOfIt)),
		metadata.Pairs(contextKey, allOfIt, alikeKey, allOfIt, baggageKey, "a=1,guard%2Dcontext="+url.QueryEscape(allOfIt)),
	} {
		for _, believed := range []bool{true, false} {
			for _, bypass := range []bool{true, false} {
				origins := make(chan guard.Arrival, 2)
				note := func(ctx context.Context) error {
					a, _ := guard.OriginOf(ctx)
					origins <- a
					return nil
				}
				s := &service{unary: note, duplex: func(stream testpb.TestService_FullDuplexCallServer) error { return note(stream.Context()) }}
				reach, _ := serve(t, newGuard(t, "back", 10), s,
					WithTrust(func(context.Context, string) bool { return believed }),
					WithBypass(func(context.Context, string) bool { return bypass }))
				conn := dial(t, reach, nil)
				ctx := metadata.NewOutgoingContext(t.Context(), sent)
				if err := ask(ctx, conn); err != nil {
					t.Fatal(err)
				}
				if err := stream(ctx, conn); err != nil {
					t.Fatal(err)
				}
				for range 2 {
					a := <-origins
					counts := a.Rank.Place == 0xffffffff || a.Criticality == guard.Critical || a.Key == "bob" || a.Entry == "vip"
					if counts != believed && !bypass {
						t.Errorf("%v, believed %v: %+v", sent, believed, a)
					}
				}
				for _, md := range s.heard {
					if passes := strings.Contains(fmt.Sprint(map[string][]string(md)), "bob"); passes != believed || !strings.Contains(wire.Only(md[baggageKey]), "a=1") {
						t.Errorf("%v, believed %v, bypass %v: the handler sees %v", sent, believed, bypass, md)
					}
				}
				if len(s.heard) != 2 {
					t.Fatalf("%d calls", len(s.heard))
				}
			}
		}
	}
}

// What a callee has answered reaches no stranger, whichever way a handler passes it on, admitted or not.
func TestNothingPassedOnReachesStrangers(t *testing.T) {
	passed := metadata.Pairs(answerKey, "threshold=1c0000000", "own", "1")
	begin := map[string]func(context.Context, testpb.TestService_FullDuplexCallServer) error{
		"SetHeader": func(ctx context.Context, _ testpb.TestService_FullDuplexCallServer) error {
			return grpc.SetHeader(ctx, passed)
		},
		"SendHeader": func(ctx context.Context, _ testpb.TestService_FullDuplexCallServer) error {
			return grpc.SendHeader(ctx, passed)
		},
		"SetTrailer": func(ctx context.Context, _ testpb.TestService_FullDuplexCallServer) error {
			return grpc.SetTrailer(ctx, passed)
		},
		"stream.SetHeader":  func(_ context.Context, s testpb.TestService_FullDuplexCallServer) error { return s.SetHeader(passed) },
		"stream.SendHeader": func(_ context.Context, s testpb.TestService_FullDuplexCallServer) error { return s.SendHeader(passed) },
		"stream.SetTrailer": func(_ context.Context, s testpb.TestService_FullDuplexCallServer) error {
			s.SetTrailer(passed)
			return nil
		},
	}
	for name, pass := range begin {
		for _, believed := range []bool{true, false} {
			for _, bypass := range []bool{true, false} {
				reach, _ := serve(t, newGuard(t, "back", 10), &service{
					unary:  func(ctx context.Context) error { return pass(ctx, nil) },
					duplex: func(s testpb.TestService_FullDuplexCallServer) error { return pass(s.Context(), s) },
				}, WithTrust(func(context.Context, string) bool { return believed }),
					WithBypass(func(context.Context, string) bool { return bypass }))
				conn := dial(t, reach, nil)
				calls := []func(context.Context, *grpc.ClientConn, ...grpc.CallOption) error{stream, ask}
				if strings.HasPrefix(name, "stream.") {
					calls = calls[:1]
				}
				for i, call := range calls {
					var header, trailer metadata.MD
					if err := call(t.Context(), conn, grpc.Header(&header), grpc.Trailer(&trailer)); err != nil {
						t.Fatal(err)
					}
					all := metadata.Join(header, trailer)
					if told := len(all[answerKey]) > 0; told != believed || wire.Only(all["own"]) != "1" {
						t.Errorf("%s, call %d, believed %v, bypass %v: told %v", name, i, believed, bypass, all)
					}
				}
			}
		}
	}
	if len(passed) != 2 {
		t.Errorf("the handler's own metadata is now %v", passed)
	}
}

// The key of a user stays in the house, and what an outsider advises stays outside.
func TestOutsideCallee(t *testing.T) {
	g := newGuard(t, "front", 10)
	p, err := g.Admit(t.Context(), guard.Arrival{Criticality: guard.Default, Key: "ann"})
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	ctx := metadata.AppendToOutgoingContext(guard.NewContext(t.Context(), p), contextKey, "key=ann", keyKey, "ann", "x-own", "1",
		baggageKey, "guard-context=key%3Dann")
	s := &service{}
	reach, _ := serve(t, nil, s)
	conn := dial(t, reach, g.Dependency("vendor"), WithoutContext())
	if err := ask(ctx, conn); err != nil {
		t.Fatal(err)
	}
	if err := stream(ctx, conn); err != nil {
		t.Fatal(err)
	}
	for _, md := range s.heard {
		for key, values := range md {
			if strings.HasPrefix(key, "guard-") || strings.Contains(strings.Join(values, ""), "ann") {
				t.Errorf("told %s: %q", key, values)
			}
		}
		if wire.Only(md["x-own"]) != "1" {
			t.Errorf("told %v", md)
		}
	}
	if len(s.heard) != 2 {
		t.Fatalf("%d calls", len(s.heard))
	}
	said := metadata.Pairs(answerKey, "no-retry;background;threshold=3ffffffff")
	if got, want := (&answer{outside: true, trailer: said}).advice(), (guard.Advice{NoRetry: true}); got != want {
		t.Errorf("%+v, expected %+v", got, want)
	}
}
