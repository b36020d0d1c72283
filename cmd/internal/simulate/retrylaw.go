package simulate

import (
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/publish"
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
	services []retryService
}

// retryService is what the loop knows of a service.
type retryService struct {
	seen   retryCount
	ratio  float64 // in force
	writer publish.Writer
	last   publish.Last
}

// retryCount counts the attempts that a service made in a period.
type retryCount struct{ attempts, failed float64 }

func newRetryLoop(r Run, fleets []*fleet) *retryLoop {
	l := &retryLoop{run: r, fleets: fleets}
	for _, f := range fleets {
		spec := control.Spec{Service: f.tier.Name, Retry: &control.RetrySpec{Budget: retryRest}}
		l.services = append(l.services, retryService{
			ratio:  retryRest,
			writer: publish.Writer{Spec: spec, Epoch: 1, Lease: actuators.DefaultLeaseSeconds * time.Second},
		})
	}
	return l
}

func (l *retryLoop) door(_ int, s subject) subject { return s }

func (l *retryLoop) way(link models.Link, c models.Caller) models.Caller {
	if link.From == models.Clients {
		return c
	}
	return retryWay{observed{c}, &l.services[link.From].seen}
}

func (l *retryLoop) step(now time.Duration) {
	for i := range l.services {
		s := &l.services[i]
		seen := s.seen
		s.seen = retryCount{}
		if seen.attempts == 0 {
			continue
		}
		if f := seen.failed / seen.attempts; f < retryStorm {
			s.ratio = min(retryMost, max(retryRest, retryGain*f))
		} else {
			s.ratio *= retryCut
		}
		d := control.NewDecision(l.fleets[i].tier.Name, control.KnobRetry)
		d.Value, d.Publish, d.Renew, d.Reason = control.Number(s.ratio), true, true, "an experiment"
		at := start.Add(now)
		next, kind, err := s.last.Next(at, s.writer, []control.Decision{d})
		if err != nil {
			panic("simulate: " + err.Error())
		}
		if kind == publish.None {
			continue
		}
		s.last.Wrote(at, next)
		l.fleets[i].clock.At(now+l.run.Timing.PublishDelay, func(now time.Duration) { l.fleets[i].apply(now, l.fleets[i].parts[0], next) })
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
