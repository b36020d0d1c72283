package daemon

import (
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
)

// pass lets time pass and waits for every tick in it to end.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestOverloadIsMeasuredDecidedPublishedAndRecorded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		pass(time.Minute)
		w.overload()
		pass(2 * time.Minute)

		got := w.kv.stored("checkout")
		// Little's law: 400/s within the setpoint of 0.4 × 300 ms gives 48 in flight.
		if c := got.Concurrency; c == nil || c.Limit < 43 || c.Limit > 53 {
			t.Fatalf("published %+v, want a limit near 48", got)
		}
		if got.Epoch != 1 || got.Service != "checkout" || got.Reason == "" || got.LeaseSeconds != 180 {
			t.Errorf("incomplete Setting: %+v", got)
		}
		loop := g.loop(t, "checkout")
		if p := loop.Published; p == nil || p.Value != float64(got.Concurrency.Limit) || p.Revision != got.Revision {
			t.Errorf("the API shows %+v as published, the KV holds %+v", loop.Published, got)
		}
		if v := testutil.ToFloat64(g.recorder.metrics.published); v != float64(got.Concurrency.Limit) {
			t.Errorf("the metric shows %v, the KV holds %d", v, got.Concurrency.Limit)
		}
		records := g.records("checkout")
		if len(records) != int(3*time.Minute/period) {
			t.Errorf("%d records in 3 minutes, want one a period of %s", len(records), period)
		}
		if !strings.Contains(w.log.String(), "msg=decision service=checkout") {
			t.Errorf("the log does not show the decision:\n%s", &w.log)
		}
	})
}

// A10: kedacore/keda#5118, #2292, #5487, kedacore/charts#338.
func TestSlowQueryDelaysOnlyItsOwnServices(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var groups []Group
		var sensors []*plants
		names := strings.Split("abcdefgh", "")
		for i, name := range names {
			delay := 10 * time.Millisecond
			if i == 2 {
				delay = 40 * time.Second
			}
			s := &plants{kv: w.kv, delay: delay, services: map[string]*plant{
				name: {offered: 100, capacity: 400, latency: 40 * time.Millisecond},
			}}
			sensors = append(sensors, s)
			groups = append(groups, Group{Sensor: s, Specs: []control.Spec{specOf(name, control.Enforce)}})
		}
		g := w.governorOf(t, groups...)
		g.win(1)
		g.start(t)
		pass(2*time.Minute + period - time.Millisecond) // the last tick of c ends at its deadline

		for i, name := range names {
			records := g.records(name)
			if len(records) != int(2*time.Minute/period) {
				t.Errorf("%s: %d decisions in 2 minutes, want one a period", name, len(records))
			}
			for _, r := range records {
				if off := r.Decision.At.Sub(r.Decision.At.Truncate(period)); off != 0 {
					t.Errorf("%s: decided %s after its grid point", name, off)
				}
				if i == 2 && r.Decision.HoldReason != control.Timeout {
					t.Errorf("%s: %s, want hold with reason timeout", name, r.Decision.Reason)
				}
			}
			if sensors[i].most != 1 {
				t.Errorf("%s: %d queries in flight at once", name, sensors[i].most)
			}
		}
	})
}

// A10, second half: kedacore/keda#3152 (never recovered), #3272 (connection refused, set to zero), PR 1497.
func TestOutageOfPrometheusHoldsAndIsNotReplayed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		w.overload()
		pass(2 * time.Minute)
		before, writes := w.kv.stored("checkout"), len(w.kv.writes())

		w.sensor.set(func(p *plants) { p.fail = control.QueryError })
		pass(90 * time.Second)
		for _, r := range g.records("checkout")[24:] {
			if r.Decision.State != control.Hold || r.Decision.HoldReason != control.QueryError || r.Wrote {
				t.Fatalf("in the outage: %s (wrote %v), want a hold that writes nothing", r.Decision.Reason, r.Wrote)
			}
		}
		if n := len(w.kv.writes()); n != writes {
			t.Errorf("%d writes in the outage: a hold renews no lease", n-writes)
		}
		calls := w.sensor.calls

		w.sensor.set(func(p *plants) { p.fail = "" })
		pass(30 * time.Second)
		if n := w.sensor.calls - calls; n != 6 {
			t.Errorf("%d ticks in 30 s after the outage, want 6", n)
		}
		after := w.kv.stored("checkout").Concurrency.Limit
		if move := math.Abs(math.Log(float64(after) / float64(before.Concurrency.Limit))); move > 0.1 {
			t.Errorf("the outage moved the limit from %d to %d", before.Concurrency.Limit, after)
		}
		if n := strings.Count(w.log.String(), "reason=query_error"); n != 1 {
			t.Errorf("the outage was logged %d times, want once:\n%s", n, &w.log)
		}
	})
}

