package daemon

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
)

// service is one governed service: its loops, and the daemon's view of its Setting. One goroutine at a time owns it.
//
// The Setting in the KV, whoever wrote it, is what is in force. So a tick starts by adopting what is there, and a write
// replaces exactly what was adopted or fails. Nothing is ever kept back to be written later: after an outage the next
// tick decides afresh, from the value that is still in force.
type service struct {
	spec  control.Spec
	loops *control.LoopSet
	kv    *kvLink
	key   string // of the Setting, for people
	lease time.Duration
	// resign gives the leadership up, to come back with a higher epoch.
	resign func()

	fence    consul.Fence // under which this service may be written; zero: not now
	restored bool         // the KV has been read at least once
	unread   error        // why the KV could not be read in this tick
	drift    Drift        // what adopt found in this tick
	orders   orders       // of people
	// outranked: the key holds an epoch above our own, so that readers would refuse whatever we write.
	outranked bool

	setting   *actuators.Setting // in force, as last known; nil: nothing was ever published
	present   bool               // setting is what the key holds, rather than what it held before it was lost
	index     uint64             // of the key, for the compare-and-set; 0: the key does not exist
	highest   uint64             // revision ever seen here: a hand edit may carry an old one, readers refuse to go back
	attempt   *actuators.Setting // a write that failed, but may have arrived
	renewedAt time.Time          // when the lease last began, on our clock; zero: renew at the next valid measurement
}

// Drift says how the KV came to hold something that this leader did not write.
type Drift string

// The drifts. An edited Setting is adopted; a deleted or unreadable one is replaced by the value last in force.
const (
	NoDrift    Drift = ""
	Edited     Drift = "edited"
	Deleted    Drift = "deleted"
	Unreadable Drift = "unreadable"
)

// errUnreadable: a write would be blind, and would most likely fail as the read did. Nothing is kept for later: the
// first tick after the outage decides afresh.
var errUnreadable = errors.New("not written, the KV cannot be read")

// errOutranked: somebody has written an epoch above this leader's.
var errOutranked = errors.New("not written, the key holds a higher epoch: competing for the lock again")

// Write is what a tick did about a service's Setting.
type Write struct {
	Kind  WriteKind
	Err   error // why it was not written although it should have been
	Drift Drift
}

// WriteKind tells a new value from a renewed lease.
type WriteKind string

// The kinds of write.
const (
	NoWrite WriteKind = ""
	Change  WriteKind = "change"
	Renewal WriteKind = "renewal"
)

// adopt takes in what the KV holds. At start and on a takeover the loops are restored from it, without a bump.
func (s *service) adopt(now time.Time, kv kvState, fence consul.Fence) {
	s.obey(now, kv)
	s.drift, s.unread = NoDrift, kv.err
	if kv.err != nil {
		// Nothing new is known: what was in force last still is. A new term has to read before it writes.
		if fence != s.fence {
			s.fence = consul.Fence{}
		}
		return
	}
	found, ok := kv.Settings[s.spec.Service]
	leads := fence != consul.Fence{}
	takeover := !s.restored || (leads && fence != s.fence)
	s.fence = fence

	switch {
	case found.Index == s.index && s.restored && !takeover:
		return
	case takeover, !leads, s.spec.Mode != control.Enforce, s.attempt != nil && sameWrite(found.Setting, *s.attempt):
		// Our own past write, or someone else's right to write: nothing to remark on.
	case !ok:
		s.drift = Deleted
	case found.Err != nil:
		s.drift = Unreadable
	default:
		s.drift = Edited
	}
	s.outranked = leads && found.Setting.Epoch > fence.Epoch
	if s.outranked {
		s.resign()
	}
	if takeover || s.drift != NoDrift {
		s.renewedAt = time.Time{} // readers should hear from this leader soon
	}

	s.index, s.attempt = found.Index, nil
	s.present = ok && found.Err == nil
	if s.present {
		s.setting = &found.Setting
		s.highest = max(s.highest, found.Setting.Revision)
	}
	s.restored = true
	if takeover {
		s.eachInForce(func(k control.Knob, f control.InForce) { s.loops.Restore(now, k, f) })
	} else {
		s.track(now)
	}
}

