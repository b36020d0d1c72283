package guardhttp_test

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// withExport is a guard with a limit of its own for the route export.
func withExport(t *testing.T) *guard.Guard {
	t.Helper()
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 2, Max: 2, MaxEndless: 5,
		Routes: map[string]guard.Route{"export": {SLO: 10 * time.Second, Min: 2, Max: 2}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// Requests belong to a route by the first segment of their path, or by the name that WithRoute gives them.
func TestRequestsOfARoute(t *testing.T) {
	serves := func(path string, options ...guardhttp.Option) (rest, export uint64) {
		g := withExport(t)
		h := guardhttp.New(g, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), options...)
		h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		s := g.Snapshot()
		return s.Admitted[guard.Default], s.Routes[0].Admitted[guard.Default]
	}
	for path, want := range map[string]uint64{
		"/export": 1, "/export/": 1, "/export/7?all=1": 1, "//export": 1, "/./export/x": 1, "/exports": 0, "/v1/export": 0, "/": 0,
	} {
		if rest, export := serves(path); export != want || rest != 1-want {
			t.Errorf("%s: %d and %d", path, rest, export)
		}
	}
	named := guardhttp.WithRoute(func(r *http.Request) string { return "/" + strings.TrimPrefix(r.URL.Path, "/v1/") })
	if rest, export := serves("/v1/export", named); rest != 0 || export != 1 {
		t.Errorf("named: %d and %d", rest, export)
	}
	if rest, export := serves("/export", guardhttp.WithBypass(func(*http.Request) bool { return true })); rest+export > 0 {
		t.Errorf("bypassed: %d and %d", rest, export)
	}
}

// piped is a writer whose connection can be taken over.
type piped struct{ *httptest.ResponseRecorder }

func (piped) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	here, there := net.Pipe()
	there.Close()
	return here, nil, nil
}

// However a request of a route ends, its slots come back, that of the roof too.
func TestSlotsOfARouteComeBack(t *testing.T) {
	g := withExport(t)
	h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/export/panic":
			panic("boom")
		case "/export/hijack":
			if _, _, err := http.NewResponseController(w).Hijack(); err != nil {
				t.Error(err)
			}
			if s := g.Snapshot(); s.Roof.InFlight != 0 || s.Routes[0].EndlessDeclared != 1 {
				t.Errorf("hijacked: %d under the roof", s.Roof.InFlight)
			}
		case "/export/live":
			if s := g.Snapshot(); s.Roof.InFlight != 0 || s.Routes[0].EndlessDeclared != 1 {
				t.Errorf("endless: %d under the roof", s.Roof.InFlight)
			}
		}
	}), guardhttp.WithEndless(func(r *http.Request) bool { return r.URL.Path == "/export/live" }))
	for _, path := range []string{"/export/panic", "/export/hijack", "/export/live", "/export"} {
		func() {
			defer func() { _ = recover() }()
			h.ServeHTTP(piped{httptest.NewRecorder()}, httptest.NewRequest(http.MethodGet, path, nil))
		}()
		s := g.Snapshot()
		if of := s.Routes[0]; s.Roof.InFlight != 0 || of.InFlight+of.EndlessDeclared != 0 || s.DoubleReleases+of.DoubleReleases != 0 {
			t.Errorf("%s: %d under the roof, %d of the route", path, s.Roof.InFlight, of.InFlight)
		}
	}
	if s := g.Snapshot(); s.Routes[0].Failed != 1 || s.Admitted[guard.Default] != 0 {
		t.Errorf("%d failed, %d of the service", s.Routes[0].Failed, s.Admitted[guard.Default])
	}
}

// The load report is of all routes together: to a load balancer, the instance is one.
func TestLoadReportOfARoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { // all of it in the first second
		g := withExport(t)
		h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w) }), guardhttp.WithLoadReport())
		for range 2 {
			if _, err := g.Admit(t.Context(), guard.Arrival{Route: "/export"}); err != nil {
				t.Fatal(err)
			}
		}
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/cart", nil))
		if got := w.Header().Get(guardhttp.LoadReportHeader); got != "TEXT application_utilization=0.75" {
			t.Errorf("three of four: %q", got)
		}
	})
}

// How long an answer may go on before it counts as endless is a matter of the route's SLO, not of the service's.
func TestLongAnswersOfASlackRoute(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := withExport(t)
		h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			for range 8 {
				fmt.Fprintln(w, "a part")
				_ = http.NewResponseController(w).Flush()
				time.Sleep(time.Second)
			}
		}))
		for _, path := range []string{"/export", "/cart"} {
			h.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, path, nil))
		}
		s := g.Snapshot()
		if of := s.Routes[0]; of.EndlessDeclaredTotal != 0 || of.Latency.Count != 1 || s.EndlessDeclaredTotal != 1 || s.Latency.Count != 0 {
			t.Errorf("declared %d of the route, %d of the service", of.EndlessDeclaredTotal, s.EndlessDeclaredTotal)
		}
	})
}
