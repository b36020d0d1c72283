package control

import (
	"math"
	"testing"

	"pgregory.net/rapid"
)

func TestBorrow(t *testing.T) {
	half := []float64{500, 55, 55, 55, 55, 55, 55, 55, 55, 60} // of 1000/s at one of ten instances
	for _, tc := range []struct {
		name     string
		rate     float64
		n        int
		arrivals []float64
		before   float64
		want     float64
	}{
		{"even demand", 1000, 4, []float64{200, 200, 200, 200}, 1, 1},
		{"even overload", 1000, 4, []float64{2000, 2000, 2000, 2000}, 1, 1},
		{"one of ten has half, and it fits", 1000, 10, half, 1, 5},
		{"the same at half the load", 2000, 10, half, 1, 5},
		{"the busy one is the only one with too much", 500, 10, half, 1, 0.1}, // (500 − 500 of the others): an even share
		{"what the others leave", 900, 10, half, 1, 400. / 90},
		{"nobody measured", 1000, 10, nil, 3, 1},
		{"nobody comes", 1000, 2, []float64{0, 0}, 1, 1},
		{"one was not seen", 300, 3, []float64{150, 20}, 1, 5. / 3},
		{"one of a hundred has all", 1000, 100, append(make([]float64, 99), 900), 1, MaxBorrow},
		{"a bit more than before changes nothing", 1000, 10, half, 4.9, 4.9},
		{"much more lent than needed is taken back", 1000, 4, []float64{200, 200, 200, 200}, 2, 1},
		{"demand that has become even is not served twice", 1000, 4, []float64{2000, 2000, 2000, 2000}, 1.2, 1},
		{"no rate", 0, 4, []float64{1}, 1, 1},
	} {
		if got := Borrow(tc.rate, tc.n, tc.arrivals, tc.before); math.Abs(got-max(1, tc.want)) > 0.001 {
			t.Errorf("%s: %v, want %v", tc.name, got, tc.want)
		}
	}
}

// Whatever arrives where, and whatever is lent: the instances together admit no more than the rate and its slack, and what
// fits is admitted, up to what one may borrow.
func TestBorrowKeepsTheRate(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		rate := rapid.Float64Range(1, 1e6).Draw(t, "rate")
		n := rapid.IntRange(1, 40).Draw(t, "instances")
		arrivals := rapid.SliceOfN(rapid.Float64Range(0, 1e6), 1, n).Draw(t, "arrivals")
		before := rapid.Float64Range(1, MaxBorrow).Draw(t, "before")
		borrow := Borrow(rate, n, arrivals, before)
		if !(borrow >= 1 && borrow <= MaxBorrow) {
			t.Fatalf("%v", borrow)
		}
		level, admitted, all, largest := borrow*rate/float64(n), 0.0, 0.0, 0.0
		for _, d := range arrivals {
			admitted, all, largest = admitted+min(d, level), all+d, max(largest, d)
		}
		if admitted > (1+borrowSlack)*rate*(1+1e-9) {
			t.Fatalf("%v of %v admitted with %v", admitted, rate, borrow)
		}
		fits := all+float64(n-len(arrivals))*rate/float64(n) <= rate && largest <= MaxBorrow*rate/float64(n)
		if fits && admitted < (1-borrowSlack)*all-borrowSlack*rate-1e-9 {
			t.Fatalf("%v of %v admitted with %v, though it fits into %v", admitted, all, borrow, rate)
		}
	})
}
