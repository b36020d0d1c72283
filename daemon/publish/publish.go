// Package publish turns the decisions of one tick into the Setting of a service. It is pure: time is an argument, and
// the caller does the reading and the writing. The daemon and the simulator both publish through it, so a simulated run
// puts into force what the daemon would.
//
//	decisions of the tick ──┐
//	Last: what is in force ─┼─▶ Next ─▶ a Setting, and whether it is a Change, a Renewal or not worth a write
//	Writer of the leader ────┘
//
// These are the rules:
//
//   - A service has one Setting, and all its knobs are written together. The calls to each dependency have a Setting of
//     their own, with a revision of its own and the same epoch. A knob whose decision does not ask to be
//     published keeps the values in force.
//   - The hard bounds of the configuration are enforced here once more, whatever a decision asks for. If a value or a
//     latency target is not finite, nothing is written.
//   - A limit counts requests. It is rounded to the nearest integer; a move that rounds to nothing causes no write. A
//     ceiling is rounded up.
//   - The first Setting is written as soon as the service is measured, even if no value has moved: readers then have a
//     fallback and a lease.
//   - The lease is renewed when a third of it has passed, so that a reader may miss two renewals in a row. A renewal
//     keeps the reason and the time of the last change.
//   - A hold renews nothing. The lease belongs to the service, though: if one loop holds by itself, for lack of
//     protected traffic for example, the others still renew it.
//   - Two changes are written without any loop asking for them: other bounds in the configuration, even while nothing
//     can be measured, and another number of instances that share a rate: more at once, fewer after a settling time.
package publish

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Last is what is known about the Setting of a service before the next one is composed. The zero value means that
// nothing was ever published.
type Last struct {
	// Setting is what was last in force, nil if there never was one.
	Setting *actuators.Setting
	// Present says that the store still holds Setting; false if the key has been lost since.
	Present bool
	// Again asks for a write of Setting at once, even while nothing can be measured: readers refuse what the store holds,
	// or are not known to have taken it.
	Again bool
	// Highest is the highest revision ever seen. A Setting edited by hand may carry a lower one, which readers would
	// refuse.
	Highest uint64
	// RenewedAt is when the lease last began. The zero value asks for a renewal at the next valid measurement.
	RenewedAt time.Time
	// Sharers counts the instances that were seen to share the rate.
	Sharers Sharers
}

// Writer is who writes a Setting: the configuration of the service, and the leadership.
type Writer struct {
	Spec   control.Spec // with all defaults derived, as LoopSet.Spec returns it
	Callee string       // of the calls that the Setting is for; "": it is for the service itself
	Epoch  uint64
	Lease  time.Duration
}

// Kind tells a Setting with new values from one that only renews the lease.
type Kind string

// The kinds.
const (
	None    Kind = "" // nothing to write
	Change  Kind = "change"
	Renewal Kind = "renewal"
)

// Next returns the Setting that the decisions of a tick ask for, and the kind of the write. An error says why a Setting
// that is due cannot be written. The Setting is only meaningful if the kind is not None.
func (l Last) Next(now time.Time, writer Writer, ds []control.Decision) (actuators.Setting, Kind, error) {
	wanted, renew := l.Again || reconfigured(l.Setting, writer.Spec), false
	for _, d := range ds {
		wanted = wanted || d.Publish || l.resized(d)
		renew = renew || d.Renew
	}
	due := renew && (!l.Present || now.Sub(l.RenewedAt) >= writer.Lease/3)
	if !wanted && !due {
		return actuators.Setting{}, None, nil
	}

	at := now.UTC().Round(0)
	next := actuators.Setting{
		Schema: actuators.Schema, Service: writer.Spec.Service, Callee: writer.Callee, Epoch: writer.Epoch,
		Revision: l.revision(writer.Epoch),
		IssuedAt: at, ChangedAt: at, LeaseSeconds: writer.Lease.Seconds(), Reason: reason(writer.Spec, l.Setting, ds),
	}
	var errs []error
	for _, d := range ds {
		if err := l.put(&next, writer.Spec, d); err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w", d.Service, d.Knob, err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return next, None, err
	}
	if err := next.Validate(); err != nil {
		return next, None, fmt.Errorf("readers would refuse the Setting of %s: %w", next.Service, err)
	}
	switch {
	case !l.Present || l.Again || !sameValues(next, *l.Setting):
		return next, Change, nil
	case due:
		next.ChangedAt, next.Reason = l.Setting.ChangedAt, l.Setting.Reason
		return next, Renewal, nil
	}
	return next, None, nil // the move was smaller than one request
}

// revision is that of the next Setting. It grows with every write, so that people can follow it; only where nothing is left
// to count with does a newer epoch begin again.
func (l Last) revision(epoch uint64) uint64 {
	if l.Exhausted() && epoch > l.Setting.Epoch {
		return 1
	}
	return l.Highest + 1
}

// Exhausted says whether somebody has put a revision into the store that leaves too few above it: the next Setting needs a
// newer epoch.
func (l Last) Exhausted() bool { return l.Setting != nil && l.Highest > actuators.MaxByHand }

// Wrote notes that s has reached the store. The count of the sharers goes on.
func (l *Last) Wrote(now time.Time, s actuators.Setting) {
	*l = Last{Setting: &s, Present: true, Highest: s.Revision, RenewedAt: now, Sharers: l.Sharers}
}

// reason says why the values are what they are: the decisions that changed something, else the previous reason.
func reason(spec control.Spec, last *actuators.Setting, ds []control.Decision) string {
	var why []string
	for _, d := range ds {
		if d.Publish {
			why = append(why, string(d.Knob)+" "+d.Reason)
		}
	}
	switch {
	case len(why) > 0:
		return strings.Join(why, "; ")
	case reconfigured(last, spec):
		return "the configuration changed the bounds"
	case last != nil && last.Reason != "":
		return last.Reason
	}
	return ds[0].Reason
}
