package control

import (
	"strings"
	"testing"
)

// TestWhatIsAlwaysBadKeepsNoLimitDown: a service of which a few requests fail, or are late, whatever its load violates its
// SLO for good. An overload has brought its limit down; when that is over the limit must come back, or the service
// refuses half of a load that it carried before, forever.
func TestWhatIsAlwaysBadKeepsNoLimitDown(t *testing.T) {
	for name, always := range map[string]load{"failed": {failed: 0.002}, "late": {slow: 0.012}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, checkout(), 96)
			for range 60 {
				l := traffic(r.in.Value)
				l.failed, l.slow = always.failed, always.slow
				r.step(l.measurement())
			}
			for range 24 { // two minutes with capacity for 100/s
				limit := r.in.Value
				r.step(load{
					rate: 480, refused: 380, mean: limit / 100, p99: limit/100 + 0.1, inFlight: limit, binding: 1, limit: limit,
					slow: 0.3, failed: always.failed,
				}.measurement())
			}
			if r.in.Value > 30 {
				t.Fatalf("limit %v after the overload, want it low", r.in.Value)
			}
			named := false
			for range 24 { // 480/s at 80 ms again, which needs 38.4
				limit := r.in.Value
				carried := min(480, limit/0.08)
				l := load{rate: 480, refused: 480 - carried, mean: 0.08, p99: 0.16, inFlight: carried * 0.08, limit: limit}
				if l.refused > 0 {
					l.binding = 1
				}
				l.failed, l.slow = always.failed, always.slow
				d := r.step(l.measurement())
				if d.Value > d.From {
					named = d.Gates.FloorTest == RaiseTestRaised && strings.Contains(d.Reason, "raise test")
					if !named {
						t.Errorf("a raise while the SLO is violated does not name its test: %s", d.Reason)
					}
				}
			}
			if r.in.Value < 39 || !named {
				t.Errorf("limit %v after two minutes in which nothing queued, want at least 39", r.in.Value)
			}
			queued := load{rate: 480, refused: 80, mean: 0.16, p99: 0.25, inFlight: r.in.Value, binding: 1, limit: r.in.Value, failed: always.failed, slow: 0.012}
			if d := r.step(queued.measurement()); d.Value > d.From {
				t.Errorf("raised while it queues and violates the SLO: %s", d.Reason)
			}
		})
	}
}

// TestWhatFailsWithTheLoadIsNotRaised: a service that fails fast when it has too much to do shows no latency. What it fails
// grows with the limit, so that the test ends, and is not repeated at once.
func TestWhatFailsWithTheLoadIsNotRaised(t *testing.T) {
	r := newRig(t, checkout(), 60)
	for range 60 {
		r.step(traffic(r.in.Value).measurement())
	}
	r.in.Value = 20
	r.s.Restore(r.now, KnobConcurrency, r.in)
	for range 40 { // above 20 in flight each additional one fails 1% more
		limit := r.in.Value
		l := load{rate: 900, refused: 900 - limit/0.08, mean: 0.08, p99: 0.16, inFlight: limit, binding: 1, limit: limit}
		l.failed = 0.02 + 0.01*(limit-20)
		r.step(l.measurement())
	}
	if r.in.Value > 40 {
		t.Errorf("limit %v in 200 s, where each raise made more fail", r.in.Value)
	}
}