func TestTicksThatPassedInASlowOneAreSkipped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Enforce)
		// A sensor that ignores its deadline in the third tick, like a machine that was suspended.
		g.workers[0].sensor = &stubborn{plants: w.sensor, good: 2, nap: 17 * time.Second}
		g.start(t)
		pass(50 * time.Second)
		var at []int
		start := g.records("checkout")[0].Decision.At
		for _, r := range g.records("checkout") {
			at = append(at, int(r.Decision.At.Sub(start)/time.Second))
		}
		if want := []int{0, 5, 10, 30, 35, 40, 45}; !slices.Equal(at, want) {
			t.Errorf("ticks began at %v s, want %v", at, want)
		}
		if n := testutil.ToFloat64(g.recorder.metrics.ticksSkipped); n != 3 {
			t.Errorf("%v grid points counted as skipped, want 3", n)
		}
	})
}

// A13: Consul refuses the write for 30 minutes; felixge/pidctrl PR 5, JuliaControl/DiscretePIDs.jl#4.
func TestRefusedWritesDoNotWindUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		w.overload()
		pass(3 * time.Minute)
		start := w.kv.stored("checkout").Concurrency.Limit

		// Capacity falls to a quarter, and nothing can be written for half an hour.
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 100 })
		w.kv.set(func(kv *memoryKV) { kv.refuse["checkout"] = consul.ErrDenied })
		pass(30 * time.Minute)
		if now := w.kv.stored("checkout").Concurrency.Limit; now != start {
			t.Fatalf("the refused write changed the limit from %d to %d", start, now)
		}
		last := g.loop(t, "checkout")
		if last.Published == nil || last.Published.Error == "" || float64(last.Decision.From) != float64(start) {
			t.Errorf("not shown as refused, from the value in force: %+v", last)
		}
		if n := strings.Count(w.log.String(), "was not written"); n != 1 {
			t.Errorf("logged %d times in half an hour, want once", n)
		}

		// Capacity is back and the limit binds: the first period that may write raises the limit, at the normal pace.
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 2000; p.services["checkout"].offered = 4000 })
		w.kv.set(func(kv *memoryKV) { delete(kv.refuse, "checkout") })
		pass(period)
		after := w.kv.stored("checkout").Concurrency.Limit
		if move := math.Log(float64(after) / float64(start)); move <= 0 || move > 0.2+0.05 {
			t.Errorf("the limit went from %d to %d in the first period, want one ordinary raise", start, after)
		}
	})
}

func TestOutageOfConsulQueuesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		w.overload()
		pass(3 * time.Minute)
		start := w.kv.stored("checkout").Concurrency.Limit

		w.kv.set(func(kv *memoryKV) { kv.down = errDown; kv.reads, kv.tries = 0, 0 })
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 200 })
		pass(5 * time.Minute)
		if w.kv.tries != 0 {
			t.Errorf("%d blind writes into a KV that cannot be read", w.kv.tries)
		}
		// Every 7.5 to 15 s, on a grid of 5 s.
		if w.kv.reads < 20 || w.kv.reads > 45 {
			t.Errorf("%d reads in 5 minutes, want a capped backoff", w.kv.reads)
		}
		if s := g.Status(); s.Consul.OK || !strings.Contains(s.Consul.Error, "refused") {
			t.Errorf("the status hides the outage: %+v", s.Consul)
		}
		if l := g.loop(t, "checkout"); l.Published == nil || !strings.Contains(l.Published.Error, "refused") {
			t.Errorf("the loop hides the outage: %+v", l.Published)
		}

		writes := len(w.kv.writes())
		w.kv.set(func(kv *memoryKV) { kv.down = nil })
		pass(backoffMax + period)
		if n := len(w.kv.writes()) - writes; n < 1 || n > 3 {
			t.Errorf("%d writes within %s of the return, want the loop's ordinary moves", n, backoffMax+period)
		}
		first := w.kv.writes()[writes]
		if move := math.Log(float64(first.Concurrency.Limit) / float64(start)); move < -0.7-0.05 || move > 0 {
			t.Errorf("the first write went from %d to %d, want one ordinary cut", start, first.Concurrency.Limit)
		}
		if !g.Status().Consul.OK {
			t.Error("the status does not show that Consul is back")
		}
		if n := testutil.CollectAndCount(g.recorder.metrics.drifts); n != 0 {
			t.Errorf("the outage was taken for somebody's edit:\n%s", &w.log)
		}
	})
}

func TestWriteThatHangsHoldsUpNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("a", "b", "c")
		w.kv.hang["a"] = 3 * period / 4
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
		pass(time.Minute)
		for _, s := range w.kv.writes() {
			if s.Service == "a" {
				t.Fatal("the write that hung came first, or never hung")
			}
			if s.Service == "c" {
				return
			}
		}
		t.Error("nothing was written for c")
	})
}

// A20 and A21 at the daemon's level: a failed transaction does not stop the others (openark/orchestrator#1302).
func TestOneFailingServiceDoesNotStopTheOthers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		names := []string{"a", "b", "c", "d"}
		w := newWorld(names...)
		w.kv.refuse["b"] = consul.ErrTooLarge
		w.sensor.services["c"].spoil = func(m *control.Measurement) {
			m.Instances, m.Invalid, m.Detail = nil, control.ManySeries, "pod"
		}
		g := w.governor(t, control.Enforce)
		g.win(1)
		g.start(t)
		w.overload()
		pass(2 * time.Minute)
		for _, name := range names {
			limit := 0
			if c := w.kv.stored(name).Concurrency; c != nil {
				limit = c.Limit
			}
			if controlled := name == "a" || name == "d"; controlled != (limit > 43 && limit < 53) {
				t.Errorf("%s: limit %d", name, limit)
			}
		}
		if l := g.loop(t, "c"); l.Decision.HoldReason != control.ManySeries {
			t.Errorf("c: %s", l.Decision.Reason)
		}
		if n := testutil.ToFloat64(g.recorder.metrics.writeFailures.WithLabelValues("b", "too_large")); n < 1 {
			t.Error("the failed writes of b are not counted")
		}
	})
}

func TestRestartGoesOnFromThePublishedSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Enforce)
		g.win(1)
		stop := g.start(t)
		w.overload()
		pass(3 * time.Minute)
		stop()
		g.lose()
		before := w.kv.stored("checkout")

		again := w.governor(t, control.Enforce)
		again.win(2)
		again.start(t)
		pass(period)
		if d := again.loop(t, "checkout").Decision; d.State != control.Hold || d.HoldReason != control.Starting {
			t.Errorf("first tick: %s, want a hold of one period", d.Reason)
		}
		if n := len(w.kv.writes()); w.kv.writes()[n-1].Epoch != 1 {
			t.Error("the first tick wrote")
		}
		pass(period)
		after := w.kv.stored("checkout")
		if after.Epoch != 2 || after.Revision != before.Revision+1 {
			t.Errorf("epoch %d revision %d after epoch 1 revision %d", after.Epoch, after.Revision, before.Revision)
		}
		if b, a := float64(before.Concurrency.Limit), float64(after.Concurrency.Limit); math.Abs(a/b-1) > 0.02 {
			t.Errorf("the restart moved the limit from %v to %v", b, a)
		}
	})
}

