package guard

import (
	"math"
	"testing"
	"time"
)

// spend takes retries until the budget is empty.
func spend(b *retryBudget, now time.Duration, ratio float64) (n int) {
	for b.take(now, ratio, 1) {
		n++
	}
	return n
}

// traffic sends perSecond calls a second for so long, and returns the instant of its end.
func traffic(b *retryBudget, from, long time.Duration, perSecond int, ratio float64) time.Duration {
	gap := time.Second / time.Duration(perSecond)
	for at := from; at < from+long; at += gap {
		b.call(at, ratio)
	}
	return from + long
}

// A26 (grpc/proposal PR 27): an hour of good calls does not buy an hour of retries. In the first second of an outage, the
// saved depth of 0.5 s of traffic is there; then a tenth of the calls.
func TestBudgetDoesNotSaveForAStorm(t *testing.T) {
	var b retryBudget
	now := traffic(&b, 0, time.Hour, 1000, 0.1)
	first := 0
	for second := range 10 {
		retries := 0
		for range 1000 {
			b.call(now, 0.1)
			for range 2 { // three attempts are allowed
				if b.take(now, 0.1, 1) {
					retries++
				}
			}
			now += time.Millisecond
		}
		if second == 0 {
			first = retries
			continue
		}
		if retries < 95 || retries > 105 {
			t.Errorf("second %d of the outage: %d retries, expected a tenth of 1000 calls", second, retries)
		}
	}
	if first < 590 || first > 610 {
		t.Errorf("first second: %d retries, expected the depth of 500 and 100 more", first)
	}
}

func TestBudgetHasAReserveForLittleTraffic(t *testing.T) {
	var b retryBudget
	b.call(0, 0.1)
	if n := spend(&b, 0, 0.1); n != 10 {
		t.Errorf("%d retries at the start, expected 10", n)
	}
	now := traffic(&b, time.Second, 1000*time.Second, 1, 0.1)
	if n := spend(&b, now, 0.1); n != 10 {
		t.Errorf("%d retries after a thousand calls at 1/s, expected 10", n)
	}
	// After a busy hour, an idle one: the depth follows the traffic down.
	now = traffic(&b, now, time.Minute, 1000, 0.1)
	now += time.Hour
	b.call(now, 0.1)
	if n := spend(&b, now, 0.1); n != 10 {
		t.Errorf("%d retries after an idle hour, expected 10", n)
	}
}

// A person's 0 stops retries at once and takes the saved tokens; afterwards they are earned anew.
func TestBudgetOfZeroStopsAtOnce(t *testing.T) {
	for name, zero := range map[string]float64{"zero": 0, "negative": -1, "no number": math.NaN()} {
		var b retryBudget
		now := traffic(&b, 0, 10*time.Second, 1000, 0.1)
		if n := spend(&b, now, zero); n != 0 {
			t.Errorf("%s: %d retries", name, n)
		}
		if n := spend(&b, now, 0.1); n != 0 {
			t.Errorf("%s: %d retries from saved tokens when the budget came back", name, n)
		}
		now = traffic(&b, now, time.Second, 1000, 0.1)
		if n := spend(&b, now, 0.1); n < 95 || n > 105 {
			t.Errorf("%s: %d retries a second later, expected about 100", name, n)
		}
	}
}

// A24 (tikv/pd#10744): a clock that goes back mints nothing.
func TestBudgetIgnoresAClockThatGoesBack(t *testing.T) {
	var b retryBudget
	now := traffic(&b, time.Hour, time.Minute, 100, 0.1)
	total := 0
	for i := range 1000 {
		at := now + 10*time.Millisecond
		if i%2 == 0 {
			at = now - time.Hour
		}
		total += spend(&b, at, 0.1)
	}
	if total != 50 {
		t.Errorf("%d retries without a call in between, expected the depth of 50", total)
	}
}

// A ratio above 1 counts as 1: a budget cannot grow faster than the calls.
func TestBudgetRatioIsAtMostOne(t *testing.T) {
	var b retryBudget
	spend(&b, 0, 50)
	now := traffic(&b, 0, 50*time.Millisecond, 100, 50)
	if n := spend(&b, now, 50); n != 5 {
		t.Errorf("%d retries for 5 calls, expected 5", n)
	}
}
