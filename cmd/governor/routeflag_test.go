package main

import (
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func TestRouteSLOIsRead(t *testing.T) {
	var f routeFlag
	for _, text := range []string{"export=10s", "search=400ms,weight=2.5,min=2,max=50,fallback=20"} {
		if err := f.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	want := routeFlag{
		"export": {SLO: 10 * time.Second},
		"search": {SLO: 400 * time.Millisecond, Weight: 2.5, Min: 2, Max: 50, Fallback: 20},
	}
	if !reflect.DeepEqual(f, want) || f.String() != "export,search" {
		t.Errorf("%v: %+v, want %+v", &f, f, want)
	}
	if _, err := guard.New(guard.Config{Service: "checkout", SLO: time.Second, Weight: 1, Routes: f}); err != nil {
		t.Error(err)
	}
}

func TestRouteSLOErrorsNameTheBadPart(t *testing.T) {
	for text, want := range map[string]string{
		"export":                          routeSyntax,
		"=10s":                            "NAME: expected",
		"/export=10s":                     "without the slash, export",
		"a/b=10s":                         "NAME: expected",
		"export=10":                       `SLO "10": expected 1ms to 1h`,
		"export=2h":                       `SLO "2h": expected 1ms to 1h`,
		"export=,weight=2":                `SLO "": expected`,
		"export=10s,":                     `OPTION "": expected ` + routeOptions,
		"export=10s,wieght=2":             `OPTION "wieght=2": expected ` + routeOptions,
		"export=10s,weight":               `weight "": expected a number from 0.001`,
		"export=10s,weight=0":             `weight "0": expected a number from 0.001`,
		"export=10s,weight=NaN":           `weight "NaN": expected a number from 0.001`,
		"export=10s,weight=1e999":         `weight "1e999": expected a number from 0.001`,
		"export=10s,weight=-1":            `weight "-1": expected a number from 0.001`,
		"export=10s,weight=1001":          `weight "1001": expected a number from 0.001`,
		"export=10s,weight=1,weight=2":    "weight: expected it once",
		"export=10s,min=0":                `min "0": expected a number of requests`,
		"export=10s,max=many":             `max "many": expected a number of requests`,
		"export=10s,min=9,max=8":          "min=9: expected at most max=8",
		"export=10s,max=8,fallback=9":     "fallback=9: expected 0, or a limit from min to max, here 1 to 8",
		"export=10s,fallback=99999999999": `fallback "99999999999": expected a number of requests`,
	} {
		var f routeFlag
		if err := f.Set(text); err == nil || !strings.Contains(err.Error(), want) || len(f) > 0 {
			t.Errorf("%s: %v, want an error with %q", text, err, want)
		}
	}
	f := routeFlag{"export": {}}
	if err := f.Set("export=10s"); err == nil || !strings.Contains(err.Error(), "one --route-slo for each route") {
		t.Errorf("twice: %v", err)
	}
}

// pool is a service that does eight requests at a time, which take 40 ms on average; the others wait in a queue.
func pool() http.HandlerFunc {
	places, random := make(chan struct{}, 8), make(chan *rand.Rand, 1)
	random <- rand.New(rand.NewPCG(1, 2))
	return func(http.ResponseWriter, *http.Request) {
		places <- struct{}{}
		rng := <-random
		took := time.Duration(rng.ExpFloat64() * float64(40*time.Millisecond))
		random <- rng
		time.Sleep(took)
		<-places
	}
}

type answer struct {
	path    string
	refused bool
}

// flood sends three quarters of what the pool can do to checkout, first beside a tenth for export, then beside three times as
// much as it can do, each for a minute. It returns which share of both the sidecar refuses at the end.
func flood(t *testing.T, routes ...string) (checkout, export float64) {
	t.Helper()
	o := sidecarOptions{guard: guard.Config{Service: "checkout", SLO: 300 * time.Millisecond}}
	o.edgeOptions.routes = []string{"/api/v1/export/*=/export"}
	for _, text := range routes {
		if err := o.routes.Set(text); err != nil {
			t.Fatal(err)
		}
	}
	o.guard.Routes = o.routes.with(0)
	g, err := guard.New(o.guard)
	if err != nil {
		t.Fatal(err)
	}
	p := &ports{options: &o.edgeOptions, log: slog.New(slog.DiscardHandler)}
	handler, err := p.handler(g, pool())
	if err != nil {
		t.Fatal(err)
	}
	answers := make(chan answer, 1<<16)
	var clients sync.WaitGroup
	send := func(path string, perSecond [2]float64) {
		rng, start := rand.New(rand.NewPCG(uint64(len(path)), 4)), time.Now()
		for time.Since(start) < 2*time.Minute {
			rate := perSecond[int(time.Since(start)/time.Minute)]
			time.Sleep(time.Duration(rng.ExpFloat64() * float64(time.Second) / rate))
			late := time.Since(start) > 90*time.Second
			clients.Go(func() {
				w := httptest.NewRecorder()
				handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
				if late {
					answers <- answer{path, w.Code != http.StatusOK}
				}
			})
		}
	}
	clients.Go(func() { send("/cart", [2]float64{150, 150}) })
	clients.Go(func() { send("/api/v1/export/1", [2]float64{20, 600}) })
	clients.Wait()
	close(answers)
	all, refused := map[string]float64{}, map[string]float64{}
	for a := range answers {
		all[a.path]++
		if a.refused {
			refused[a.path]++
		}
	}
	return refused["/cart"] / all["/cart"], refused["/api/v1/export/1"] / all["/api/v1/export/1"]
}

// With --route-slo, a flood of a route that may take its time takes little from the requests beside it. Without, it gets a
// fair share, at their expense.
func TestSidecarRefusesTheSlackRouteFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		checkout, export := flood(t, "export=10s")
		t.Logf("refused: %.3f of checkout, %.3f of export", checkout, export)
		if checkout > 0.22 || export < 0.6 {
			t.Error("expected at most 0.22 and at least 0.6")
		}
		checkout, export = flood(t)
		t.Logf("without --route-slo: %.3f of checkout, %.3f of export", checkout, export)
		if checkout < 0.35 {
			t.Error("too little load to show anything: expected at least 0.35 of checkout")
		}
	})
}

