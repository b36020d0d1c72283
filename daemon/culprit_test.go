package daemon

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Checkout calls cart, which calls payments; each is in a group of its own. When the calls to payments become slow, both
// name it: in the API, in the decision and in the metric, until they are fast again.
func TestTheCulpritIsNamedAcrossGroups(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "cart", "payments")
		calm := map[string]time.Duration{"cart": 20 * time.Millisecond, "payments": 10 * time.Millisecond}
		var slow time.Duration // what payments takes longer than in calm
		for service, to := range map[string]string{"checkout": "cart", "cart": "payments"} {
			w.sensor.set(func(p *plants) {
				p.services[service].spoil = func(m *control.Measurement) {
					in := &m.Instances[0]
					n, mean := in.Completed.Float(), in.Mean.Float()
					if slow > 0 {
						in.Slow, in.Fast = in.Completed, control.Read(0)
					}
					took := (calm[to] + slow).Seconds()
					in.Mean, in.Waited = control.Read(mean+took), control.Read(n*took)
					in.InFlight = control.Read(in.InFlight.Float() + n*took/m.Window.Seconds())
					zero := control.Read(0)
					in.Calls = []control.Call{{
						To: to, Requests: in.Completed, Attempts: in.Completed, Retries: zero, Failures: zero, CalleeRefused: zero,
						BreakerOpen: zero, BulkheadFull: zero, PastDeadline: zero, Finished: in.Completed, Mean: control.Read(took),
						OwnLatency: control.Read(calm[to].Seconds()),
					}}
				}
			})
		}
		one := func(service string) Group { return w.group(specOf(service, control.Shadow)) }
		g := w.governorOf(t, one("checkout"), one("cart"), one("payments"))
		g.win(1)
		g.start(t)
		pass(2 * time.Minute)
		named := func(service string) (string, string) {
			d := g.loopOf(t, service, control.KnobConcurrency).Decision
			return d.Inputs.Culprit, d.Reason
		}
		series := func() (all []string) {
			families, err := g.registry.Gather()
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range families {
				for _, m := range f.Metric {
					if f.GetName() == "governor_culprit_info" {
						all = append(all, m.Label[1].GetValue()+" because of "+m.Label[0].GetValue())
					}
				}
			}
			return all
		}
		if who, why := named("checkout"); who != "" || series() != nil {
			t.Fatalf("in calm, checkout names %q: %s; series %v", who, why, series())
		}

		w.sensor.set(func(*plants) { slow = 400 * time.Millisecond })
		pass(time.Minute)
		if who, why := named("checkout"); who != "payments" || !strings.Contains(why, "checkout is slow because payments is, by way of cart: ") {
			t.Errorf("checkout names %q: %s", who, why)
		}
		if who, why := named("cart"); who != "payments" || !strings.Contains(why, "cart is slow because payments is: ") {
			t.Errorf("cart names %q: %s", who, why)
		}
		if got := fmt.Sprint(series()); got != "[cart because of payments checkout because of payments]" {
			t.Errorf("the metric says %s", got)
		}

		w.sensor.set(func(*plants) { slow = 0 })
		pass(time.Minute)
		if who, _ := named("checkout"); who != "" || series() != nil {
			t.Errorf("in calm again, checkout names %q; series %v", who, series())
		}
	})
}

// What a worker has seen counts for some of its periods, and a service that is governed is never taken for a stranger.
func TestNeighborsAreForgotten(t *testing.T) {
	n := &neighbors{known: map[string]neighbor{}}
	n.govern("cart")
	now := time.Now()
	if all := n.exchange(now, time.Second, nil); len(all) != 1 || all["cart"].Suffers() {
		t.Errorf("before the first tick: %+v", all)
	}
	loops, err := control.NewLoopSet(specOf("cart", control.Shadow))
	if err != nil {
		t.Fatal(err)
	}
	m := control.Measurement{Window: 20 * time.Second, Instances: []control.Instance{(&plant{
		offered: 100, capacity: 50, latency: 50 * time.Millisecond,
	}).measure(actuators.Setting{})}}
	n.exchange(now, time.Second, map[string]control.Health{"cart": loops.Health(m)})
	if !n.exchange(now.Add(3*time.Second), time.Second, nil)["cart"].Suffers() {
		t.Error("forgotten within three periods")
	}
	all := n.exchange(now.Add(3*time.Second+1), time.Second, nil)
	if _, governed := all["cart"]; !governed || all["cart"].Suffers() {
		t.Errorf("after that: %+v", all)
	}
}
