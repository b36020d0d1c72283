package simulate

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded/prom"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/signals"
)

// inProcess is a server in this process as a transport, so that time is that of synctest.
type inProcess struct{ http.Handler }

func (p inProcess) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	p.ServeHTTP(w, r)
	return w.Result(), nil
}

// In an overload of slack-x4, governor's sensor asks a Prometheus that scrapes the guard of the simulated service, and the
// simulator reads its own telemetry: of the service and of its route, they measure the same.
func TestTelemetryOfRoutesIsWhatTheSensorMeasures(t *testing.T) {
	scenario, err := Get("slack-x4")
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		cfg := scenario.Plant(1)
		tier := Tier{
			Name: service, SLO: scenario.SLO, Start: scenario.Start, Min: scenario.Min, Max: scenario.Max,
			Routes: routesOf(cfg, scenario.SLO),
		}
		cfg.Compartments = tier.compartments()
		began := time.Now()
		var at time.Duration // of the plant
		subject := newGuarded(guard.Config{
			Service: tier.Name, SLO: tier.SLO.Latency, Min: int(tier.Min), Max: int(tier.Max), Fallback: int(tier.Start),
			Routes: tier.guarded(), Now: func() time.Time { return start.Add(at) },
		})
		f := &fleet{
			run:  Run{Scenario: scenario, Timing: Usual},
			tier: tier, instances: cfg.Instances, parts: partsOf(tier, cfg.LatencyEdges, cfg.Compartments),
			offsets: rand.New(rand.NewPCG(1, 5)),
		}
		plant := models.NewFleet(cfg, func(now time.Duration, index int) models.Admitter {
			return f.start(now, index, subject)
		}, models.NewScore(scenario.SLO.Latency, scenario.SLO.Objective, scenario.Phases))

		registry := prometheus.NewRegistry()
		registry.MustRegister(guardprom.New(subject.guard))
		page := promhttp.HandlerFor(registry, promhttp.HandlerOpts{})
		server := prom.New(prom.Options{
			Targets: []prom.TargetGroup{{Targets: []string{"simulated:8080"}}}, ScrapeInterval: Usual.Scrape,
			Transport: inProcess{http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				at = time.Since(began)
				plant.Run(at)
				if f.clock == nil { // the simulator scrapes at the same instants
					f.begin(plant, plant.Live, func(instance int, _, interval time.Duration) *models.Telemetry {
						return models.Scrape(plant, instance, at, interval)
					})
				}
				plant.Run(at + 1)
				page.ServeHTTP(w, r)
			})},
		})
		go server.Run(t.Context())
		var services []signals.Service
		for _, p := range f.parts {
			services = append(services, signals.Service{Name: p.name, Timing: Usual, SLO: p.slo})
		}
		sensor, err := signals.New(signals.Options{URL: "http://prometheus:9090", RoundTripper: inProcess{server}}, services)
		if err != nil {
			t.Fatal(err)
		}
		defer sensor.Close()

		time.Sleep(305 * time.Second)
		for i, p := range f.parts {
			subject.Apply(at, actuators.Setting{
				Schema: actuators.Schema, Service: p.name, Epoch: 1, Revision: uint64(3 + i), LeaseSeconds: actuators.DefaultLeaseSeconds,
				Concurrency: &actuators.Concurrency{
					Limit: 40, Min: 8, Max: 400, Fallback: 40, Ceiling: 120, LatencyTargetSeconds: 0.4 * p.slo.Latency.Seconds(),
				},
			})
		}
		time.Sleep(27 * time.Second)
		synctest.Wait()
		now := time.Now()
		var got []control.Measurement
		for _, g := range sensor.Groups() {
			got = append(got, g.Measure(t.Context(), now)...)
		}
		for _, m := range got {
			for _, p := range f.parts {
				if p.name == m.Service {
					compare(t, m, f.measure(p, now.Sub(began), Usual.Window, 0))
				}
			}
		}
		if len(got) != len(f.parts) {
			t.Errorf("%d measurements, want %d", len(got), len(f.parts))
		}
	})
}

// compare wants two Measurements of one instance to agree, the first one that of the sensor.
func compare(t *testing.T, want, got control.Measurement) {
	t.Helper()
	if want.Invalid != "" || len(want.Instances) != 1 || len(got.Instances) != 1 {
		t.Fatalf("the sensor has %+v, the simulator %+v", want, got)
	}
	const tolerance = 1e-3 // the samples of Prometheus are at whole milliseconds
	service := want.Service
	same := func(what string, want, got control.Reading) {
		t.Helper()
		if a, b := want.Or(math.NaN()), got.Or(math.NaN()); !(math.Abs(a-b) <= tolerance*max(1e-3, math.Abs(a))) {
			t.Errorf("%s, %s: the sensor measures %v, the simulator has %v", service, what, want, got)
		}
	}
	in, of := want.Instances[0], got.Instances[0]
	for what, read := range map[string]func(in *control.Instance) control.Reading{
		"offered":          func(in *control.Instance) control.Reading { return in.Offered },
		"admitted":         func(in *control.Instance) control.Reading { return in.Admitted },
		"refused":          func(in *control.Instance) control.Reading { return in.Refused },
		"refused by shed":  func(in *control.Instance) control.Reading { return in.RefusedByShed },
		"refused by rate":  func(in *control.Instance) control.Reading { return in.RefusedByRate },
		"refused by share": func(in *control.Instance) control.Reading { return in.RefusedByShare },
		"refused by roof":  func(in *control.Instance) control.Reading { return in.RefusedByRoof },
		"for a callee":     func(in *control.Instance) control.Reading { return in.RefusedForCallee },
		"completed":        func(in *control.Instance) control.Reading { return in.Completed },
		"failed":           func(in *control.Instance) control.Reading { return in.Failed },
		"slow":             func(in *control.Instance) control.Reading { return in.Slow },
		"mean":             func(in *control.Instance) control.Reading { return in.Mean },
		"waited":           func(in *control.Instance) control.Reading { return in.Waited },
		"in flight":        func(in *control.Instance) control.Reading { return in.InFlight },
		"limit":            func(in *control.Instance) control.Reading { return in.Limit },
		"binding":          func(in *control.Instance) control.Reading { return in.Binding },
		"service time":     func(in *control.Instance) control.Reading { return in.ServiceTime },
		"revision":         func(in *control.Instance) control.Reading { return in.Revision },
		"shed threshold":   func(in *control.Instance) control.Reading { return in.ShedThreshold },
	} {
		same(what, read(&in), read(&of))
	}
	for i := range in.Classes {
		same(fmt.Sprint("offered, class ", i), in.Classes[i].Offered, of.Classes[i].Offered)
		same(fmt.Sprint("refused, class ", i), in.Classes[i].Refused, of.Classes[i].Refused)
	}
	same("quantile", want.Quantile, got.Quantile)
}
