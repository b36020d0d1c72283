// Package actuators defines the wire contract between governor and the services it steers: the Setting, one JSON
// document per service in Consul KV that carries every knob of the service atomically.
//
// Anything that can read a KV store can read a Setting: guard, the sidecar, consul-template. So the keys and fields
// below are a public, versioned interface. Three rules hold for every reader; this package enforces them:
//
//   - unknown fields are ignored, a higher schema is refused;
//   - a value outside its own hard min and max is refused, and so is a missing required number;
//   - order is (epoch, revision): an older epoch, or a lower revision at the same epoch, is refused.
//
// A refused Setting changes nothing: the reader keeps the last good one. Services import this package, so it imports
// the standard library only.
package actuators

import (
	"math"
	"time"
)

// Schema is the version of the Setting document that this package writes, and the highest that it reads.
const Schema = 1

// DefaultLeaseSeconds is the default lease of a Setting. Readers count it on their own monotonic clock from receipt.
// The leader renews it after every third of the lease while the service's measurements are valid.
const DefaultLeaseSeconds = 180

// Setting is the value of governor/services/<service>/setting. A route of the service, which has an SLO of its own, has
// one at governor/services/<service>/routes/<route>/setting. With a Callee, it is for the calls that the service makes
// to one dependency, at governor/services/<service>/calls/<callee>/setting. A knob that governor does not steer is
// absent (nil). The calls have the knob concurrency only, and their readers ignore its limit and fallback: only the
// service itself sees enough to move the limit of its calls. A Setting is a plain value: copy it freely, share it
// read-only between goroutines.
type Setting struct {
	Schema       int       `json:"schema"`           // version of this document
	Service      string    `json:"service"`          // the service it is for, or the route: <service>/<route>
	Callee       string    `json:"callee,omitempty"` // the dependency, if it is for the calls to one
	Epoch        uint64    `json:"epoch"`            // grows with every change of leader
	Revision     uint64    `json:"revision"`         // grows with every write, renewals included
	IssuedAt     time.Time `json:"issued_at"`        // of this write; for people, never for control
	ChangedAt    time.Time `json:"changed_at"`       // of the last write that changed a value; for people
	LeaseSeconds float64   `json:"lease_seconds"`    // how long the values are valid, from receipt; (0, 86400]
	Reason       string    `json:"reason"`           // one line, why the values are what they are

	Concurrency *Concurrency `json:"concurrency,omitempty"` // requests in flight, per instance
	Rate        *Rate        `json:"rate,omitempty"`        // admissions per second, for the whole service
	Shed        *Shed        `json:"shed,omitempty"`        // when the least important requests are refused
	Retry       *Retry       `json:"retry,omitempty"`       // the retry budget
}

// Concurrency limits the requests in flight, per instance of the service. All counts are whole requests ≥ 1.
type Concurrency struct {
	Limit                int     `json:"limit"`                  // requests in flight per instance, min..max
	Ceiling              int     `json:"ceiling"`                // highest limit that a local reflex may set, limit..max
	LatencyTargetSeconds float64 `json:"latency_target_seconds"` // latency target τ*: mean of admitted requests, > 0
	Fallback             int     `json:"fallback"`               // value that a reader without a live lease drifts to, min..max
	Min                  int     `json:"min"`                    // hard lower bound
	Max                  int     `json:"max"`                    // hard upper bound
}

// Rate limits admissions per second for the whole service; an instance enforces borrow × per_second/instances.
type Rate struct {
	PerSecond float64 `json:"per_second"` // min..max; per_second = max means off
	Burst     float64 `json:"burst"`      // tokens, ≥ 1
	Instances int     `json:"instances"`  // instance count last seen, ≥ 1
	// Borrow is how much more than an even share an instance may admit because others do not need theirs, 0..MaxBorrow. Less
	// than 1 counts as 1. It ends with the lease.
	Borrow   float64 `json:"borrow,omitempty"`
	Fallback float64 `json:"fallback"` // value that a reader without a live lease drifts to, min..max
	Min      float64 `json:"min"`      // hard lower bound
	Max      float64 `json:"max"`      // hard upper bound
}

// Part returns the part of one instance: admissions per second, +Inf if the rate is off, and the burst in
// tokens, at least 1 or, if the rate is off, 0.
func (r Rate) Part() (perSecond, burst float64) {
	if r.PerSecond >= r.Max {
		return math.Inf(1), 0
	}
	part := max(1, r.Borrow) / float64(r.Instances)
	return r.PerSecond * part, max(1, r.Burst*part)
}

// Shed holds the shed threshold φ: the occupancy (in flight ÷ limit) above which the least important requests are
// refused.
type Shed struct {
	Threshold float64 `json:"threshold"` // min..max; 1 = never shed
	Fallback  float64 `json:"fallback"`  // value that a reader without a live lease drifts to, min..max
	Min       float64 `json:"min"`       // hard lower bound, 0..1
	Max       float64 `json:"max"`       // hard upper bound, 0..1
}

// Retry holds the retry budget: retries allowed as a share of requests.
type Retry struct {
	BudgetRatio float64 `json:"budget_ratio"` // min..max; 0 = no retries
	Fallback    float64 `json:"fallback"`     // value that a reader without a live lease drifts to, min..max
	Min         float64 `json:"min"`          // hard lower bound, 0..1
	Max         float64 `json:"max"`          // hard upper bound, 0..1
}

// Knobs are the names of all knobs that a Setting may have.
var Knobs = [...]string{"concurrency", "rate", "shed", "retry"}

// Knob returns the value and the hard bounds of a knob by name; false if the Setting does not have it.
func (s Setting) Knob(name string) (value, lo, hi float64, ok bool) {
	switch c, r, h, b := s.Concurrency, s.Rate, s.Shed, s.Retry; {
	case name == "concurrency" && c != nil:
		return float64(c.Limit), float64(c.Min), float64(c.Max), true
	case name == "rate" && r != nil:
		return r.PerSecond, r.Min, r.Max, true
	case name == "shed" && h != nil:
		return h.Threshold, h.Min, h.Max, true
	case name == "retry" && b != nil:
		return b.BudgetRatio, b.Min, b.Max, true
	}
	return 0, 0, 0, false
}
