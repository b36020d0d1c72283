package daemon

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// service is one governed service: its loops, and what the daemon knows about its Settings. One goroutine at a time owns
// it.
//
// A Setting in the KV, whoever wrote it, is the one in force. So a tick starts by adopting it, and a write either
// replaces exactly the adopted Setting or fails. No write is ever kept for later: after an outage the next tick decides
// afresh, from the value still in force.
type service struct {
	spec  control.Spec
	loops *control.LoopSet
	kv    *kvClient
	lease time.Duration
	// resign gives up the leadership, to come back with a higher epoch.
	resign func()

	fence  consul.Fence // under which this service may be written; zero: not now
	unread error        // why the KV could not be read in this tick
	orders orders       // of people

	documents []*document // the Setting of the service itself first, then those of its calls
}

// document is one Setting of a service, as far as the daemon knows it.
type document struct {
	callee string // of the calls that it is for; "": it is for the service itself
	key    string // in the KV, for people

	restored bool  // the KV has been read at least once
	drift    Drift // what adopt found in this tick
	found    string
	own      *actuators.Setting // the last one that this process wrote; nil: none
	// outranked: the key holds an epoch above ours, so readers would refuse our writes.
	outranked bool

	last    publish.Last       // the last known Setting in force
	index   uint64             // of the key, for the compare-and-set; 0: the key does not exist
	attempt *actuators.Setting // a failed write that may have arrived
}

// documentsOf lists the Settings of a service of which nothing is known yet.
func documentsOf(spec control.Spec, keyOf func(service, callee string) string) []*document {
	all := []*document{{key: keyOf(spec.Service, "")}}
	for _, c := range spec.Calls {
		all = append(all, &document{callee: c.To, key: keyOf(spec.Service, c.To)})
	}
	return all
}

// Drift says how the KV came to differ from what this leader wrote.
type Drift string

// The drifts. An edited Setting is adopted; a deleted or unreadable one, and one from before the last, are replaced by
// the last value in force.
const (
	NoDrift    Drift = ""
	Edited     Drift = "edited"
	RolledBack Drift = "rolled_back"
	Deleted    Drift = "deleted"
	Unreadable Drift = "unreadable"
)

// errUnreadable: a write would be blind, and would most likely fail like the read. No write is kept for later: the
// first tick after the outage decides afresh.
var errUnreadable = errors.New("not written, the KV cannot be read")

// errOutranked: the key holds an epoch above this leader's.
var errOutranked = errors.New("not written, the key holds a higher epoch: competing for the lock again")

// Write is the outcome of a tick's write of one Setting.
type Write struct {
	Kind  publish.Kind
	Err   error // why a Setting that was due was not written
	Drift Drift
	Found string // the drift in words: what the key holds, and what was in force
}

// adopt takes in the content of the KV. At start and on a takeover it restores the loops from it, without a bump.
func (s *service) adopt(now time.Time, kv kvState, fence consul.Fence) {
	s.obey(now, kv)
	s.unread = kv.err
	for _, d := range s.documents {
		d.drift, d.found = NoDrift, ""
	}
	if kv.err != nil {
		// Nothing new is known: the last known Settings are still in force. A new epoch has to read before it writes.
		if fence != s.fence {
			s.fence = consul.Fence{}
		}
		return
	}
	leads := fence != consul.Fence{}
	changed := leads && fence != s.fence
	s.fence = fence
	for _, d := range s.documents {
		found, ok := kv.of(s.spec.Service, d.callee)
		s.take(now, d, found, ok, !d.restored || changed)
	}
}

// take adopts the content of one key, ok: there is one.
func (s *service) take(now time.Time, d *document, found consul.Stored, ok, takeover bool) {
	leads := s.fence != consul.Fence{}
	if found.Setting.Epoch > max(s.fence.Epoch, actuators.MaxByHand) {
		found.Err = fmt.Errorf("epoch %d, expected at most %d: no leader could come after it", found.Setting.Epoch, actuators.MaxByHand)
		found.Setting = actuators.Setting{}
	}
	switch {
	case found.Index == d.index && d.restored && !takeover:
		return
	case ok && found.Err == nil && d.older(found.Setting):
		if leads && s.spec.Mode == control.Enforce {
			d.drift = RolledBack
		}
	case takeover, !leads, s.spec.Mode != control.Enforce, d.attempt != nil && sameWrite(found.Setting, *d.attempt):
		// Our own earlier write, or a legitimate write of another leader.
	case !ok:
		d.drift = Deleted
	case found.Err != nil:
		d.drift = Unreadable
	default:
		d.drift = Edited
	}
	d.outranked = leads && found.Setting.Epoch > s.fence.Epoch
	if takeover || d.drift != NoDrift {
		d.last.RenewedAt = time.Time{} // readers should hear from this leader soon
	}

	before := d.last.Setting
	d.found = s.difference(d, before, found, ok)
	d.index, d.attempt = found.Index, nil
	d.last.Present = ok && found.Err == nil
	d.last.Again = d.drift == Edited || d.drift == RolledBack
	if d.last.Present && !d.older(found.Setting) {
		setting := found.Setting
		if d.drift == Edited {
			setting = publish.ByHand(before, setting)
		}
		if d.last.Exhausted() && setting.Epoch > d.last.Setting.Epoch {
			d.last.Highest = 0 // a leader has begun again
		}
		d.last.Setting = &setting
		d.last.Highest = max(d.last.Highest, setting.Revision)
	}
	if d.outranked || leads && d.last.Exhausted() && d.last.Setting.Epoch == s.fence.Epoch {
		s.resign()
	}
	d.restored = true
	s.eachInForce(d, func(k control.Knob, f control.InForce) {
		was, ok := publish.InForce(k, before)
		switch {
		case takeover, d.drift == RolledBack: // a guard that has just started may have taken what was set back
			s.loops.Restore(now, k, f)
		case d.drift == Edited && ok && was.Value != f.Value:
			s.loops.Adopt(now, k, f)
		default:
			s.loops.Track(now, k, f)
		}
	})
}