// apply writes the decisions of one tick to the KV, all knobs in one Setting, where this governor may and must.
func (s *service) apply(ctx context.Context, now time.Time, ds []control.Decision) Write {
	done := Write{Drift: s.drift}
	if s.spec.Mode != control.Enforce || s.fence == (consul.Fence{}) {
		return done
	}
	next, kind, err := s.compose(now, ds)
	switch {
	case err != nil:
		done.Err = err
		return done
	case kind == NoWrite:
		return done
	case s.outranked:
		done.Err = errOutranked
		return done
	case s.unread != nil:
		done.Err = fmt.Errorf("%w: %w", errUnreadable, s.unread)
		return done
	}
	index, err := s.kv.write(ctx, s.fence, next, s.index)
	if err != nil {
		s.attempt = &next
		done.Err = err
		return done
	}
	s.setting, s.present, s.index, s.attempt, s.renewedAt = &next, true, index, nil, now
	s.highest = next.Revision
	done.Kind = kind
	return done
}

// track tells every loop the value that is in force after the tick, whatever it had asked for.
func (s *service) track(now time.Time) {
	s.eachInForce(func(k control.Knob, f control.InForce) { s.loops.Track(now, k, f) })
}

// eachInForce calls f with what the Setting says of every knob. Before anything was published it says nothing, and the
// loops know best where they start.
func (s *service) eachInForce(f func(control.Knob, control.InForce)) {
	for _, knob := range knobsOf(s.spec) {
		if v, ok := inForce(knob, s.setting); ok {
			f(knob, v)
		}
	}
}

// compose returns the Setting that the decisions ask for, and whether it has to be written: because a value changed, or
// because a third of the lease has passed.
func (s *service) compose(now time.Time, ds []control.Decision) (actuators.Setting, WriteKind, error) {
	// One loop that holds alone, for want of protected traffic say, is no reason to let the lease of the others lapse: the
	// service is measured.
	publish, renew := reconfigured(s.setting, s.spec), false
	for _, d := range ds {
		publish = publish || d.Publish || resized(s.setting, d)
		renew = renew || d.Renew
	}
	due := renew && (!s.present || now.Sub(s.renewedAt) >= s.lease/3)
	if !publish && !due {
		return actuators.Setting{}, NoWrite, nil
	}

	next := actuators.Setting{
		Schema: actuators.Schema, Service: s.spec.Service, Epoch: s.fence.Epoch, Revision: s.highest + 1,
		IssuedAt: now.UTC().Round(0), ChangedAt: now.UTC().Round(0), LeaseSeconds: s.lease.Seconds(),
	}
	var errs []error
	for _, d := range ds {
		if err := put(&next, s.spec, s.setting, d); err != nil {
			errs = append(errs, fmt.Errorf("%s/%s: %w", d.Service, d.Knob, err))
		}
	}
	next.Reason = s.reason(ds)
	if err := errors.Join(errs...); err != nil {
		return next, NoWrite, err
	}
	if err := next.Validate(); err != nil {
		return next, NoWrite, fmt.Errorf("the Setting of %s would be refused by its readers: %w", s.spec.Service, err)
	}
	switch {
	case !s.present || !sameValues(next, *s.setting):
		return next, Change, nil
	case due:
		next.ChangedAt, next.Reason = s.setting.ChangedAt, s.setting.Reason
		return next, Renewal, nil
	}
	return next, NoWrite, nil // the move was smaller than one request
}

// reason is why the values are what they are: the decisions that changed something, else what was said before.
func (s *service) reason(ds []control.Decision) string {
	var why []string
	for _, d := range ds {
		if d.Publish {
			why = append(why, string(d.Knob)+" "+d.Reason)
		}
	}
	switch {
	case len(why) > 0:
		return strings.Join(why, "; ")
	case reconfigured(s.setting, s.spec):
		return "the configuration changed the bounds"
	case s.setting != nil && s.setting.Reason != "":
		return s.setting.Reason
	}
	return ds[0].Reason
}
