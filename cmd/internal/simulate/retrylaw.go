package simulate

import (
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/models"
)

// The tuning of the retry loop, which docs/compartments.md describes.
const (
	retryRest  = 0.1 // the least budget without a storm, as the constant
	retryMost  = 0.5
	retryGain  = 2.0 // budget per share of attempts that fail
	retryStorm = 0.2 // share of the attempts that fail, from which they are a storm
	retryCut   = 0.5 // of the budget, in every period of a storm
)

// retryLoop is the experiment of a law for the retry budget. Every period it publishes, for each service that calls
// others, a budget that follows the share f of its attempts that failed in that period:
//
//	f < storm   min(most, max(rest, gain · f))   a blip: enough to try again what fails
//	otherwise   cut · what it was                a storm
type retryLoop struct {
	run      Run
	fleets   []*fleet
	seen     []retryCount // by service
	ratio    []float64    // by service, in force
	revision uint64
}

// retryCount counts the attempts that a service made in a period.
type retryCount struct{ attempts, failed float64 }

func newRetryLoop(r Run, fleets []*fleet) *retryLoop {
	l := &retryLoop{run: r, fleets: fleets, seen: make([]retryCount, len(fleets)), ratio: make([]float64, len(fleets))}
	for i := range l.ratio {
		l.ratio[i] = retryRest
	}
	return l
}

func (l *retryLoop) door(_ int, s subject) subject { return s }

func (l *retryLoop) way(link models.Link, c models.Caller) models.Caller {
	if link.From == models.Clients {
		return c
	}
	return retryWay{observed{c}, &l.seen[link.From]}
}

func (l *retryLoop) step(now time.Duration) {
	l.revision++
	for i, c := range l.seen {
		if c.attempts == 0 {
			continue
		}
		l.seen[i] = retryCount{}
		if f := c.failed / c.attempts; f < retryStorm {
			l.ratio[i] = min(retryMost, max(retryRest, retryGain*f))
		} else {
			l.ratio[i] *= retryCut
		}
		at := start.Add(now)
		s := actuators.Setting{
			Schema: actuators.Schema, Service: l.fleets[i].tier.Name, Epoch: 1, Revision: l.revision, IssuedAt: at,
			ChangedAt: at, LeaseSeconds: actuators.DefaultLeaseSeconds, Reason: "an experiment",
			Retry: &actuators.Retry{BudgetRatio: l.ratio[i], Fallback: retryRest, Max: 1},
		}
		l.fleets[i].clock.At(now+l.run.Timing.PublishDelay, func(now time.Duration) { l.fleets[i].apply(now, s) })
	}
}

// retryWay counts attempts.
type retryWay struct {
	observed
	caller *retryCount
}

// Done implements models.Caller.
func (w retryWay) Done(now time.Duration, c models.Call, instance int, a models.Answer) {
	if a.Outcome != models.Abandoned {
		w.caller.attempts++
		if a.Outcome != models.Answered {
			w.caller.failed++
		}
	}
	w.Caller.Done(now, c, instance, a)
}