// older says whether a Setting in the key was replaced by one that is known here: the key has been set back, as by a
// restored snapshot. Guards keep the newer one. A lower epoch counts only against a write of this process: after a wipe
// another governor may rightly begin with a lower one.
func (d *document) older(found actuators.Setting) bool {
	last := d.last.Setting
	return last != nil && found.Epoch == last.Epoch && found.Revision < last.Revision ||
		d.own != nil && last != nil && last.Epoch == d.own.Epoch && found.Epoch < d.own.Epoch
}

// difference says in words how what the key holds differs from what was in force; "" without a drift.
func (s *service) difference(d *document, before *actuators.Setting, found consul.Stored, ok bool) string {
	switch {
	case d.drift == NoDrift || !ok:
		return ""
	case found.Err != nil:
		return found.Err.Error()
	}
	var all []string
	for _, k := range publish.Knobs(s.spec) {
		was, had := publish.InForce(k, before)
		is, has := publish.InForce(k, &found.Setting)
		if had && has && was.Value != is.Value {
			all = append(all, fmt.Sprintf("%s %s -> %s", k, k.Format(was.Value), k.Format(is.Value)))
		}
	}
	text := cmp.Or(strings.Join(all, ", "), "the same values")
	if d.drift == RolledBack {
		text = fmt.Sprintf("revision %d of epoch %d after %d of %d: %s", found.Setting.Revision, found.Setting.Epoch,
			before.Revision, before.Epoch, text)
	}
	return text
}

// apply writes the decisions of one tick to the KV, those of each Setting together, if this governor may and something
// is due. It returns the outcomes in the order of the documents.
func (s *service) apply(ctx context.Context, now time.Time, ds []control.Decision) []Write {
	done := make([]Write, len(s.documents))
	var writing sync.WaitGroup
	for i, d := range s.documents { // at once, so that one write that hangs does not delay the others
		writing.Go(func() { done[i] = s.write(ctx, now, d, d.decisions(ds)) })
	}
	writing.Wait()
	return done
}

// decisions selects those on the knobs of the document.
func (d *document) decisions(all []control.Decision) []control.Decision {
	var own []control.Decision
	for _, decision := range all {
		if to, _ := decision.Knob.Callee(); to == d.callee {
			own = append(own, decision)
		}
	}
	return own
}

// write writes the decisions on the knobs of one Setting.
func (s *service) write(ctx context.Context, now time.Time, d *document, ds []control.Decision) Write {
	done := Write{Drift: d.drift, Found: d.found}
	d.last.Count(now, s.spec, ds)
	if s.spec.Mode != control.Enforce || s.fence == (consul.Fence{}) {
		return done
	}
	writer := publish.Writer{Spec: s.spec, Callee: d.callee, Epoch: s.fence.Epoch, Lease: s.lease}
	next, kind, err := d.last.Next(now, writer, ds)
	switch {
	case err != nil:
		done.Err = err
		return done
	case kind == publish.None:
		return done
	case d.outranked:
		done.Err = errOutranked
		return done
	case s.unread != nil:
		done.Err = fmt.Errorf("%w: %w", errUnreadable, s.unread)
		return done
	}
	index, err := s.kv.write(ctx, s.fence, next, d.index)
	if err != nil {
		d.attempt = &next
		done.Err = err
		return done
	}
	d.last.Wrote(now, next)
	d.own = &next
	d.index, d.attempt = index, nil
	done.Kind = kind
	return done
}

// track tells every loop the value in force after the tick, whatever it had asked for.
func (s *service) track(now time.Time) {
	for _, d := range s.documents {
		s.trackDocument(now, d)
	}
}

func (s *service) trackDocument(now time.Time, d *document) {
	s.eachInForce(d, func(k control.Knob, f control.InForce) { s.loops.Track(now, k, f) })
}

// eachInForce calls f with the document's value for every knob. Before anything was published it calls nothing: the
// loops know best where they start.
func (s *service) eachInForce(d *document, f func(control.Knob, control.InForce)) {
	for _, knob := range publish.Knobs(s.spec) {
		if v, ok := publish.InForce(knob, d.last.Setting); ok {
			f(knob, v)
		}
	}
}

// reports returns what the tick at now did, one report for each Setting.
func (s *service) reports(now time.Time, ds []control.Decision, done []Write) []report {
	all := make([]report, len(s.documents))
	for i, d := range s.documents {
		all[i] = report{
			at: now, spec: s.spec, callee: d.callee, decisions: d.decisions(ds), write: done[i],
			setting: d.last.Setting, key: d.key, index: d.index, orders: s.orders,
		}
	}
	return all
}

// sameWrite reports whether found is the attempted write.
func sameWrite(found, attempt actuators.Setting) bool {
	return found.Epoch == attempt.Epoch && found.Revision == attempt.Revision && found.IssuedAt.Equal(attempt.IssuedAt)
}
