package actuators

import (
	"fmt"
	"strings"
)

// Bounds of the contract. Within them every number of a Setting is exact in languages whose only number is a float64,
// and arithmetic on it is far from overflow.
const (
	MaxOrdinal      = 1<<53 - 1     // of epoch and revision
	MaxByHand       = 1 << 52       // of an epoch or revision that a writer continues from: beyond, too few are left above it
	MaxCount        = 1_000_000_000 // of requests in flight and of instances
	MaxPerSecond    = 1e12          // of rates and bursts
	MaxBorrow       = 8             // of rates
	MaxSeconds      = 3600          // of latency targets
	MaxLeaseSeconds = 86400
)

// Problem is one thing wrong with a Setting.
type Problem struct {
	Field string // the field by its JSON path: "concurrency.limit"
	Value string // as found: "0", "missing", "null"
	Want  string // what was expected: "a whole number, 20 to 400 (concurrency.min to concurrency.max)"
}

func (p Problem) String() string {
	return fmt.Sprintf("%s: %s, expected %s", p.Field, p.Value, p.Want)
}

// Problems is an error that holds everything wrong with a Setting, not only the first problem.
type Problems []Problem

func (ps Problems) Error() string {
	lines := make([]string, len(ps))
	for i, p := range ps {
		lines[i] = p.String()
	}
	return strings.Join(lines, "; ")
}

// Validate returns nil, or Problems with every field that breaks the contract: schema, a usable service name, epoch and
// revision of at least 1, a lease, at least one knob, and each knob's values inside its own hard min and max.
func (s Setting) Validate() error {
	var v validator
	v.check(s.Schema >= 1 && s.Schema <= Schema, "schema", s.Schema, fmt.Sprintf("a whole number, 1 to %d", Schema))
	if err := ValidCompartment(s.Service); err != nil {
		v.check(false, "service", quote(s.Service), err.Error())
	}
	if s.Callee != "" {
		_, route := SplitCompartment(s.Service)
		v.check(route == "", "callee", quote(s.Callee), "none, because a route has no calls of its own")
		if err := ValidServiceName(s.Callee); err != nil {
			v.check(false, "callee", quote(s.Callee), err.Error())
		}
		v.check(s.Rate == nil && s.Shed == nil && s.Retry == nil, "knobs", "rate, shed or retry",
			"concurrency only, because the setting is for the calls to a dependency")
	}
	ordinal := fmt.Sprintf("a whole number, 1 to %d", uint64(MaxOrdinal))
	v.check(s.Epoch >= 1 && s.Epoch <= MaxOrdinal, "epoch", s.Epoch, ordinal)
	v.check(s.Revision >= 1 && s.Revision <= MaxOrdinal, "revision", s.Revision, ordinal)
	v.check(s.LeaseSeconds > 0 && s.LeaseSeconds <= MaxLeaseSeconds, "lease_seconds", s.LeaseSeconds,
		fmt.Sprintf("seconds, above 0 and at most %d", MaxLeaseSeconds))
	v.check(s.Concurrency != nil || s.Rate != nil || s.Shed != nil || s.Retry != nil, "knobs", "none",
		"at least one of concurrency, rate, shed, retry")
	if c := s.Concurrency; c != nil {
		c.validate(&v)
	}
	if r := s.Rate; r != nil {
		r.validate(&v)
	}
	if d := s.Shed; d != nil {
		v.share("shed", "threshold", d.Threshold, d.Fallback, d.Min, d.Max)
	}
	if r := s.Retry; r != nil {
		v.share("retry", "budget_ratio", r.BudgetRatio, r.Fallback, r.Min, r.Max)
	}
	return v.err()
}

