package guardhttp_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// A guarded server in five lines.
func Example() {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	handler := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "paid")
	}))

	server := httptest.NewServer(handler) // http.ListenAndServe(":8080", handler)
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Health checks and scrapes pass a full service; the criticality comes from the route, the tenant
// from what the edge has found out.
func ExampleNew_options() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 20, Max: 400})
	handler := guardhttp.New(g, http.NotFoundHandler(),
		guardhttp.WithBypass(func(r *http.Request) bool {
			return r.URL.Path == "/healthy" || r.URL.Path == "/metrics"
		}),
		guardhttp.WithCriticality(func(r *http.Request) guard.Criticality {
			if r.URL.Path == "/pay" {
				return guard.Critical
			}
			return guard.Default
		}),
		guardhttp.WithKey(func(r *http.Request) string {
			return r.Header.Get("X-Tenant-Id") // set by the edge, which has authenticated the tenant
		}),
	)

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/pay", nil))
	fmt.Println(w.Code, g.Snapshot().Admitted[guard.Critical])
	// Output: 404 1
}

// A route with an SLO of its own has a compartment: its requests count against a limit of their own, under one roof with the
// others.
func ExampleNew_routes() {
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond,
		Routes: map[string]guard.Route{"export": {SLO: 10 * time.Second}},
	})
	if err != nil {
		log.Fatal(err)
	}
	handler := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "done") }))

	for _, path := range []string{"/export/2025.csv", "/search?q=apples", "/search?q=pears"} {
		handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
	}
	rest, export := g.Snapshot(), g.Snapshot().Routes[0]
	fmt.Println(rest.Service, rest.Admitted[guard.Default])
	fmt.Println(export.Service, export.Admitted[guard.Default])
	// Output:
	// checkout 2
	// checkout/export 1
}

// Calls to a dependency through deadline, retry, breaker and bulkhead. The handler makes them with the context of its
// request, and has a fallback for what is refused here.
func ExampleTransport() {
	payments := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprint(w, "paid")
	}))
	defer payments.Close()

	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)}
	checkout := httptest.NewServer(guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, payments.URL, nil)
		resp, err := client.Do(req)
		if refusal, ok := errors.AsType[*guard.CallRefusal](err); ok {
			fmt.Fprintf(w, "we charge you later (%s)", refusal.Reason())
			return
		} else if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	})))
	defer checkout.Close()

	resp, err := http.Get(checkout.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	fmt.Println(resp.StatusCode, string(body))
	// Output: 200 paid
}

// With known instances the transport chooses one for each attempt, leaves out those that fail, and tries what one
// refuses once on another.
func ExampleWithInstances() {
	instance := func(status int) *httptest.Server {
		return httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if status == http.StatusServiceUnavailable {
				w.Header().Set(guardhttp.RefusedHeader, "concurrency")
			}
			w.WriteHeader(status)
		}))
	}
	full, free := instance(http.StatusServiceUnavailable), instance(http.StatusOK)
	defer full.Close()
	defer free.Close()
	addresses := []string{full.Listener.Addr().String(), free.Listener.Addr().String()}

	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil,
		guardhttp.WithInstances(func() []string { return addresses }))}
	for range 10 {
		resp, err := client.Post("http://payments/pay", "text/plain", nil)
		if err != nil {
			log.Fatal(err)
		}
		resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			fmt.Println(resp.Status)
		}
	}
	fmt.Println("paid ten times")
	// Output: paid ten times
}

// A call without time left is refused before anything is sent.
func ExampleTransport_deadline() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	transport := guardhttp.Transport(g.Dependency("payments"), nil)
	ctx, cancel := context.WithTimeout(context.Background(), 0)
	defer cancel()
	req, _ := http.NewRequestWithContext(ctx, http.MethodGet, "http://payments/pay", nil)

	_, err := transport.RoundTrip(req)
	fmt.Println(err)
	// Output:
	// guard: call to payments not sent: the deadline has passed or is too near for an answer; give the call more time, or answer without it
}

// Backoff: a request that meets a restart is sent again, after a random wait of up to 100 ms.
func ExampleTransport_retry() {
	var attempts atomic.Int32
	payments := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if attempts.Add(1) == 1 {
			w.WriteHeader(http.StatusServiceUnavailable) // it restarts
		}
	}))
	defer payments.Close()
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	client := &http.Client{
		Transport: guardhttp.Transport(g.Dependency("payments"), nil),
		Timeout:   2 * time.Second, // of all attempts together: no retry comes too late
	}

	charge := func(ctx context.Context, order string) (*http.Response, error) {
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, payments.URL, strings.NewReader("12.50 EUR"))
		if err != nil {
			return nil, err
		}
		req.Header.Set("Idempotency-Key", order) // payments executes an order once, so a POST may be retried
		return client.Do(req)
	}

	resp, err := charge(context.Background(), "order-4711")
	if err != nil {
		log.Fatal(err)
	}
	resp.Body.Close()
	fmt.Println(resp.Status, "after", attempts.Load(), "attempts")
	// Output: 200 OK after 2 attempts
}

// Breaker: after 50 failures in a row, over two seconds, the calls are not sent any more.
func ExampleTransport_breaker() {
	payments := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusInternalServerError)
	}))
	defer payments.Close()
	now := time.Now()
	g, _ := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond,
		Now: func() time.Time { return now },
	})
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)}

	price := func() string {
		resp, err := client.Get(payments.URL)
		if errors.Is(err, guard.ErrBreakerOpen) {
			return "the price of yesterday" // nothing was sent, and a retry is useless for now
		}
		if err != nil {
			return err.Error()
		}
		defer resp.Body.Close()
		return resp.Status
	}

	for range 50 {
		now = now.Add(50 * time.Millisecond) // 20 calls a second
		price()
	}
	fmt.Println(price())
	// Output: the price of yesterday
}

// Bulkhead: calls that hang take a part of the service, and the next one is refused at once.
func ExampleTransport_bulkhead() {
	hang := make(chan struct{})
	payments := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer payments.Close()
	defer close(hang)
	now := time.Now()
	g, _ := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Fallback: 20,
		Now: func() time.Time { return now }, // stands still, so that the limit does, too
	})
	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)}

	buy := func(w http.ResponseWriter, r *http.Request) {
		req, _ := http.NewRequestWithContext(r.Context(), http.MethodGet, payments.URL, nil)
		resp, err := client.Do(req)
		if errors.Is(err, guard.ErrBulkhead) {
			fmt.Fprint(w, "we charge you later") // nothing was sent
			return
		}
		if err != nil {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		defer resp.Body.Close()
		_, _ = io.Copy(w, resp.Body)
	}

	checkout := guardhttp.New(g, http.HandlerFunc(buy))
	get := func() string {
		w := httptest.NewRecorder()
		checkout.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/buy", nil))
		return w.Body.String()
	}
	for range 10 {
		go get()
	}
	for g.Snapshot().Calls[0].InFlight < 10 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println(get())
	// Output: we charge you later
}
