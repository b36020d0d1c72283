package main

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/emptypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-de83e32b/governor/actuators/guard/guardgrpc"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// requestTimeout is how long a tier waits for an answer, and for the head of a request.
const requestTimeout = time.Second

// call asks a dependency for a path, with a Guard-Context unless copied is "".
type call func(ctx context.Context, path, copied string) error

// dependency returns the way to call the service at address: through guard, or as most services do; without a guard on the
// way in, each call is sent once, as it is, for a sidecar to look after it.
func (t *tier) dependency(name, address string, patterns bool) (call, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	guarded := t.guard != nil && patterns
	var once call
	if u.Scheme == "grpc" {
		var options []grpc.DialOption
		if guarded {
			options = append(options, grpc.WithChainUnaryInterceptor(guardgrpc.UnaryClientInterceptor(t.guard.Dependency(name),
				guardgrpc.WithIdempotent(func(string) bool { return true }))))
		}
		if once, err = overGRPC(u.Host, options); err != nil {
			return nil, err
		}
	} else {
		base := http.DefaultTransport.(*http.Transport).Clone()
		base.MaxIdleConnsPerHost = 256
		var transport http.RoundTripper = base
		if t.old {
			transport = oldTransport{transport}
		}
		if guarded {
			transport = guardhttp.Transport(t.guard.Dependency(name), transport)
		}
		once = overHTTP(address, &http.Client{Transport: transport})
	}
	within := func(ctx context.Context, path, copied string) error {
		ctx, cancel := context.WithTimeout(ctx, requestTimeout)
		defer cancel()
		return once(ctx, path, copied)
	}
	if !patterns {
		return t.naive(name, within), nil
	}
	return within, nil
}

func overHTTP(base string, client *http.Client) call {
	return func(ctx context.Context, path, copied string) error {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+path, nil)
		if err != nil {
			return err
		}
		if copied != "" {
			r.Header.Set(guardhttp.ContextHeader, copied)
		}
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		if answer.StatusCode != http.StatusOK {
			return errors.New("the service called answered " + answer.Status)
		}
		return err
	}
}

const serveMethod = "/tier/Serve"

func overGRPC(address string, options []grpc.DialOption) (call, error) {
	conn, err := grpc.NewClient(address, append(options, grpc.WithTransportCredentials(insecure.NewCredentials()))...)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, path, _ string) error {
		return conn.Invoke(ctx, serveMethod, wrapperspb.String(path), &emptypb.Empty{})
	}, nil
}

// serviceDesc is the service of gRPC.
var serviceDesc = grpc.ServiceDesc{
	ServiceName: "tier", HandlerType: (*any)(nil),
	Methods: []grpc.MethodDesc{{MethodName: "Serve", Handler: serveGRPC}},
}

func serveGRPC(self any, ctx context.Context, decode func(any) error, intercept grpc.UnaryServerInterceptor) (any, error) {
	path := &wrapperspb.StringValue{}
	if err := decode(path); err != nil {
		return nil, err
	}
	handle := func(ctx context.Context, _ any) (any, error) {
		if err := self.(*tier).serve(ctx, path.Value, ""); err != nil {
			return nil, status.Error(codes.Unavailable, err.Error())
		}
		return &emptypb.Empty{}, nil
	}
	return intercept(ctx, path, &grpc.UnaryServerInfo{Server: self, FullMethod: serveMethod}, handle)
}

// naive calls as most services do: three attempts with backoff and jitter.
func (t *tier) naive(name string, once call) call {
	attempts := prometheus.NewCounter(prometheus.CounterOpts{
		Name: "tier_attempts_total", Help: "Attempts of calls.", ConstLabels: prometheus.Labels{"to": name},
	})
	t.registry.MustRegister(attempts)
	return func(ctx context.Context, path, copied string) (err error) {
		for n := range 3 {
			if n > 0 {
				select {
				case <-ctx.Done():
					return ctx.Err()
				case <-time.After(rand.N(100 * time.Millisecond << (n - 1))):
				}
			}
			attempts.Inc()
			if err = once(ctx, path, copied); err == nil {
				return nil
			}
		}
		return err
	}
}