func TestStandbyFollowsAndTakesOverWithoutABump(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		leader, standby := w.governor(t, control.Enforce), w.governor(t, control.Enforce)
		leader.win(1)
		killed := leader.start(t)
		standby.start(t)
		w.overload()
		pass(3*time.Minute + time.Second)

		for _, s := range w.kv.writes() {
			if s.Epoch != 1 {
				t.Fatalf("a standby wrote: %+v", s)
			}
		}
		before := w.kv.stored("checkout")
		l := standby.loop(t, "checkout")
		p := l.Published
		if p == nil || p.Revision != before.Revision || float64(l.Decision.From) != p.Value {
			t.Errorf("the standby does not track the published Setting: %+v", l)
		}
		if s := standby.Status(); s.Role != "standby" || leader.Status().Role != "leader" {
			t.Errorf("roles: %s and %s", leader.Status().Role, s.Role)
		}

		if n := testutil.CollectAndCount(standby.recorder.metrics.drifts); n != 0 {
			t.Errorf("the standby took the leader's writes for drift:\n%s", &w.log)
		}

		killed()
		standby.win(2)
		pass(period)
		if d := standby.loop(t, "checkout").Decision; d.State != control.Hold || d.HoldReason != control.Starting {
			t.Errorf("first tick as leader: %s, want a hold of one period", d.Reason)
		}
		pass(3 * period)
		after := w.kv.stored("checkout")
		if b, a := float64(before.Concurrency.Limit), float64(after.Concurrency.Limit); math.Abs(a/b-1) > 0.02 {
			t.Errorf("the takeover moved the limit from %v to %v", b, a)
		}
		if after.Epoch != 2 || after.Revision <= before.Revision {
			t.Errorf("epoch %d revision %d: readers would refuse it", after.Epoch, after.Revision)
		}
	})
}

// A17 at the daemon's level: hashicorp/consul#9788.
func TestDeposedLeaderTracksItsFencedWriteAsNotApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		old, young := w.governor(t, control.Enforce), w.governor(t, control.Enforce)
		old.win(1)
		old.start(t)
		young.start(t)
		w.overload()
		pass(3 * time.Minute)
		young.win(2) // old still believes in its lock
		w.sensor.set(func(p *plants) { p.services["checkout"].capacity = 200 })
		pass(2 * time.Minute)
		writes := w.kv.writes()
		highest := uint64(0)
		for _, s := range writes {
			if s.Epoch < highest {
				t.Fatalf("epoch %d after epoch %d", s.Epoch, highest)
			}
			highest = s.Epoch
		}
		now := w.kv.stored("checkout")
		if d := old.loop(t, "checkout").Decision; float64(d.From) != float64(now.Concurrency.Limit) {
			t.Errorf("the deposed leader decides from %v, in force is %d", d.From, now.Concurrency.Limit)
		}
	})
}

func TestLeaseIsRenewedWhileMeasurementsAreValid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, _ := lead(t, "checkout")
		pass(time.Minute)
		first := w.kv.stored("checkout")
		pass(10 * time.Minute)
		writes := w.kv.writes()
		last := writes[len(writes)-1]
		if n := len(writes); n < 10 || n > 13 {
			t.Errorf("%d writes in 11 quiet minutes, want one a minute", n)
		}
		if first.LeaseSeconds != last.LeaseSeconds || *first.Concurrency != *last.Concurrency ||
			!last.ChangedAt.Equal(writes[0].ChangedAt) ||
			!last.IssuedAt.After(first.IssuedAt) {
			t.Errorf("a renewal is the same values under a later revision:\n%+v\n%+v", first, last)
		}
		for i, s := range writes {
			if s.Revision != uint64(i+1) {
				t.Errorf("write %d has revision %d", i, s.Revision)
			}
		}
		w.sensor.set(func(p *plants) { p.services["checkout"].offered = 0 })
		pass(5 * time.Minute)
		if n := len(w.kv.writes()) - len(writes); n > 1 {
			t.Errorf("%d renewals for an idle service", n)
		}
	})
}

func TestOnlyEnforceWrites(t *testing.T) {
	for _, mode := range []control.Mode{control.Observe, control.Shadow} {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld("checkout")
			g := w.governor(t, mode)
			g.win(1)
			g.start(t)
			w.overload()
			pass(10 * time.Minute)
			if w.kv.tries != 0 {
				t.Errorf("%s wrote %d times", mode, w.kv.tries)
			}
			d := g.loop(t, "checkout").Decision
			if shadow := mode == control.Shadow; shadow && !(d.Value < d.From) {
				t.Errorf("shadow does not show what it would do, from the value in force: %s", d.Reason)
			}
			if n := strings.Count(w.log.String(), "not written"); n > 3 {
				t.Errorf("%d lines in 10 minutes about values that are not written:\n%s", n, &w.log)
			}
		})
	}
}

