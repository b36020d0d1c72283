package daemon

import (
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// threeKnobs steers all knobs.
func threeKnobs(service string) control.Spec {
	spec := specOf(service, control.Enforce)
	spec.Shed = &control.ShedSpec{}
	spec.Rate = &control.RateSpec{Min: 50, Max: 5000}
	return spec
}

// loopOf returns one loop.
func (g *governor) loopOf(t *testing.T, service string, knob control.Knob) api.Loop {
	t.Helper()
	loops, _ := g.recorder.Loops()
	for _, l := range loops {
		if l.Service == service && l.Knob == knob {
			return l
		}
	}
	t.Fatalf("no loop %s/%s", service, knob)
	return api.Loop{}
}

// followsTheKV checks that every loop of the service shows the KV's values and decides from them.
func (g *governor) followsTheKV(t *testing.T, w *world, service string) {
	t.Helper()
	stored := w.kv.stored(service)
	for _, knob := range []control.Knob{control.KnobConcurrency, control.KnobShed, control.KnobRate} {
		f, ok := publish.InForce(knob, &stored)
		if !ok {
			t.Errorf("the Setting has no %s: %+v", knob, stored)
			continue
		}
		l := g.loopOf(t, service, knob)
		if l.Published == nil || l.Published.Value != f.Value || l.Published.Revision != stored.Revision {
			t.Errorf("%s: published %+v, the KV holds %v of revision %d", knob, l.Published, f.Value, stored.Revision)
		}
	}
}

// rateOnly is a gateway without a concurrency limit.
func rateOnly(service string) control.Spec {
	spec := specOf(service, control.Enforce)
	spec.Concurrency, spec.Rate = nil, &control.RateSpec{Min: 50, Max: 5000}
	return spec
}

func TestAllKnobsShareOneSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governorOf(t, w.group(threeKnobs("checkout")))
		g.win(1)
		g.start(t)
		pass(time.Minute)
		first := w.kv.writes()[0]
		if first.Concurrency == nil || first.Shed == nil || first.Rate == nil {
			t.Fatalf("the first Setting lacks a knob: %+v", first)
		}
		if *first.Shed != (actuators.Shed{Threshold: 0.6, Fallback: 0.6, Min: 0.4, Max: 0.6}) ||
			*first.Rate != (actuators.Rate{PerSecond: 5000, Burst: 1250, Instances: 1, Fallback: 5000, Min: 50, Max: 5000}) {
			t.Errorf("it starts with shed %+v, rate %+v", first.Shed, first.Rate)
		}
		w.overload()
		w.sensor.set(func(p *plants) { p.services["checkout"].critical = 0.05 })
		pass(5 * time.Minute)
		now := w.kv.stored("checkout")
		// The queue hovers half way between threshold and limit, hence a limit above the 48 of Little's law.
		if now.Shed.Threshold != 0.4 || now.Rate.PerSecond != 5000 ||
			now.Concurrency.Limit < 43 || now.Concurrency.Limit > 80 {
			t.Errorf("after 5 minutes of overload: %+v %+v %+v", now.Concurrency, now.Shed, now.Rate)
		}
		g.followsTheKV(t, w, "checkout")

		shed := g.loopOf(t, "checkout", control.KnobShed)
		if shed.Unit != api.Occupancy || shed.MeasuredUnit != api.Share || shed.Protect != "critical" ||
			math.Abs(float64(shed.Decision.Measured)-0.05) > 1e-9 || shed.Decision.State != control.AtMin {
			t.Errorf("the loop of the shed threshold: %+v", shed)
		}
		rate := g.loopOf(t, "checkout", control.KnobRate)
		if rate.Unit != api.PerSecond || rate.MeasuredUnit != api.Seconds || rate.Max != 5000 {
			t.Errorf("the loop of the rate: %+v", rate)
		}
	})
}

