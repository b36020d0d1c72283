package control

import (
	"encoding/json"
	"math"
	"strconv"
)

// Reason says why a reading is missing or a loop holds. The API, the journal and govtop use these words.
type Reason string

// The reasons. Free text belongs in the accompanying Detail.
const (
	NaN              Reason = "nan"
	NotFinite        Reason = "not_finite"
	NoData           Reason = "no_data"
	Idle             Reason = "idle"
	ManySeries       Reason = "many_series"
	Partial          Reason = "partial"
	TooLittleTraffic Reason = "too_little_traffic"
	Stale            Reason = "stale"
	Implausible      Reason = "implausible"
	Timeout          Reason = "timeout"
	QueryError       Reason = "query_error"
	Clock            Reason = "clock"
	Starting         Reason = "starting"
)

// Reading is one measured quantity: a finite value, or the reason why there is none. The zero Reading is missing
// (NoData), so that an unset field can never pass for the number zero.
type Reading struct {
	value  float64
	known  bool
	reason Reason
	detail string
}

// Read returns the Reading of v. NaN and infinities become missing readings with the reasons NaN and NotFinite.
func Read(v float64) Reading {
	switch {
	case math.IsNaN(v):
		return Missing(NaN, "")
	case math.IsInf(v, 0):
		return Missing(NotFinite, "")
	}
	return Reading{value: v, known: true}
}

// Missing returns a Reading without a value.
func Missing(why Reason, detail string) Reading { return Reading{reason: why, detail: detail} }

// Value returns the value and whether it is known. An unknown value is NaN, so that arithmetic that fails to check
// visibly spoils its result instead of acting on a zero.
func (r Reading) Value() (float64, bool) {
	if !r.known {
		return math.NaN(), false
	}
	return r.value, true
}

// Or returns the value, or def if it is unknown.
func (r Reading) Or(def float64) float64 {
	if !r.known {
		return def
	}
	return r.value
}

// Why returns the reason and detail of a missing reading; both are empty for a known one.
func (r Reading) Why() (Reason, string) {
	if r.known {
		return "", ""
	}
	if r.reason == "" {
		return NoData, r.detail
	}
	return r.reason, r.detail
}

// Float returns the value, or NaN if it is unknown. Use it in formulas whose result is then also unknown.
func (r Reading) Float() float64 {
	v, _ := r.Value()
	return v
}

// Number returns the value as it stands in a Decision.
func (r Reading) Number() Number { return Number(r.Float()) }

// Known reports whether there is a value.
func (r Reading) Known() bool { return r.known }

// Above reports whether the value is known and greater than x. All comparisons are false for an unknown value: it is
// neither above x nor at most x.
func (r Reading) Above(x float64) bool { return r.known && r.value > x }

// AtLeast reports whether the value is known and at least x.
func (r Reading) AtLeast(x float64) bool { return r.known && r.value >= x }

// AtMost reports whether the value is known and at most x.
func (r Reading) AtMost(x float64) bool { return r.known && r.value <= x }

// Below reports whether the value is known and less than x.
func (r Reading) Below(x float64) bool { return r.known && r.value < x }

// The arithmetic of Readings. If an operand is missing, the result is missing for the same reason (the first operand's
// if both are missing), because a part does not stand for the whole. A result that is not finite is also missing.

// Plus returns r + o.
func (r Reading) Plus(o Reading) Reading {
	return r.with(o, func(a, b float64) float64 { return a + b })
}

// Less returns r − o, but never less than 0: extrapolated counts from Prometheus may differ slightly in the wrong
// direction.
func (r Reading) Less(o Reading) Reading {
	return r.with(o, func(a, b float64) float64 { return max(0, a-b) })
}

// Times returns r·o.
func (r Reading) Times(o Reading) Reading {
	return r.with(o, func(a, b float64) float64 { return a * b })
}

// Over returns r/o. If o is 0 the result is missing rather than zero, and none is its detail.
func (r Reading) Over(o Reading, none string) Reading {
	if r.known && o.known && o.value == 0 {
		return Missing(NoData, none)
	}
	return r.with(o, func(a, b float64) float64 { return a / b })
}

// ShareOf returns r as a share of whole, at most 1 because both may be extrapolated. A share of zero is missing.
func (r Reading) ShareOf(whole Reading) Reading {
	share := r.Over(whole, "a share of nothing")
	if share.Above(1) {
		return Read(1)
	}
	return share
}

func (r Reading) with(o Reading, f func(a, b float64) float64) Reading {
	switch {
	case !r.known:
		return r
	case !o.known:
		return o
	}
	return Read(f(r.value, o.value))
}

// Number is a float64 whose JSON form is null if it is NaN or infinite, because encoding/json refuses those values.
type Number float64

// Known reports whether n is a number at all: neither NaN nor infinite.
func (n Number) Known() bool { return !math.IsNaN(float64(n)) && !math.IsInf(float64(n), 0) }

// MarshalJSON implements json.Marshaler.
func (n Number) MarshalJSON() ([]byte, error) {
	if !n.Known() {
		return []byte("null"), nil
	}
	return json.Marshal(float64(n))
}

// UnmarshalJSON implements json.Unmarshaler: null becomes NaN.
func (n *Number) UnmarshalJSON(b []byte) error {
	if string(b) == "null" {
		*n = Number(math.NaN())
		return nil
	}
	// This is the fast path: a screen reads about forty Numbers per decision. json.Unmarshal reports the error
	// otherwise.
	if f, err := strconv.ParseFloat(string(b), 64); err == nil {
		*n = Number(f)
		return nil
	}
	return json.Unmarshal(b, (*float64)(n))
}
