package bindings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"connectrpc.com/connect"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

var discard = log.New(io.Discard, "", 0)

type text = wrapperspb.StringValue

// calls are what the protocols of connect-go differ in.
var protocols = []struct {
	name    string
	options []connect.ClientOption
}{
	{"Connect", nil},
	{"Connect with JSON", []connect.ClientOption{connect.WithProtoJSON()}},
	{"Connect with GET", []connect.ClientOption{connect.WithHTTPGet()}},
	{"Connect without compression", []connect.ClientOption{connect.WithAcceptCompression("gzip", nil, nil)}},
	{"gRPC", []connect.ClientOption{connect.WithGRPC()}},
	{"gRPC-Web", []connect.ClientOption{connect.WithGRPCWeb()}},
	{"gRPC-Web without compression", []connect.ClientOption{connect.WithGRPCWeb(), connect.WithAcceptCompression("gzip", nil, nil)}},
}

// answerOf is what a handler does for a request that says so: it answers with an error of that code, or well.
func answerOf(said string) error {
	var code connect.Code
	if said == "" || code.UnmarshalText([]byte(said)) != nil {
		return nil
	}
	return connect.NewError(code, errors.New("no apples"))
}

// rpc runs a service with a unary call and a stream behind g.
func rpc(t *testing.T, g *guard.Guard) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/shop.Cart/Add", connect.NewUnaryHandler("/shop.Cart/Add",
		func(_ context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
			return connect.NewResponse(wrapperspb.String("added")), answerOf(r.Msg.GetValue())
		}, connect.WithIdempotency(connect.IdempotencyNoSideEffects)))
	mux.Handle("/shop.Cart/List", connect.NewServerStreamHandler("/shop.Cart/List",
		func(_ context.Context, r *connect.Request[text], s *connect.ServerStream[text]) error {
			for range 3 {
				if err := s.Send(wrapperspb.String("apples")); err != nil {
					return err
				}
			}
			return answerOf(r.Msg.GetValue())
		}))
	server := httptest.NewUnstartedServer(guardhttp.New(g, mux))
	server.Config.ErrorLog = discard
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// eachCall runs a test for both kinds of calls over each protocol. call makes one that says what the service is to do.
func eachCall(t *testing.T, test func(t *testing.T, g *guard.Guard, call func(say string) error)) {
	t.Helper()
	for _, p := range protocols {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(p.name+", "+kind, func(t *testing.T) {
				g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1})
				if err != nil {
					t.Fatal(err)
				}
				server := rpc(t, g)
				options := append(p.options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
				unary := connect.NewClient[text, text](server.Client(), server.URL+"/shop.Cart/Add", options...)
				stream := connect.NewClient[text, text](server.Client(), server.URL+"/shop.Cart/List", p.options...)
				test(t, g, func(say string) error {
					if kind == "unary" {
						_, err := unary.CallUnary(t.Context(), connect.NewRequest(wrapperspb.String(say)))
						return err
					}
					s, err := stream.CallServerStream(t.Context(), connect.NewRequest(wrapperspb.String(say)))
					if err != nil {
						return err
					}
					for s.Receive() {
					}
					return errors.Join(s.Err(), s.Close())
				})
			})
		}
	}
}

// A client of each protocol gets the code, how long to wait, and the reason.
func TestRefusalOfConnect(t *testing.T) {
	eachCall(t, func(t *testing.T, g *guard.Guard, call func(string) error) {
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		err = call("")
		p.Release(guard.Ignored)
		refusal, ok := errors.AsType[*connect.Error](err)
		if !ok || refusal.Code() != connect.CodeResourceExhausted || len(refusal.Details()) != 2 ||
			refusal.Message() != "refused: the service is at its limit, try again later" {
			t.Fatalf("%v", err)
		}
		wait, err1 := refusal.Details()[0].Value()
		why, err2 := refusal.Details()[1].Value()
		if err := errors.Join(err1, err2); err != nil {
			t.Fatal(err)
		}
		info, _ := wait.(*errdetails.RetryInfo)
		reason, _ := why.(*errdetails.ErrorInfo)
		if s := info.GetRetryDelay().GetSeconds(); s < 1 || s > 3 ||
			fmt.Sprint(s) != refusal.Meta().Get("Retry-After") || reason.GetReason() != "CONCURRENCY" ||
			reason.GetDomain() != guardhttp.ErrorDomain {
			t.Errorf("%v, %v, %v", wait, why, refusal.Meta())
		}
		if err := call(""); err != nil {
			t.Errorf("with room: %v", err)
		}
	})
}

// The codes that OpenTelemetry counts as errors of a server are failures over each protocol, and no others.
func TestFailuresOfConnect(t *testing.T) {
	eachCall(t, func(t *testing.T, g *guard.Guard, call func(string) error) {
		failures := uint64(0)
		for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
			if err := call(code.String()); connect.CodeOf(err) != code {
				t.Errorf("%s arrives as %v", code, err)
			}
			if guardhttp.GRPCFailed(int(code)) {
				failures++
			}
			free(t, g)
			if got := g.Snapshot().Failed; got != failures {
				t.Fatalf("%d failures after %s, want %d", got, code, failures)
			}
		}
		if failures != 6 {
			t.Errorf("%d codes are failures", failures)
		}
		if err := call(""); err != nil {
			t.Error(err)
		}
		free(t, g)
		if got := g.Snapshot().Failed; got != failures {
			t.Errorf("a good call counts as a failure")
		}
	})
}
