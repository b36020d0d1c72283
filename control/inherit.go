package control

import "reflect"

// Spec returns what the loops were built from, with every default derived. Treat it as read-only.
func (s *LoopSet) Spec() Spec { return s.spec }

// Inherit takes over what the loops of an earlier configuration of the service are doing. Where SLO, timing and tuning
// are the same, that is all they have learned and integrated, and only the bounds are new: a value outside of them is
// clamped, visibly, by the next decision. Otherwise it is the values in force, from which the new loops start without a
// bump. The old LoopSet must not be used afterwards.
func (s *LoopSet) Inherit(old *LoopSet) {
	same := s.spec.SLO == old.spec.SLO && s.spec.Timing == old.spec.Timing &&
		reflect.DeepEqual(s.spec.Tuning, old.spec.Tuning)
	if same {
		s.target, s.last = old.target, old.last
	}
	for _, l := range s.loops {
		before := old.loop(l.knob)
		if before == nil || !before.inForce.published() && !same {
			continue
		}
		if before.inForce.published() {
			l.inForce, l.changed = before.inForce, before.changed
		}
		if same {
			l.fresh = before.fresh
			inherit(l.law, before.law)
		} else {
			s.target.restore(l.inForce.LatencyTarget)
		}
	}
}

// inherit gives a law the state of another one of its kind and leaves it its own bounds.
func inherit(to, from law) {
	switch to := to.(type) {
	case *concurrency:
		spec := to.spec
		*to = *from.(*concurrency)
		to.spec = spec
	case *shed:
		spec := to.spec
		*to = *from.(*shed)
		to.spec = spec
	case *rate:
		spec := to.spec
		*to = *from.(*rate)
		to.spec = spec
	}
}
