package daemon

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// service is one governed service: its loops, and what the daemon knows about its Setting. One goroutine at a time owns
// it.
//
// The Setting in the KV, whoever wrote it, is the one in force. So a tick starts by adopting it, and a write either
// replaces exactly the adopted Setting or fails. No write is ever kept for later: after an outage the next tick decides
// afresh, from the value still in force.
type service struct {
	spec  control.Spec
	loops *control.LoopSet
	kv    *kvClient
	key   string // of the Setting, for people
	lease time.Duration
	// resign gives up the leadership, to come back with a higher epoch.
	resign func()

	fence    consul.Fence // under which this service may be written; zero: not now
	restored bool         // the KV has been read at least once
	unread   error        // why the KV could not be read in this tick
	drift    Drift        // what adopt found in this tick
	orders   orders       // of people
	// outranked: the key holds an epoch above ours, so readers would refuse our writes.
	outranked bool

	last    publish.Last       // the last known Setting in force
	index   uint64             // of the key, for the compare-and-set; 0: the key does not exist
	attempt *actuators.Setting // a failed write that may have arrived
}

// Drift says how the KV came to differ from what this leader wrote.
type Drift string

// The drifts. An edited Setting is adopted; a deleted or unreadable one is replaced by the last value in force.
const (
	NoDrift    Drift = ""
	Edited     Drift = "edited"
	Deleted    Drift = "deleted"
	Unreadable Drift = "unreadable"
)

// errUnreadable: a write would be blind, and would most likely fail like the read. No write is kept for later: the
// first tick after the outage decides afresh.
var errUnreadable = errors.New("not written, the KV cannot be read")

// errOutranked: the key holds an epoch above this leader's.
var errOutranked = errors.New("not written, the key holds a higher epoch: competing for the lock again")

// Write is the outcome of a tick's write of a service's Setting.
type Write struct {
	Kind  publish.Kind
	Err   error // why a Setting that was due was not written
	Drift Drift
}

// adopt takes in the content of the KV. At start and on a takeover it restores the loops from it, without a bump.
func (s *service) adopt(now time.Time, kv kvState, fence consul.Fence) {
	s.obey(now, kv)
	s.drift, s.unread = NoDrift, kv.err
	if kv.err != nil {
		// Nothing new is known: the last known Setting is still in force. A new epoch has to read before it writes.
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
		// Our own earlier write, or a legitimate write of another leader.
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
		s.last.RenewedAt = time.Time{} // readers should hear from this leader soon
	}

	s.index, s.attempt = found.Index, nil
	s.last.Present = ok && found.Err == nil
	if s.last.Present {
		s.last.Setting = &found.Setting
		s.last.Highest = max(s.last.Highest, found.Setting.Revision)
	}
	s.restored = true
	if takeover {
		s.eachInForce(func(k control.Knob, f control.InForce) { s.loops.Restore(now, k, f) })
	} else {
		s.track(now)
	}
}

// apply writes the decisions of one tick to the KV, all knobs in one Setting, if this governor may and something is
// due.
func (s *service) apply(ctx context.Context, now time.Time, ds []control.Decision) Write {
	done := Write{Drift: s.drift}
	s.last.Count(now, s.spec, ds)
	if s.spec.Mode != control.Enforce || s.fence == (consul.Fence{}) {
		return done
	}
	writer := publish.Writer{Spec: s.spec, Epoch: s.fence.Epoch, Lease: s.lease}
	next, kind, err := s.last.Next(now, writer, ds)
	switch {
	case err != nil:
		done.Err = err
		return done
	case kind == publish.None:
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
	s.last.Wrote(now, next)
	s.index, s.attempt = index, nil
	done.Kind = kind
	return done
}

// track tells every loop the value in force after the tick, whatever it had asked for.
func (s *service) track(now time.Time) {
	s.eachInForce(func(k control.Knob, f control.InForce) { s.loops.Track(now, k, f) })
}

// eachInForce calls f with the Setting's value for every knob. Before anything was published it calls nothing: the
// loops know best where they start.
func (s *service) eachInForce(f func(control.Knob, control.InForce)) {
	for _, knob := range publish.Knobs(s.spec) {
		if v, ok := publish.InForce(knob, s.last.Setting); ok {
			f(knob, v)
		}
	}
}

// report returns the report of the tick at now.
func (s *service) report(now time.Time, ds []control.Decision, done Write) report {
	return report{
		at: now, spec: s.spec, decisions: ds, write: done,
		setting: s.last.Setting, key: s.key, index: s.index, orders: s.orders,
	}
}

// sameWrite reports whether found is the attempted write.
func sameWrite(found, attempt actuators.Setting) bool {
	return found.Epoch == attempt.Epoch && found.Revision == attempt.Revision && found.IssuedAt.Equal(attempt.IssuedAt)
}