// A13 for all knobs: a value that was not written is not in force, for any loop.
func TestRefusedWriteIsTrackedForEveryKnob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "gateway")
		g := w.governorOf(t, w.group(threeKnobs("checkout"), rateOnly("gateway")))
		g.win(1)
		g.start(t)
		pass(2 * time.Minute)
		before, off := w.kv.stored("checkout"), w.kv.stored("gateway")

		w.kv.set(func(kv *memoryKV) {
			kv.refuse["checkout"], kv.refuse["gateway"] = consul.ErrDenied, consul.ErrDenied
		})
		w.overload()
		w.sensor.set(func(p *plants) { p.services["checkout"].critical = 0.2 })
		pass(10 * time.Minute)
		g.followsTheKV(t, w, "checkout")
		for _, l := range []api.Loop{
			g.loopOf(t, "checkout", control.KnobConcurrency), g.loopOf(t, "checkout", control.KnobShed),
			g.loopOf(t, "gateway", control.KnobRate),
		} {
			if l.Published.Error == "" || float64(l.Decision.From) != l.Published.Value ||
				!(l.Decision.Value < l.Decision.From) {
				t.Errorf("%s/%s: from %v to %v, in force is %+v: want one cut from what is in force",
					l.Service, l.Knob, l.Decision.From, l.Decision.Value, l.Published)
			}
		}

		w.kv.set(func(kv *memoryKV) { clear(kv.refuse) })
		pass(period)
		after, on := w.kv.stored("checkout"), w.kv.stored("gateway")
		if step := before.Shed.Threshold - after.Shed.Threshold; step <= 0 || step > 0.12 {
			t.Errorf("the threshold went from %v to %v at once", before.Shed.Threshold, after.Shed.Threshold)
		}
		if cut := math.Log(float64(before.Concurrency.Limit) / float64(after.Concurrency.Limit)); cut <= 0 || cut > 0.75 {
			t.Errorf("the limit went from %d to %d at once", before.Concurrency.Limit, after.Concurrency.Limit)
		}
		if off.Rate.PerSecond != 5000 || on.Rate.PerSecond < 200 || on.Rate.PerSecond > 400 {
			t.Errorf("the rate went from %v to %v, the service completes 400/s", off.Rate.PerSecond, on.Rate.PerSecond)
		}
		if on.Concurrency != nil || on.Shed != nil {
			t.Errorf("knobs that are not configured: %+v", on)
		}
	})
}

func TestTakeoverIsBumplessForEveryKnob(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "gateway")
		group := w.group(threeKnobs("checkout"), rateOnly("gateway"))
		leader, standby := w.governorOf(t, group), w.governorOf(t, group)
		leader.win(1)
		killed := leader.start(t)
		standby.start(t)
		w.overload()
		w.sensor.set(func(p *plants) { p.services["checkout"].critical = 0.006 }) // moves the threshold, slowly
		pass(3*time.Minute + time.Second)
		before, rate := w.kv.stored("checkout"), w.kv.stored("gateway").Rate
		if before.Shed.Threshold >= 0.6 || rate.PerSecond >= 5000 {
			t.Fatalf("nothing to hand over: %+v %+v", before.Shed, rate)
		}
		standby.followsTheKV(t, w, "checkout")
		killed()
		leader.lose()

		again := w.governorOf(t, group) // the old leader's machine is back, too, and wins
		standby.win(2)
		pass(period)
		for _, knob := range []control.Knob{control.KnobConcurrency, control.KnobShed, control.KnobRate} {
			d := standby.loopOf(t, "checkout", knob).Decision
			f, _ := publish.InForce(knob, &before)
			if d.State != control.Hold || d.HoldReason != control.Starting || float64(d.Value) != f.Value {
				t.Errorf("%s, first tick as leader: %s", knob, d.Reason)
			}
		}
		standby.lose()
		again.win(3)
		again.start(t)
		pass(3 * period)
		after, first := w.kv.stored("checkout"), w.kv.stored("gateway")
		for _, s := range w.kv.writes() {
			if s.Service == "gateway" && s.Epoch == 3 {
				first = s
				break
			}
		}
		if after.Epoch != 3 || after.Revision <= before.Revision {
			t.Errorf("epoch %d revision %d after revision %d", after.Epoch, after.Revision, before.Revision)
		}
		if d := before.Shed.Threshold - after.Shed.Threshold; math.Abs(d) > 0.04 {
			t.Errorf("the threshold went from %v to %v", before.Shed.Threshold, after.Shed.Threshold)
		}
		if r := math.Log(first.Rate.PerSecond / rate.PerSecond); r < -0.01 || r > 0.2 || first.Epoch != 3 {
			t.Errorf("the rate went from %v to %v (epoch %d)", rate.PerSecond, first.Rate.PerSecond, first.Epoch)
		}
		if r := float64(after.Concurrency.Limit) / float64(before.Concurrency.Limit); math.Abs(r-1) > 0.05 {
			t.Errorf("the limit went from %d to %d", before.Concurrency.Limit, after.Concurrency.Limit)
		}
	})
}

// A Setting from before a knob was configured gets the knob with the next write, and keeps its other values.
func TestKnobThatIsNewJoinsTheSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Enforce)
		g.win(1)
		stop := g.start(t)
		w.overload()
		pass(3 * time.Minute)
		stop()
		before := w.kv.stored("checkout")
		if before.Shed != nil || before.Rate != nil {
			t.Fatalf("knobs that are not configured: %+v", before)
		}
		again := w.governorOf(t, w.group(threeKnobs("checkout")))
		again.win(2)
		again.start(t)
		pass(3 * period)
		after := w.kv.stored("checkout")
		if after.Shed == nil || after.Rate == nil || after.Shed.Threshold != 0.6 || after.Rate.PerSecond != 5000 {
			t.Errorf("the new knobs: %+v %+v", after.Shed, after.Rate)
		}
		if r := float64(after.Concurrency.Limit) / float64(before.Concurrency.Limit); r < 0.95 || r > 1.3 {
			t.Errorf("the limit went from %d to %d", before.Concurrency.Limit, after.Concurrency.Limit)
		}
	})
}
