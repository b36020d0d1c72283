package guard

import (
	"math"
	"math/rand/v2"
	"testing"

	"pgregory.net/rapid"
)

// The bounds of Space-Saving hold against exact counting, for any stream of keys and weights that fade now and then.
func TestHeavyAgainstExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 0))
		keys := rapid.IntRange(1, 1000).Draw(t, "keys")
		skew := rapid.Float64Range(0, 4).Draw(t, "skew")
		var h heavy
		exact, total := map[uint64]float64{}, 0.0
		for range rapid.IntRange(0, 5000).Draw(t, "additions") {
			key, weight := uint64(float64(keys)*math.Pow(r.Float64(), 1+skew)), r.ExpFloat64()
			h.add(key, Criticality(r.IntN(criticalities)), weight, true)
			exact[key] += weight
			total += weight
			if r.IntN(500) == 0 {
				h.fade(0.5)
				total *= 0.5
				for k := range exact {
					exact[k] *= 0.5
				}
			}
		}
		slack := 1e-9 * (1 + total)
		if math.Abs(h.total-total) > slack || len(h.counters) > heavyKeys || len(h.at) != len(h.counters) {
			t.Fatalf("total %v of %v, %d counters, %d indexed", h.total, total, len(h.counters), len(h.at))
		}
		known := 0.0
		for i, c := range h.counters {
			if weight := exact[c.key]; h.at[c.key] != i || weight > c.weight()+slack || weight < c.least()-slack {
				t.Fatalf("counter %+v, exact %v", c, weight)
			}
			if c.excess > total/heavyKeys+slack {
				t.Fatalf("excess %v of %v", c.excess, total)
			}
			known += c.least()
		}
		if math.Abs(h.rest()-(total-known)) > slack {
			t.Fatalf("rest %v, expected %v", h.rest(), total-known)
		}
		for key, weight := range exact {
			if _, ok := h.at[key]; !ok && weight > total/heavyKeys+slack {
				t.Fatalf("key %d weighs %v of %v and has no counter", key, weight, total)
			}
		}
	})
}

// A million keys take no more room than 64, and counting allocates nothing.
func TestHeavyOfAMillionKeys(t *testing.T) {
	var h heavy
	key := uint64(0)
	add := func() {
		for range 1_000_000 {
			key++
			h.add(key, Default, 1, true)
		}
	}
	add()
	if n := testing.AllocsPerRun(1, add); n > 0 {
		t.Errorf("%v allocations", n)
	}
	if len(h.counters) != heavyKeys || cap(h.counters) > 2*heavyKeys || len(h.at) != heavyKeys {
		t.Errorf("%d counters, room for %d, %d indexed", len(h.counters), cap(h.counters), len(h.at))
	}
	if sure := h.counters[0].least(); sure != 1 {
		t.Errorf("a key that came once weighs %v for sure", sure)
	}
}