func (c *Concurrency) validate(v *validator) {
	v.check(c.Min >= 1 && c.Min <= MaxCount, "concurrency.min", c.Min, fmt.Sprintf("a whole number, 1 to %d", MaxCount))
	v.check(c.Max >= c.Min && c.Max <= MaxCount, "concurrency.max", c.Max,
		fmt.Sprintf("a whole number, %d (concurrency.min) to %d", c.Min, MaxCount))
	bounds := fmt.Sprintf("a whole number, %d to %d (concurrency.min to concurrency.max)", c.Min, c.Max)
	v.check(c.Limit >= 1 && c.Limit >= c.Min && c.Limit <= c.Max, "concurrency.limit", c.Limit, bounds)
	v.check(c.Fallback >= 1 && c.Fallback >= c.Min && c.Fallback <= c.Max, "concurrency.fallback", c.Fallback, bounds)
	v.check(c.Ceiling >= 1 && c.Ceiling >= c.Limit && c.Ceiling <= c.Max, "concurrency.ceiling", c.Ceiling,
		fmt.Sprintf("a whole number, %d to %d (concurrency.limit to concurrency.max)", c.Limit, c.Max))
	v.check(c.LatencyTargetSeconds > 0 && c.LatencyTargetSeconds <= MaxSeconds, "concurrency.latency_target_seconds",
		c.LatencyTargetSeconds, fmt.Sprintf("seconds, above 0 and at most %d", MaxSeconds))
}

func (r *Rate) validate(v *validator) {
	v.check(r.Min >= 0 && r.Min <= MaxPerSecond, "rate.min", r.Min, fmt.Sprintf("per second, 0 to %g", MaxPerSecond))
	v.check(r.Max > 0 && r.Max >= r.Min && r.Max <= MaxPerSecond, "rate.max", r.Max,
		fmt.Sprintf("per second, above 0, %g (rate.min) to %g", r.Min, MaxPerSecond))
	bounds := fmt.Sprintf("per second, %g to %g (rate.min to rate.max)", r.Min, r.Max)
	v.check(r.PerSecond >= r.Min && r.PerSecond <= r.Max, "rate.per_second", r.PerSecond, bounds)
	v.check(r.Fallback >= r.Min && r.Fallback <= r.Max, "rate.fallback", r.Fallback, bounds)
	v.check(r.Burst >= 1 && r.Burst <= MaxPerSecond, "rate.burst", r.Burst, fmt.Sprintf("tokens, 1 to %g", MaxPerSecond))
	v.check(r.Instances >= 1 && r.Instances <= MaxCount, "rate.instances", r.Instances,
		fmt.Sprintf("a whole number, 1 to %d", MaxCount))
	v.check(r.Borrow >= 0 && r.Borrow <= MaxBorrow, "rate.borrow", r.Borrow, fmt.Sprintf("a factor, 0 to %d", MaxBorrow))
}

// validator gathers problems. Conditions are written so that NaN, which compares false with everything, fails them.
type validator struct{ problems Problems }

func (v *validator) check(ok bool, field string, value any, want string) {
	if !ok {
		v.problems = append(v.problems, Problem{Field: field, Value: fmt.Sprint(value), Want: want})
	}
}

// share validates a knob whose value is in 0..1.
func (v *validator) share(knob, name string, value, fallback, lo, hi float64) {
	v.check(lo >= 0 && lo <= 1, knob+".min", lo, "a share, 0 to 1")
	v.check(hi >= lo && hi <= 1, knob+".max", hi, fmt.Sprintf("a share, %g (%s.min) to 1", lo, knob))
	bounds := fmt.Sprintf("a share, %g to %g (%s.min to %s.max)", lo, hi, knob, knob)
	v.check(value >= lo && value <= hi, knob+"."+name, value, bounds)
	v.check(fallback >= lo && fallback <= hi, knob+".fallback", fallback, bounds)
}

func (v *validator) err() error {
	if len(v.problems) == 0 {
		return nil
	}
	return v.problems
}

// quote shows foreign text in an error: quoted, so that control characters cannot forge a log line, and shortened.
func quote(text string) string {
	const most = 80
	if len(text) > most {
		return fmt.Sprintf("%q…", text[:most])
	}
	return fmt.Sprintf("%q", text)
}
