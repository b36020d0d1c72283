package guard

import (
	"context"
	"errors"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// withExport is a guard with the route export, whose clock stands still.
func withExport(t *testing.T, c Config) *Guard {
	t.Helper()
	c.Routes = map[string]Route{"export": {SLO: 10 * time.Second, ShedThreshold: c.ShedThreshold}}
	return simGuard(t, c)
}

// holds checks how many slots are taken under the roof, of the service and of the route export.
func (g *Guard) holds(t *testing.T, when string, roof, rest, export int) {
	t.Helper()
	s := g.SnapshotAt(epoch)
	if s.Roof.InFlight != roof || s.InFlight != rest || s.Routes[0].InFlight != export {
		t.Errorf("%s: %d under the roof, %d and %d; want %d, %d, %d", when, s.Roof.InFlight, s.InFlight, s.Routes[0].InFlight, roof,
			rest, export)
	}
}

// A slot of a route is one of the roof, however the request gives it back.
func TestSlotsOfARouteAreOfTheRoof(t *testing.T) {
	g := withExport(t, Config{})
	admit := func(route string) Permit {
		p, err := g.AdmitAt(epoch, Arrival{Route: route})
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	other, p := admit("/search"), admit("/export")
	g.holds(t, "admitted", 2, 1, 1)
	if p.SLO() != 10*time.Second || other.SLO() != g.SLO() || (Permit{}).SLO() != 0 {
		t.Errorf("SLOs %v, %v", p.SLO(), other.SLO())
	}
	p.PauseAt(epoch)
	g.holds(t, "paused", 1, 1, 0)
	p.ResumeAt(epoch)
	g.holds(t, "resumed", 2, 1, 1)
	p.ReleaseAt(epoch, Success)
	p.ReleaseAt(epoch, Success)
	g.holds(t, "released twice", 1, 1, 0)
	if s := g.SnapshotAt(epoch); s.DoubleReleases != 0 || s.Routes[0].DoubleReleases != 1 {
		t.Errorf("%d and %d double releases", s.DoubleReleases, s.Routes[0].DoubleReleases)
	}
	p = admit("/export")
	p.EndlessAt(epoch)
	g.holds(t, "endless", 1, 1, 0)
	p.ReleaseAt(epoch, Ignored)
	p = admit("/export")
	p.PauseAt(epoch)
	p.EndlessAt(epoch)
	p.ReleaseAt(epoch, Ignored)
	g.holds(t, "endless after a pause", 1, 1, 0)
	other.ReleaseAt(epoch, Success)
	g.holds(t, "over", 0, 0, 0)

	// A request that resumes takes its slot even above all limits; nobody is admitted until enough have left.
	g.roof.gate.setLimit(0, 1)
	p = admit("/export")
	p.PauseAt(epoch)
	other = admit("")
	p.ResumeAt(epoch)
	g.holds(t, "resumed above the limit", 2, 1, 1)
	for range 2 {
		if _, err := g.AdmitAt(epoch, Arrival{}); !errors.Is(err, ErrRoof) {
			t.Errorf("admitted: %v", err)
		}
		p.ReleaseAt(epoch, Success)
	}
	other.ReleaseAt(epoch, Success)
	g.holds(t, "in the end", 0, 0, 0)
}

// What is found to be endless, by the SLO of its route, gives its slots back to the roof.
func TestEndlessOfARouteLeaveTheRoof(t *testing.T) {
	g := withExport(t, Config{})
	for i := range 20 {
		p, err := g.AdmitAt(epoch, Arrival{Route: "/export"})
		if err != nil {
			t.Fatal(err)
		}
		if i < 17 {
			p.ReleaseAt(epoch.Add(time.Second), Success)
		}
	}
	at := func(d time.Duration) Snapshot { return g.SnapshotAt(epoch.Add(d)) }
	for d := time.Second; d < 99*time.Second; d += time.Second {
		if s := at(d); s.Roof.InFlight != 3 {
			t.Fatalf("after %v: %d under the roof", d, s.Roof.InFlight)
		}
	}
	for d := 99 * time.Second; d < 120*time.Second; d += time.Second {
		at(d)
	}
	if s := at(120 * time.Second); s.Roof.InFlight != 0 || s.Routes[0].EndlessFound != 3 || s.EndlessFound != 0 {
		t.Errorf("%d under the roof, %d found", s.Roof.InFlight, s.Routes[0].EndlessFound)
	}
}

// MaxEndless bounds the requests without end of all compartments together. A refusal is counted where the request belongs.
func TestMaxEndlessIsOfAllCompartments(t *testing.T) {
	g := withExport(t, Config{MaxEndless: 2})
	for _, route := range []string{"/live", "/export"} {
		p, err := g.AdmitEndless(context.Background(), Arrival{Route: route})
		if err != nil {
			t.Fatal(err)
		}
		p.EndlessAt(epoch)
	}
	for _, route := range []string{"/live", "/export", "/export"} {
		if _, err := g.AdmitEndless(context.Background(), Arrival{Route: route}); !errors.Is(err, ErrEndless) {
			t.Errorf("%s: %v", route, err)
		}
	}
	s := g.SnapshotAt(epoch)
	if rest, export := s.Refused["endless"][Critical], s.Routes[0].Refused["endless"][Critical]; rest != 1 || export != 2 {
		t.Errorf("refused %d and %d", rest, export)
	}
}

// A request of a route is one of the service to its dependencies: the API has the name of the service, the bulkhead is shared,
// the time of calls is not the route's, and a dependency without room makes the work of all routes less.
func TestCallsOfARoute(t *testing.T) {
	g := withExport(t, Config{})
	d := g.Dependency("payments", MaxCalls(1))
	p, err := g.AdmitAt(epoch, Arrival{Criticality: Sheddable, Key: "alice", Route: "/export"})
	if err != nil {
		t.Fatal(err)
	}
	ctx := NewContext(context.Background(), p)
	if a, ok := OriginOf(ctx); !ok || a.Entry != "checkout/export" || a.Key != "alice" || a.Criticality != Sheddable || !a.Rank.Drawn {
		t.Errorf("origin %+v, %v", a, ok)
	}
	attempt, err := func() (Attempt, error) {
		c := d.StartAt(ctx, epoch, CallOptions{})
		return c.TryAt(epoch, "a")
	}()
	if err != nil {
		t.Fatal(err)
	}
	if !Optional(ctx) {
		t.Error("no optional work, though there is room everywhere")
	}
	second := d.StartAt(ctx, epoch, CallOptions{})
	if _, err := second.TryAt(epoch, "a"); !errors.Is(err, ErrBulkhead) {
		t.Fatalf("a second call: %v", err)
	}
	second.GiveUpAt(epoch)
	if Optional(ctx) || g.OptionalAt(epoch) {
		t.Error("optional work, though a dependency had no room")
	}
	attempt.DoneAt(epoch.Add(3*time.Second), Result{Outcome: Success})
	p.ReleaseAt(epoch.Add(4*time.Second), Success)
	s := g.SnapshotAt(epoch.Add(4 * time.Second))
	of := s.Routes[0]
	if of.Latency.Count != 1 || math.Abs(of.Latency.Sum-4) > 1e-9 || math.Abs(of.Latency.Waited-3) > 1e-9 || s.Latency.Count != 0 {
		t.Errorf("latency %+v of the route, %d of the others", of.Latency, s.Latency.Count)
	}
	if len(s.Calls) != 1 || len(of.Calls) != 0 {
		t.Errorf("%d calls of the service, %d of the route", len(s.Calls), len(of.Calls))
	}
}

// While the roof is nearly full there is no room for optional work in any route, however empty its own compartment is.
func TestOptionalUnderARoof(t *testing.T) {
	g := withExport(t, Config{})
	g.SnapshotAt(epoch)
	g.roof.gate.setLimit(0, 100)
	part := g.compartment("export")
	for range 85 {
		part.gate.enterAnyway(0)
	}
	g.gate.setLimit(0, 1000)
	if !g.OptionalAt(epoch) {
		t.Error("at 85%: no")
	}
	part.gate.enterAnyway(0)
	if g.OptionalAt(epoch) {
		t.Error("above 85%: yes")
	}
}

// Advice is that of the compartment: its threshold, and its hint not to retry.
func TestAdviceOfARoute(t *testing.T) {
	g := withExport(t, Config{ShedThreshold: 0.6})
	part := g.compartment("export")
	p, err := g.AdmitAt(epoch, Arrival{Route: "/export"})
	if err != nil {
		t.Fatal(err)
	}
	other, err := g.AdmitAt(epoch, Arrival{})
	if err != nil {
		t.Fatal(err)
	}
	part.gate.setLimit(0, 1)
	for i := range 200 {
		AdviceAt(NewContext(context.Background(), p), epoch.Add(time.Duration(i)*10*time.Millisecond))
	}
	now := epoch.Add(2 * time.Second)
	if a := AdviceAt(NewContext(context.Background(), p), now); a.Threshold == 0 {
		t.Error("the answer of a full route has no threshold")
	}
	if a := AdviceAt(NewContext(context.Background(), other), now); a.Threshold > 0 {
		t.Errorf("the answer of another has the threshold %x", a.Threshold)
	}
	for i := range 11 {
		at := now.Add(time.Duration(i) * 100 * time.Millisecond)
		if a := g.RefusalAdviceAt(at, Arrival{Route: "/export"}); a.NoRetry != (i == 10) {
			t.Errorf("refusal %d: %+v", i, a)
		}
	}
	if a := g.RefusalAdviceAt(now.Add(time.Second), Arrival{}); a.NoRetry {
		t.Error("the first refusal of another says not to retry")
	}
}

// Load, which load balancers are told, is that of the whole service.
func TestLoadIsThatOfTheRoof(t *testing.T) {
	g := withExport(t, Config{})
	for _, route := range []string{"", "/export", "/export"} {
		if _, err := g.AdmitAt(epoch, Arrival{Route: route}); err != nil {
			t.Fatal(err)
		}
	}
	if inFlight, limit := g.Load(); inFlight != 3 || limit != g.SnapshotAt(epoch).Roof.Limit {
		t.Errorf("%d of %d", inFlight, limit)
	}
}

// parts delivers one Setting for each part.
type parts map[actuators.Part][]byte

func (p parts) Watch(ctx context.Context, _ string, _ func([]byte)) error { return ctx.Err() }

func (p parts) WatchParts(ctx context.Context, _ string, apply func(actuators.Part, []byte)) error {
	for part, raw := range p {
		apply(part, raw)
	}
	<-ctx.Done()
	return nil
}

// Each route has a cache file of its own. After a restart the roof is as high as the cached limits together, not as the
// fallbacks: otherwise it would refuse what fitted before.
func TestCacheFilesOfRoutes(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cache")
	config := Config{Service: "checkout", SLO: 300 * time.Millisecond, CacheFile: file, Fallback: 8, Routes: map[string]Route{
		"export": {SLO: 10 * time.Second, Fallback: 8},
	}}
	g := newGuard(t, config)
	store := parts{}
	for limit, part := range map[int]actuators.Part{60: {}, 70: {Route: "export"}, 80: {Route: "gone"}} {
		store[part] = settingOf(func(s *actuators.Setting) {
			s.Concurrency.Limit = limit
			if part.Route != "" {
				s.Service += "/" + part.Route
			}
		})
	}
	ctx, stop := context.WithCancel(t.Context())
	over := make(chan error)
	go func() { over <- g.Run(ctx, store) }()
	for _, name := range []string{file, file + ".routes.export"} {
		waittest.Until(t, name, func() bool { _, err := os.Stat(name); return err == nil })
	}
	stop()
	if err := <-over; err != nil {
		t.Error(err)
	}
	again := newGuard(t, config).Snapshot()
	if again.Limit != 60 || again.Routes[0].Limit != 70 || again.Roof.Limit != 130 {
		t.Errorf("limits %d and %d, roof %d", again.Limit, again.Routes[0].Limit, again.Roof.Limit)
	}
}

// The requests of a route are those named after it, or those that it lists.
func TestRequestsOfRoutes(t *testing.T) {
	g := simGuard(t, Config{Routes: map[string]Route{
		"export": {SLO: 10 * time.Second}, "feed": {SLO: time.Second, Requests: []string{"/news", "/blog"}},
	}})
	for route, want := range map[string]string{
		"": "checkout", "/": "checkout", "/feed": "checkout", "/export/": "checkout", "/exports": "checkout", "export": "checkout",
		"/export": "checkout/export", "/news": "checkout/feed", "/blog": "checkout/feed",
	} {
		if got := g.compartmentOf(route).cfg.Service; got != want {
			t.Errorf("%q: %s, want %s", route, got, want)
		}
	}
}

// A route whose name is misspelled never has a request. After some minutes of others that shows in the log, once, with the names
// that the others have.
func TestRouteWithoutRequestsIsReported(t *testing.T) {
	for name, tc := range map[string]struct {
		ask  []string
		want string
	}{
		"misspelled":  {[]string{"/export", "/buy", "/export", ""}, `others="[/export /buy]"`},
		"never asked": {nil, ""},
		"found":       {[]string{"/export", "/exprot"}, ""},
		"alone":       {[]string{"/exprot"}, ""},
	} {
		logged := &waittest.Buffer{}
		g := simGuard(t, Config{Logger: slog.New(slog.NewTextHandler(logged, nil)), Routes: map[string]Route{"exprot": {SLO: time.Second}}})
		for at := time.Duration(0); at < 20*time.Minute; at += time.Minute {
			if at < strangersFor && logged.Len() > 0 {
				t.Errorf("%s: after %v: %s", name, at, logged)
			}
			for _, route := range tc.ask {
				p, err := g.AdmitAt(epoch.Add(at), Arrival{Route: route})
				if err != nil {
					t.Fatal(err)
				}
				p.ReleaseAt(epoch.Add(at), Success)
			}
			g.SnapshotAt(epoch.Add(at))
			g.roof.tick(at)
		}
		lines := strings.Count(logged.String(), "route=exprot requests=[/exprot]")
		if want := min(len(tc.want), 1); lines != want || !strings.Contains(logged.String(), tc.want) {
			t.Errorf("%s: %d lines, want %d with %s:\n%s", name, lines, want, tc.want, logged)
		}
	}
}

func TestErrorsOfRoutes(t *testing.T) {
	many := map[string]Route{}
	for i := range actuators.MaxRoutes + 1 {
		many["r"+strings.Repeat("x", i)] = Route{SLO: time.Second}
	}
	for want, routes := range map[string]map[string]Route{
		`Routes["a/b"]: expected a service name`:                               {"a/b": {SLO: time.Second}},
		`Routes["a"]: Weight -1 is outside 0.001..1000`:                        {"a": {SLO: time.Second, Weight: -1}},
		`Routes["a"]: Weight NaN`:                                              {"a": {SLO: time.Second, Weight: math.NaN()}},
		`Routes["a"]: Weight +Inf`:                                             {"a": {SLO: time.Second, Weight: math.Inf(1)}},
		`Routes["a"]: Weight 5e-324`:                                           {"a": {SLO: time.Second, Weight: 5e-324}},
		`Routes["b"]: Weight is the only one`:                                  {"a": {SLO: time.Second}, "b": {SLO: time.Second, Weight: 3}},
		`Routes["a"]: Requests is empty`:                                       {"a": {SLO: time.Second, Requests: []string{}}},
		`Routes["a"]: Requests has ""`:                                         {"a": {SLO: time.Second, Requests: []string{"/a", ""}}},
		`Routes["a"]: Requests has "/b" twice`:                                 {"a": {SLO: time.Second, Requests: []string{"/b", "/c", "/b"}}},
		`SLO 0s is outside`:                                                    {"a": {}},
		`Routes["b"]: its requests "/a" are those of Routes["a"], too`:         {"a": {SLO: 1e9}, "b": {SLO: 1e9, Requests: []string{"/a"}}},
		`Min 9 is above Max 8`:                                                 {"a": {SLO: time.Second, Min: 9, Max: 8}},
		`Routes: 33; expected at most 32`:                                      many,
		`guard: config of service "checkout": Routes["a"]: SLO 1ns is outside`: {"a": {SLO: time.Nanosecond}},
		"Routes[\"a\"]: SLO 0s is outside 1ms..1h: give the latency objective of the service\nRoutes[\"a\"]: Min -1 is outside": {
			"a": {Min: -1},
		},
	} {
		if _, err := New(Config{Service: "checkout", SLO: time.Second, Routes: routes}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	for want, weight := range map[string]float64{
		`: Weight is the only one`:                  2,
		`: Weight -0.5 is outside 0.001..1000`:      -0.5,
		`: Weight 1001 is outside 0.001..1000`:      1001,
		`: Weight NaN is outside 0.001..1000: give`: math.NaN(),
	} {
		_, err := New(Config{Service: "checkout", SLO: time.Second, Weight: weight})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	g := withExport(t, Config{})
	if err := g.ApplyRouteAt(epoch, "exprot", nil); err == nil || !strings.Contains(err.Error(), `route "exprot" of service "checkout"`) {
		t.Errorf("a setting for a route that there is not: %v", err)
	}
}
