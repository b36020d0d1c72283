package guard

import (
	"math"
	"testing"
	"time"
)

// After an overload the limit rests near what the capacity allows. A slow dependency needs nearly as much, so that some
// requests are refused while all are slow: no reason to cut.
func TestSlowDependencyAfterOverloadIsNotCutFor(t *testing.T) {
	for name, c := range map[string]Config{
		"limit alone": {Min: 4, Max: 1000, Fallback: 32},
		"shedding":    {Min: 4, Max: 1000, Fallback: 32, ShedThreshold: 0.6},
	} {
		t.Run(name, func(t *testing.T) {
			eachSeed(t, func(t *testing.T, seed uint64) {
				p := newPlant(simGuard(t, c), seed)
				p.mix = classes{Critical: 0.2, Default: 0.5, Sheddable: 0.3}
				p.servers, p.rate = 8, 100
				p.run(20 * time.Second)
				p.rate = 300
				p.run(20 * time.Second)
				p.rate = 100
				p.run(10 * time.Second)
				rest := p.snapshot().Limit
				p.delay = 250 * time.Millisecond // 16.5 in flight for 100/s
				p.run(15 * time.Second)
				if limit := p.snapshot().Limit; limit < rest {
					t.Errorf("the limit was cut from %d to %d", rest, limit)
				}
				if share := float64(p.refused) / (100 * 15); share > 0.08 {
					t.Errorf("%.1f %% refused by a limit of %d, now %d", 100*share, rest, p.snapshot().Limit)
				}
			})
		})
	}
}

// drive steps a reflex by hand for so many seconds against a service of which the function tells, for a limit, the
// requests finished and refused per second and the mean latency.
func drive(r *reflex, b bounds, seconds float64, service func(limit float64) (finished, refused, mean float64)) {
	t := r.past[len(r.past)-1]
	if !r.started {
		t = tally{at: epoch}
		r.step(t, b)
	}
	for range int(seconds / reflexPeriod.Seconds()) {
		finished, refused, mean := service(r.limit)
		n := uint64(finished * reflexPeriod.Seconds())
		t.at = t.at.Add(reflexPeriod)
		t.finished += n
		t.seconds += float64(n) * mean
		t.refused += uint64(refused * reflexPeriod.Seconds())
		r.step(t, b)
	}
}

func TestRaiseTestTellsAQueueFromADelay(t *testing.T) {
	b := bounds{base: 30, min: 4, ceiling: 200, target: 0.1, fallback: 30}
	calm := func(float64) (float64, float64, float64) { return 200, 0, 0.04 }
	queue := func(limit float64) (float64, float64, float64) { return 200, 40, limit / 200 }
	delay := func(limit float64) (float64, float64, float64) {
		passed := min(200, limit/0.165)
		return passed, 200 - passed, 0.165
	}
	for _, c := range []struct {
		name    string
		service func(float64) (float64, float64, float64)
		least   float64 // the limit at the end
		most    float64
		found   float64 // ŝ
	}{
		{"a queue: cut until its mean is at the target", queue, 15, 24, 0},
		{"a delay: raised", delay, 33, 60, 0.165},
		{"too late already: cut at once", func(float64) (float64, float64, float64) { return 200, 40, 0.31 }, 0, 8, 0},
		{"most are refused: cut at once", func(float64) (float64, float64, float64) { return 200, 240, 0.165 }, 0, 8, 0},
		{"a refusal now and then is no overload", func(float64) (float64, float64, float64) { return 480, 4, 0.165 }, 30, 30, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := newReflex(300*time.Millisecond, 30, false)
			drive(&r, b, 10, calm)
			drive(&r, b, 7, c.service)
			if r.limit < c.least || r.limit > c.most || math.Abs(r.finding.ServiceTime-c.found) > 1e-6 {
				t.Errorf("limit %.1f, ŝ %.3f; expected %v to %v, %v", r.limit, r.finding.ServiceTime, c.least, c.most,
					c.found)
			}
		})
	}
}

// A verdict stands until there has been no overload for five seconds: what goes on is cut without asking again.
func TestVerdictStandsWhileTheOverloadLasts(t *testing.T) {
	b := bounds{base: 30, min: 4, ceiling: 200, target: 0.1, fallback: 30}
	calm := func(float64) (float64, float64, float64) { return 200, 0, 0.04 }
	queue := func(limit float64) (float64, float64, float64) { return 200, 40, limit / 200 }
	r := newReflex(300*time.Millisecond, 30, false)
	drive(&r, b, 10, calm)
	drive(&r, b, 30, queue)
	if r.raise.phase != raiseQueue {
		t.Fatalf("phase %d after half a minute of overload", r.raise.phase)
	}
	drive(&r, b, 3, calm)
	if r.raise.phase != raiseQueue {
		t.Errorf("phase %d after three calm seconds", r.raise.phase)
	}
	drive(&r, b, 4, calm)
	if r.raise.phase != raiseIdle {
		t.Errorf("phase %d after seven calm seconds", r.raise.phase)
	}
}

// A ceiling that leaves no room to raise the limit leaves no room for a test: the law cuts.
func TestNoRaiseAboveTheCeiling(t *testing.T) {
	b := bounds{base: 30, min: 4, ceiling: 36, target: 0.1, fallback: 30}
	r := newReflex(300*time.Millisecond, 30, false)
	drive(&r, b, 2, func(limit float64) (float64, float64, float64) { return 200, 40, limit / 200 })
	if r.limit >= 30 {
		t.Errorf("limit %.1f, expected a cut", r.limit)
	}
}

// While the floor test holds the limit down hardly anything finishes, and that is what it wants to know: it is judged
// all the same, and the limit comes back.
func TestFloorTestIsJudgedByFewRequests(t *testing.T) {
	b := bounds{base: 8, min: 2, ceiling: 200, target: 0.1, fallback: 8}
	r := newReflex(300*time.Millisecond, 8, false)
	drive(&r, b, 10, func(float64) (float64, float64, float64) { return 160, 0, 0.04 }) // the floor is at 6.4
	slow := func(limit float64) (float64, float64, float64) {
		passed := limit / 0.24
		return passed, 160 - passed, 0.24
	}
	drive(&r, b, 12, slow)
	if r.finding.ServiceTime < 0.2 {
		t.Errorf("ŝ %.3f, limit %.1f, phase %s: expected 0.24", r.finding.ServiceTime, r.limit, r.finding.Phase)
	}
	if r.limit < 6 {
		t.Errorf("limit %.1f, expected it to come back", r.limit)
	}
}
