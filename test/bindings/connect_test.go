package bindings

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
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

// waiting is the key of the channel on which a request says that it waits.
type waiting struct{}

// answerOf is what a handler does for a request that says so: it answers with an error of that code, or well, it panics, or it
// waits until the client has gone.
func answerOf(ctx context.Context, said string) error {
	switch said {
	case "panic":
		panic(http.ErrAbortHandler)
	case "wait":
		ctx.Value(waiting{}).(chan struct{}) <- struct{}{}
		<-ctx.Done()
		return connect.NewError(connect.CodeInternal, errors.New("no apples"))
	}
	var code connect.Code
	if said == "" || code.UnmarshalText([]byte(said)) != nil {
		return nil
	}
	return connect.NewError(code, errors.New("no apples"))
}

// rpc runs a service with a unary call and a stream behind g.
func rpc(t *testing.T, g *guard.Guard, waits chan struct{}) *httptest.Server {
	t.Helper()
	mux := http.NewServeMux()
	mux.Handle("/shop.Cart/Add", connect.NewUnaryHandler("/shop.Cart/Add",
		func(ctx context.Context, r *connect.Request[text]) (*connect.Response[text], error) {
			return connect.NewResponse(wrapperspb.String("added")), answerOf(ctx, r.Msg.GetValue())
		}, connect.WithIdempotency(connect.IdempotencyNoSideEffects)))
	mux.Handle("/shop.Cart/List", connect.NewServerStreamHandler("/shop.Cart/List",
		func(ctx context.Context, r *connect.Request[text], s *connect.ServerStream[text]) error {
			for range 3 {
				if err := s.Send(wrapperspb.String("apples")); err != nil {
					return err
				}
			}
			return answerOf(ctx, r.Msg.GetValue())
		}))
	server := httptest.NewUnstartedServer(guardhttp.New(g, mux, guardhttp.WithRoute(guardhttp.PatternIn(mux))))
	server.Config.BaseContext = func(net.Listener) context.Context {
		return context.WithValue(context.Background(), waiting{}, waits)
	}
	server.Config.ErrorLog = discard
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	return server
}

// caller calls a service, and says what it is to do.
type caller struct {
	guard     *guard.Guard
	call      func(ctx context.Context, say string) error
	procedure string
	waits     chan struct{} // of each call that waits
	routes    *names        // that the guard has heard of
	server    *httptest.Server
}

// eachCall runs a test for both kinds of calls over each protocol.
func eachCall(t *testing.T, test func(t *testing.T, c caller)) {
	t.Helper()
	for _, p := range protocols {
		for _, kind := range []string{"unary", "stream"} {
			t.Run(p.name+", "+kind, func(t *testing.T) {
				c := caller{waits: make(chan struct{}), routes: new(names)}
				var err error
				c.guard, err = guard.New(guard.Config{
					Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, Observer: c.routes,
				})
				if err != nil {
					t.Fatal(err)
				}
				c.server = rpc(t, c.guard, c.waits)
				if kind == "unary" {
					c.procedure = "/shop.Cart/Add"
					options := append(p.options, connect.WithIdempotency(connect.IdempotencyNoSideEffects))
					client := connect.NewClient[text, text](c.server.Client(), c.server.URL+c.procedure, options...)
					c.call = func(ctx context.Context, say string) error {
						_, err := client.CallUnary(ctx, connect.NewRequest(wrapperspb.String(say)))
						return err
					}
				} else {
					c.procedure = "/shop.Cart/List"
					client := connect.NewClient[text, text](c.server.Client(), c.server.URL+c.procedure, p.options...)
					c.call = func(ctx context.Context, say string) error {
						s, err := client.CallServerStream(ctx, connect.NewRequest(wrapperspb.String(say)))
						if err != nil {
							return err
						}
						for s.Receive() {
						}
						return errors.Join(s.Err(), s.Close())
					}
				}
				test(t, c)
			})
		}
	}
}

// A client of each protocol gets the code, how long to wait, and the reason.
func TestRefusalOfConnect(t *testing.T) {
	eachCall(t, func(t *testing.T, c caller) {
		p, err := c.guard.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		err = c.call(t.Context(), "")
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
		if err := c.call(t.Context(), ""); err != nil {
			t.Errorf("with room: %v", err)
		}
	})
}

// The codes that OpenTelemetry counts as errors of a server are failures over each protocol, and no others.
func TestFailuresOfConnect(t *testing.T) {
	eachCall(t, func(t *testing.T, c caller) {
		failures := uint64(0)
		for code := connect.CodeCanceled; code <= connect.CodeUnauthenticated; code++ {
			if err := c.call(t.Context(), code.String()); connect.CodeOf(err) != code {
				t.Errorf("%s arrives as %v", code, err)
			}
			if guardhttp.GRPCFailed(int(code)) {
				failures++
			}
			free(t, c.guard)
			if got := c.guard.Snapshot().Failed; got != failures {
				t.Fatalf("%d failures after %s, want %d", got, code, failures)
			}
		}
		if failures != 6 {
			t.Errorf("%d codes are failures", failures)
		}
		if err := c.call(t.Context(), ""); err != nil {
			t.Error(err)
		}
		free(t, c.guard)
		if got := c.guard.Snapshot().Failed; got != failures {
			t.Errorf("a good call counts as a failure")
		}
	})
}

// The route is the procedure. A panic is a failure, a client that goes is none, and neither leaves a slot behind. A procedure
// that there is not is no route.
func TestCallsOfConnect(t *testing.T) {
	eachCall(t, func(t *testing.T, c caller) {
		if err := c.call(t.Context(), ""); err != nil {
			t.Error(err)
		}
		if all := c.routes.all; len(all) != 1 || all[0] != c.procedure {
			t.Errorf("routes %q, want %s", all, c.procedure)
		}
		if err := c.call(t.Context(), "panic"); err == nil {
			t.Error("no error from a handler that panics")
		}
		free(t, c.guard)
		before := c.guard.Snapshot()
		if before.Failed == 0 {
			t.Error("a panic is no failure")
		}
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		answered := make(chan error)
		go func() { answered <- c.call(ctx, "wait") }()
		<-c.waits
		cancel()
		if err := <-answered; connect.CodeOf(err) != connect.CodeCanceled {
			t.Errorf("%v", err)
		}
		free(t, c.guard)
		if now := c.guard.Snapshot(); now.Failed != before.Failed || now.Latency.Count != before.Latency.Count {
			t.Errorf("%d more failures, %d more latencies after a client has gone", now.Failed-before.Failed,
				now.Latency.Count-before.Latency.Count)
		}
		c.routes.all = nil
		resp, err := c.server.Client().Post(c.server.URL+"/shop.Cart/Steal", "application/json", strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if all := c.routes.all; resp.StatusCode != http.StatusNotFound || len(all) != 1 || all[0] != "" {
			t.Errorf("%s, routes %q", resp.Status, all)
		}
	})
}