func TestForeignChangesOfTheKeyAreAdopted(t *testing.T) {
	edited := func(change func(*actuators.Setting)) func(*memoryKV) {
		return func(kv *memoryKV) {
			s := kv.settled[checkoutKey].Setting
			c := *s.Concurrency
			s.Concurrency = &c
			change(&s)
			kv.put(s)
		}
	}
	lower := func(s *actuators.Setting) { s.Concurrency.Limit = 50; s.Revision++ }
	lowerAsOld := func(s *actuators.Setting) { s.Concurrency.Limit = 50 }
	lowerAndOlder := func(s *actuators.Setting) { s.Concurrency.Limit = 50; s.Revision = 1 }
	for _, tc := range []struct {
		name   string
		tamper func(*memoryKV)
		drift  Drift
		want   int // the limit that readers have in the end; the plant is calm, so governor leaves it alone
	}{
		{"a person lowers the limit", edited(lower), Edited, 50},
		{"with the same revision", edited(lowerAsOld), Edited, 50},
		{"a snapshot is restored", edited(lowerAndOlder), RolledBack, 89},
		{"the key is deleted", func(kv *memoryKV) { kv.index++; delete(kv.settled, checkoutKey) }, Deleted, 89},
		{"the value is garbage", func(kv *memoryKV) {
			kv.index++
			kv.settled[checkoutKey] = consul.Stored{Raw: []byte("{"), Index: kv.index, Err: errDown}
		}, Unreadable, 89},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := lead(t, "checkout")
				pass(3*time.Minute + 15*time.Second) // between two renewals
				before := w.kv.stored("checkout")
				w.kv.set(tc.tamper)
				pass(2 * period)
				after := w.kv.stored("checkout")
				if after.Concurrency == nil || after.Concurrency.Limit != tc.want {
					t.Errorf("now %+v, want a limit of %d", after.Concurrency, tc.want)
				}
				if after.Revision <= before.Revision {
					t.Errorf("revision %d after %d: readers would refuse it", after.Revision, before.Revision)
				}
				drifts := g.recorder.metrics.drifts.WithLabelValues("checkout", string(tc.drift))
				if n := testutil.ToFloat64(drifts); n != 1 {
					t.Errorf("counted %v times as %s, want once", n, tc.drift)
				}
				if n := strings.Count(w.log.String(), "drift="+string(tc.drift)); n != 1 {
					t.Errorf("logged %d times, want once:\n%s", n, &w.log)
				}
			})
		})
	}
}

// Guards refuse a revision that does not grow, so an edit by hand reaches them only when the leader writes it again: at
// once, also while nothing can be measured. Whatever has been set back is written again just so.
func TestEditByHandAndRollbackAreWrittenAtOnceWithoutAMeasurement(t *testing.T) {
	for _, tc := range []struct {
		name     string
		revision int // of what appears in the key, relative to the last
		limit    int
		found    string
		event    string
	}{
		{"edited", 0, 50, `found="concurrency 89 -> 50"`, control.EventEdited},
		{"rolled_back", -1, 89, `of 1: concurrency 89 -> 50"`, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := lead(t, "checkout")
				pass(3 * time.Minute)
				w.sensor.set(func(p *plants) { p.fail = control.QueryError })
				pass(time.Minute)
				before := w.kv.stored("checkout")
				w.kv.set(func(kv *memoryKV) {
					s := kv.settled[checkoutKey].Setting
					c := *s.Concurrency
					s.Concurrency, s.Revision = &c, uint64(int(s.Revision)+tc.revision)
					c.Limit = 50
					kv.put(s)
				})
				pass(period)
				after := w.kv.stored("checkout")
				if after.Revision != before.Revision+1 || after.Concurrency.Limit != tc.limit {
					t.Errorf("revision %d, limit %d, after %d", after.Revision, after.Concurrency.Limit, before.Revision)
				}
				if tc.limit == 50 && after.Concurrency.Ceiling != 50 {
					t.Errorf("ceiling %d: the guards' reflex may go beyond the limit of the edit", after.Concurrency.Ceiling)
				}
				d := g.loop(t, "checkout").Decision
				if d.Terms.Event != tc.event || tc.event != "" && !strings.Contains(d.Reason, "edited by hand from 89 to 50") {
					t.Errorf("event %q, reason %q", d.Terms.Event, d.Reason)
				}
				if text := w.log.String(); strings.Count(text, tc.found) != 1 || !strings.Contains(text, "drift="+tc.name) {
					t.Errorf("the log:\n%s", text)
				}
				pass(3 * period)
				if s := w.kv.stored("checkout"); s.Revision != after.Revision {
					t.Errorf("written again without a reason: revision %d", s.Revision)
				}
			})
		})
	}
}

