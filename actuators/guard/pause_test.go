package guard

import (
	"math"
	"testing"
)

// A request that waits for its client holds no slot, and that time is not its latency.
func TestPausedRequestHoldsNoSlotAndTeachesNoLatency(t *testing.T) {
	g := simGuard(t, Config{Min: 1, Max: 1})
	slow, err := g.AcquireAt(epoch, Default)
	if err != nil {
		t.Fatal(err)
	}
	slow.PauseAt(epoch.Add(10 * ms))
	slow.PauseAt(epoch.Add(20 * ms)) // does nothing
	other, err := g.AcquireAt(epoch.Add(30*ms), Default)
	if err != nil {
		t.Fatal("a paused request holds a slot:", err)
	}
	slow.ResumeAt(epoch.Add(110 * ms))
	slow.ResumeAt(epoch.Add(120 * ms)) // does nothing
	if n := g.SnapshotAt(epoch.Add(120 * ms)).InFlight; n != 2 {
		t.Errorf("%d in flight, want both: one was admitted meanwhile", n)
	}
	other.ReleaseAt(epoch.Add(130*ms), Ignored)
	if _, err := g.AcquireAt(epoch.Add(130*ms), Default); err == nil {
		t.Error("somebody was admitted beyond the limit")
	}
	slow.PauseAt(epoch.Add(130 * ms))
	slow.ResumeAt(epoch.Add(140 * ms))
	slow.ReleaseAt(epoch.Add(150*ms), Success)
	if s := g.SnapshotAt(epoch.Add(150 * ms)); s.InFlight != 0 || s.Latency.Count != 1 || math.Abs(s.Latency.Sum-0.040) > 1e-9 {
		t.Errorf("%d in flight, %d finished in %v s; want 0, 1, 0.040 s", s.InFlight, s.Latency.Count, s.Latency.Sum)
	}
}

// A request may end, or turn out to be endless, in a pause. Nothing is counted twice, and the ticket is as new.
func TestPauseThatNobodyEnds(t *testing.T) {
	g := simGuard(t, Config{Min: 2, Max: 2})
	for _, declare := range []bool{false, true} {
		for range 3 {
			p, err := g.AcquireAt(epoch, Default)
			if err != nil {
				t.Fatal(err)
			}
			p.PauseAt(epoch.Add(10 * ms))
			if declare {
				p.EndlessAt(epoch.Add(20 * ms))
				p.ResumeAt(epoch.Add(25 * ms)) // does nothing: an endless request needs no slot
			}
			p.ReleaseAt(epoch.Add(30*ms), Success)
			p.ResumeAt(epoch.Add(40 * ms)) // too late
			p.PauseAt(epoch.Add(40 * ms))
		}
	}
	s := g.SnapshotAt(epoch.Add(50 * ms))
	if s.InFlight != 0 || s.EndlessDeclared != 0 || s.EndlessDeclaredTotal != 3 || s.DoubleReleases != 0 {
		t.Errorf("%+v", s)
	}
	if s.Latency.Count != 3 || math.Abs(s.Latency.Sum-0.030) > 1e-9 {
		t.Errorf("%d finished in %v s, want 3 in 0.030 s", s.Latency.Count, s.Latency.Sum)
	}
}

// Requests that are found to be endless give back the slots that they hold, those in a pause none. One that has been found stays
// without a slot, whatever it does.
func TestPausedRequestsAndEndlessOnes(t *testing.T) {
	g := simGuard(t, Config{Min: 100, Max: 100})
	at := epoch
	var last []Permit
	for i := range 40 {
		p, err := g.AcquireAt(at, Default)
		if err != nil {
			t.Fatal(err)
		}
		if i < 4 {
			last = append(last, p)
			continue
		}
		p.ReleaseAt(at.Add(ms), Success)
	}
	last[0].PauseAt(at.Add(2 * ms))
	last[1].PauseAt(at.Add(2 * ms))
	for range 100 { // long enough for those that are left to be found
		at = at.Add(g.cfg.SLO / 4)
		if p, err := g.AcquireAt(at, Default); err == nil {
			p.ReleaseAt(at.Add(ms), Success)
		}
	}
	if s := g.SnapshotAt(at); s.EndlessFound != 2 || s.InFlight != 0 {
		t.Fatalf("%d found, %d in flight; want 2, 0", s.EndlessFound, s.InFlight)
	}
	last[0].ResumeAt(at)
	last[2].PauseAt(at) // one that was found
	last[3].PauseAt(at)
	last[3].ResumeAt(at)
	if s := g.SnapshotAt(at); s.EndlessFound != 2 || s.InFlight != 1 {
		t.Errorf("%d found, %d in flight; want 2, 1", s.EndlessFound, s.InFlight)
	}
	for _, p := range last {
		p.ReleaseAt(at.Add(ms), Success)
	}
	if s := g.SnapshotAt(at.Add(ms)); s.EndlessFound != 0 || s.InFlight != 0 || s.DoubleReleases != 0 {
		t.Errorf("%d found, %d in flight, %d released twice", s.EndlessFound, s.InFlight, s.DoubleReleases)
	}
}
