package little

import (
	"math"
	"testing"
	"time"
)

var t0 = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return t0.Add(time.Duration(seconds * float64(time.Second))) }

// TestOwnLatencyIgnoresTheCrisis: an hour of overload at twice the latency does not move the estimate; a service that is
// really slower, and healthy, does.
func TestOwnLatencyIgnoresTheCrisis(t *testing.T) {
	o := NewOwnLatency(300*time.Millisecond, 20*time.Second)
	if got := o.Seconds(); got != 0.23*0.3 {
		t.Errorf("before anything was seen: %v, want the prior 0.069", got)
	}
	second := 0.0
	observe := func(windows int, mean float64, healthy bool) {
		for range windows {
			second += 20
			o.Observe(at(second), mean, healthy)
		}
	}
	observe(1, 0.05, false)
	if got := o.Seconds(); got != 0.05 {
		t.Errorf("before any healthy window: %v, want the smallest mean seen", got)
	}
	observe(15, 0.04, true)
	observe(180, 1.2, false)
	if got := o.Seconds(); got != 0.04 {
		t.Errorf("after an hour of crisis: %v, want 0.04", got)
	}
	observe(15, 0.08, true)
	if got := o.Seconds(); got != 0.08 {
		t.Errorf("after five healthy minutes at 80 ms: %v", got)
	}
	for _, odd := range []float64{math.NaN(), math.Inf(1), 0, -1} {
		observe(1, odd, true)
	}
	if got := o.Seconds(); got != 0.08 {
		t.Errorf("odd means moved it to %v", got)
	}
}

// TestOwnLatencyCountsWindowsOnce: means of overlapping windows are one observation.
func TestOwnLatencyCountsWindowsOnce(t *testing.T) {
	o := NewOwnLatency(300*time.Millisecond, 20*time.Second)
	for i := range 15 {
		o.Observe(at(20*float64(i)), 0.04, true)
	}
	for i := range 30 { // 30 s of a faster service, looked at every second: two windows
		o.Observe(at(300+float64(i)), 0.01, true)
	}
	if got := o.Seconds(); got != 0.04 {
		t.Errorf("%v: half a minute outweighed five", got)
	}
}

func TestCarriedFadesOverAnHour(t *testing.T) {
	var c Carried
	c.Observe(at(0), 800)
	c.Observe(at(60), 300)
	c.Observe(at(61), math.NaN())
	if got := c.PerSecond(at(300)); got < 700 || got > 800 {
		t.Errorf("after five minutes %v, want nearly 800", got)
	}
	if got := c.PerSecond(at(3600)); math.Abs(got-800/math.E) > 1 {
		t.Errorf("after an hour %v, want 800/e", got)
	}
	c.Observe(at(3600), 500)
	if got := c.PerSecond(at(3600)); got != 500 {
		t.Errorf("%v after carrying 500 again", got)
	}
}