func TestHigherEpochInTheKeyMakesTheLeaderCompeteAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout")
		pass(time.Minute)
		w.kv.set(func(kv *memoryKV) {
			s := kv.settled[checkoutKey].Setting
			s.Epoch = 7
			kv.put(s)
		})
		pass(2 * period)
		if g.gone != 1 {
			t.Errorf("resigned %d times, want once", g.gone)
		}
		g.win(8)
		pass(3 * period)
		if s := w.kv.stored("checkout"); s.Epoch != 8 {
			t.Errorf("epoch %d, want 8", s.Epoch)
		}
	})
}

// Numbers put by hand that leave no room above them must not end all writes: after the revision a newer epoch begins
// again, and an epoch that no leader can follow is no Setting.
func TestNumbersAtTheEndOfTheirRangeDoNotEndTheWrites(t *testing.T) {
	for _, tc := range []struct {
		name            string
		epoch, revision uint64
		gone            int
		wantEpoch       uint64
	}{
		{"the last revision", 1, actuators.MaxOrdinal, 1, 2},
		{"the last epoch", actuators.MaxOrdinal, 1, 0, 1},
		{"the last of both", actuators.MaxOrdinal, actuators.MaxOrdinal, 0, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, g := lead(t, "checkout")
				pass(3*time.Minute + 15*time.Second)
				w.kv.set(func(kv *memoryKV) {
					s := kv.settled[checkoutKey].Setting
					s.Epoch, s.Revision = tc.epoch, tc.revision
					kv.put(s)
				})
				pass(2 * period)
				if g.gone != tc.gone {
					t.Fatalf("resigned %d times, want %d", g.gone, tc.gone)
				}
				if g.gone > 0 {
					g.win(2)
				}
				pass(3 * period)
				after := w.kv.stored("checkout")
				if after.Epoch != tc.wantEpoch || after.Revision > actuators.MaxByHand {
					t.Errorf("epoch %d, revision %d, want epoch %d", after.Epoch, after.Revision, tc.wantEpoch)
				}
				pass(5 * time.Minute)
				if later := w.kv.stored("checkout"); later.Revision <= after.Revision || g.gone != tc.gone {
					t.Errorf("revision %d after %d, resigned %d times: the lease is not renewed", later.Revision, after.Revision, g.gone)
				}
			})
		})
	}
}

// A write whose answer was lost but that arrived is ours, not an edit.
func TestLostAnswerIsNoDrift(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Enforce)
		lossy := &lossyKV{memoryKV: w.kv}
		g.Daemon.kv.store = lossy
		g.win(1)
		g.start(t)
		pass(time.Minute)
		w.kv.set(func(*memoryKV) { lossy.lose = 1 })
		w.overload()
		pass(2 * time.Minute)
		left := 0
		w.kv.set(func(*memoryKV) { left = lossy.lose })
		if left != 0 {
			t.Fatal("nothing was written")
		}
		if n := testutil.CollectAndCount(g.recorder.metrics.drifts); n != 0 {
			t.Errorf("counted as drift:\n%s", &w.log)
		}
		if limit := w.kv.stored("checkout").Concurrency.Limit; limit < 43 || limit > 53 {
			t.Errorf("limit %d, want about 48", limit)
		}
	})
}