// The settings of a route come from its folder, its metrics have its name, and its last setting has a file beside that of the
// service.
func TestSidecarWithRoutes(t *testing.T) {
	dir := t.TempDir()
	for _, of := range []string{"checkout", "checkout/export"} {
		limit := 40 + len(of)
		s := actuators.Setting{
			Schema: 1, Service: of, Epoch: 1, Revision: 1, LeaseSeconds: 180, Reason: "test",
			Concurrency: &actuators.Concurrency{
				Limit: limit, Ceiling: limit, LatencyTargetSeconds: 1, Fallback: limit, Min: 1, Max: 100,
			},
		}
		raw, err := s.Encode()
		if err != nil {
			t.Fatal(err)
		}
		service, route := actuators.SplitCompartment(of)
		name := filepath.Join(dir, service, "setting")
		if route != "" {
			name = filepath.Join(dir, service, "routes", route, "setting")
		}
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, raw, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	cache := filepath.Join(t.TempDir(), "cache")
	p := sidecarWith(t, target(t, func(http.ResponseWriter, *http.Request) {}), "--limit.max=100", "--setting-file="+dir,
		"--cache-file="+cache, "--shed-threshold=0.7", "--route=/v1/export/*=/export", "--route-slo=export=10s,max=60", "--route-slo=search=1s")
	for _, path := range []string{"/cart", "/v1/export/1", "/export/2", "/search"} {
		if status, _, body := fetch(t, request(t, "http://"+p.listen+path)); status != http.StatusOK {
			t.Errorf("%s: %d: %s", path, status, body)
		}
	}
	for of, want := range map[string]string{"checkout": "1", "checkout/export": "2", "checkout/search": "1"} {
		name := fmt.Sprintf(`guard_admitted_total{criticality="default",service=%q}`, of)
		if got := p.metric(t, name); got != want {
			t.Errorf("%s %s, want %s", name, got, want)
		}
	}
	for _, of := range []string{"checkout", "checkout/export"} {
		if got := p.metric(t, fmt.Sprintf("guard_shed_threshold{service=%q}", of)); got != "0.7" {
			t.Errorf("%s: a shed threshold of %s", of, got)
		}
	}
	for of, want := range map[string]string{"checkout": "48", "checkout/export": "55"} {
		waittest.Until(t, "the setting of "+of, func() bool { return p.metric(t, fmt.Sprintf("guard_limit{service=%q}", of)) == want })
	}
	for _, name := range []string{cache, cache + ".routes.export"} {
		waittest.Until(t, name, func() bool { _, err := os.Stat(name); return err == nil })
	}
}