func TestSetpoint(t *testing.T) {
	for _, c := range []struct {
		name                           string
		target, serviceTime, slo, want float64
	}{
		{"no service time stands", 0.12, 0, 0.3, 0.12},
		{"a quarter above it", 0.12, 0.16, 0.3, 0.2},
		{"never below the target", 0.25, 0.16, 0.3, 0.25},
		{"at most 0.8 of the SLO", 0.12, 0.2, 0.3, 0.24},
		{"but a twentieth above it", 0.12, 0.24, 0.3, 0.252},
		{"a service slower than its SLO", 0.12, 1, 0.3, 1.05},
	} {
		if got := Setpoint(c.target, c.serviceTime, c.slo); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
}

// bench steps a FloorTest every five seconds against a service whose throughput is a function of the limit.
type bench struct {
	test   FloorTest
	second float64
	limit  float64
}

func newBench(limit float64) *bench {
	return &bench{limit: limit, test: FloorTest{Dwell: 20 * time.Second, Window: 20 * time.Second, Hold: 300 * time.Second}}
}

func (b *bench) run(seconds float64, s Sample, throughput func(limit float64) float64) (last Finding) {
	for end := b.second + seconds; b.second < end; b.second += 5 {
		s.Limit, s.Throughput = b.limit, throughput(b.limit)
		last = b.test.Step(at(b.second), s)
		if last.Limit > 0 {
			b.limit = last.Limit
		}
		if last.Restore > 0 {
			b.limit = last.Restore
		}
	}
	return last
}

// stuck is a service at its floor of 32, slow and refusing.
var stuck = Sample{Mean: 0.2, Refusing: true, Floor: 32, Min: 4, Target: 0.12}

// TestLimitingCannotHelp: throughput falls with the limit, so the limit comes back and ŝ stands, until the service is fast
// again or the finding is old.
func TestLimitingCannotHelp(t *testing.T) {
	slow := func(limit float64) float64 { return limit / 0.2 }
	b := newBench(32)
	b.run(25, stuck, slow)
	if b.limit != 16 {
		t.Fatalf("limit %v after the dwell, want it halved", b.limit)
	}
	f := b.run(30, stuck, slow)
	if b.limit != 32 || f.ServiceTime != 0.2 {
		t.Fatalf("limit %v, ŝ %v: want 32 again and ŝ = 0.2", b.limit, f.ServiceTime)
	}
	if f = b.run(60, stuck, slow); f.Phase != Idle || f.ServiceTime != 0.2 {
		t.Errorf("phase %s, ŝ %v while the finding stands", f.Phase, f.ServiceTime)
	}
	fast := stuck
	fast.Mean = 0.1
	if f = b.run(5, fast, slow); f.ServiceTime != 0 {
		t.Errorf("ŝ %v of a service that is fast again", f.ServiceTime)
	}
}

// TestCapacityHasShrunk: throughput stays, so half the limit is the new floor, as long as the finding stands.
func TestCapacityHasShrunk(t *testing.T) {
	small := func(float64) float64 { return 100 }
	b := newBench(32)
	f := b.run(60, stuck, small)
	if b.limit != 16 || f.Floor != 16 || f.ServiceTime != 0 {
		t.Fatalf("limit %v, floor %v, ŝ %v: want 16, 16 and none", b.limit, f.Floor, f.ServiceTime)
	}
	calm := stuck
	calm.Mean, calm.Refusing = 0.05, false
	if f = b.run(300, calm, small); f.Floor != 32 {
		t.Errorf("floor %v after the finding has lapsed, want 32", f.Floor)
	}
}

// TestAtTheMinimumThereIsNothingToTry: a limit that cannot be halved sets ŝ at once.
func TestAtTheMinimumThereIsNothingToTry(t *testing.T) {
	s := stuck
	s.Min, s.Floor = 30, 20
	b := newBench(31)
	if f := b.run(25, s, func(limit float64) float64 { return limit / 0.2 }); f.ServiceTime != 0.2 || b.limit != 31 {
		t.Errorf("ŝ %v, limit %v: want ŝ = 0.2 and the limit as it was", f.ServiceTime, b.limit)
	}
}

// TestNoTestWithoutCause: a limit above its floor, a service that is fast or does not refuse, an interrupted dwell.
func TestNoTestWithoutCause(t *testing.T) {
	for name, change := range map[string]func(*Sample){
		"fast":         func(s *Sample) { s.Mean = 0.1 },
		"not refusing": func(s *Sample) { s.Refusing = false },
		"above floor":  func(s *Sample) { s.Floor = 20 },
	} {
		s := stuck
		change(&s)
		b := newBench(32)
		if b.run(300, s, func(limit float64) float64 { return limit / 0.2 }); b.limit != 32 {
			t.Errorf("%s: limit %v", name, b.limit)
		}
	}
	b := newBench(32)
	fast := stuck
	fast.Mean = 0.1
	for range 10 {
		b.run(15, stuck, func(float64) float64 { return 100 })
		b.run(5, fast, func(float64) float64 { return 100 })
	}
	if b.limit != 32 {
		t.Errorf("limit %v though the condition never held for a whole dwell", b.limit)
	}
}

func TestAbortRestoresTheLimit(t *testing.T) {
	b := newBench(32)
	b.run(25, stuck, func(limit float64) float64 { return limit / 0.2 })
	if restore := b.test.Abort(); restore != 32 {
		t.Errorf("restore %v, want 32", restore)
	}
	if restore := b.test.Abort(); restore != 0 {
		t.Errorf("restore %v from no test", restore)
	}
}

func TestWithCalls(t *testing.T) {
	for _, c := range []struct {
		name                              string
		target, wait, calmWait, own, want float64
	}{
		{"no calls", 0.12, 0, 0, 0.04, 0.12},
		{"calls that take nothing in calm", 0.12, 0.2, 0, 0.04, 0.32},
		{"calls take a third of the SLO in calm", 0.12, 0.1, 0.1, 0.04, 0.1 + 0.08},
		{"and ten times as much now", 0.12, 1, 0.1, 0.04, 1 + 0.08},
		{"calls leave less than the own work needs", 0.12, 0.25, 0.25, 0.04, 0.25 + 0.05},
		{"calls take more than the SLO in calm", 0.12, 0.4, 0.4, 0.04, 0.4 + 0.05},
		{"the own work needs more than the target", 0.12, 0.1, 0.1, 0.2, 0.1 + 0.12},
	} {
		if got := WithCalls(c.target, c.wait, c.calmWait, c.own, 0.3); math.Abs(got-c.want) > 1e-12 {
			t.Errorf("%s: %v, expected %v", c.name, got, c.want)
		}
	}
}
