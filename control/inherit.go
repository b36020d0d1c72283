package control

import "reflect"

// Spec returns the specification of the loops with every default filled in. Treat it as read-only.
func (s *LoopSet) Spec() Spec { return s.spec }

// Inherit takes over the state of the loops built from an earlier configuration of the service. If SLO, timing and
// tuning are unchanged, the new loops keep everything the old ones learned and integrated; only the bounds are new, and
// the next decision visibly clamps a value outside of them. Otherwise the new loops start, without a bump, from the
// values in force. Do not use the old LoopSet afterwards.
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

// inherit gives a law the state of an earlier law of its kind but keeps its own bounds.
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
