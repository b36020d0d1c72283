package simulate

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/models"
)

// way is the real guarded calls of one instance to another service, on simulated time: what guardhttp.Transport does
// with a request, for the plant.
type way struct {
	guard      *guarded
	dependency *guard.Dependency
	names      []string  // of the callee's instances; nil: it has one address
	calls      []wayCall // by Call.Slot
}

// wayCall is what a way remembers about a call.
type wayCall struct {
	call    guard.Call
	attempt guard.Attempt
	result  guard.Result
	barred  bool // the last attempt was not sent
}

func newWay(g *guarded, to models.Service, direct bool) *way {
	w := &way{guard: g, dependency: g.guard.Dependency(to.Name)}
	if direct {
		for i := range to.Instances {
			w.names = append(w.names, fmt.Sprint(to.Name, "-", i+1))
		}
	}
	return w
}

// context is that of the request for which a call is made.
func (w *way) context(c models.Call) context.Context { return w.guard.contexts[c.Request] }

// Start implements models.Caller.
func (w *way) Start(now time.Duration, c models.Call) (marks bool) {
	for len(w.calls) <= c.Slot {
		w.calls = append(w.calls, wayCall{})
	}
	ctx := guard.WithGroup(w.context(c), c.Group)
	if c.Marked {
		attempt := 0
		if c.Again {
			attempt = 1
		}
		guard.MarkAttempt(ctx, attempt)
	}
	o := guard.CallOptions{Idempotent: true, Instances: len(w.names)}
	if c.Deadline < models.Never {
		o.Deadline = start.Add(c.Deadline)
	}
	w.calls[c.Slot] = wayCall{call: w.dependency.StartAt(ctx, start.Add(now), o)}
	return w.calls[c.Slot].call.Retries()
}

func (w *way) name(instance int) string {
	if w.names == nil {
		return w.dependency.Name()
	}
	return w.names[instance]
}

// Try implements models.Caller. Where the instances are known, a call passes over those whose breaker is open, as with
// guard.Call.Pick.
func (w *way) Try(now time.Duration, c models.Call, instance int) models.Clearance {
	m := &w.calls[c.Slot]
	attempt, err := m.call.TryAt(start.Add(now), w.name(instance))
	m.barred = err != nil
	switch {
	case errors.Is(err, guard.ErrBreakerOpen) && len(w.names) > 1:
		return models.Elsewhere
	case err != nil:
		return models.Barred
	}
	m.attempt = attempt
	return models.Clear
}

// Done implements models.Caller.
func (w *way) Done(now time.Duration, c models.Call, _ int, a models.Answer) {
	m := &w.calls[c.Slot]
	m.result = guard.Result{Advice: guard.Advice{
		NoRetry: a.Advice.NoRetry, Background: a.Advice.Background, Threshold: guard.Threshold(a.Advice.Threshold),
	}}
	switch a.Outcome {
	case models.Answered:
		m.result.Outcome = guard.Success
	case models.Abandoned:
		m.result.Outcome = guard.Canceled
	case models.Refusal:
		m.result.Outcome, m.result.Refused, m.result.Elsewhere = guard.Ignored, true, true
	case models.Unreachable:
		m.result.Outcome, m.result.Unsent, m.result.Elsewhere = guard.Failure, true, true
	default:
		m.result.Outcome = guard.Failure
	}
	m.attempt.DoneAt(start.Add(now), m.result)
}

// Retry implements models.Caller.
func (w *way) Retry(now time.Duration, c models.Call, u float64) models.Next {
	m := &w.calls[c.Slot]
	if !m.barred {
		if retry, ok := m.call.RetryAt(start.Add(now), u, m.result); ok {
			return models.Next{Again: true, Wait: retry.Wait, Elsewhere: retry.Elsewhere}
		}
	}
	return models.Next{}
}

// End implements models.Caller.
func (w *way) End(now time.Duration, c models.Call, _ models.Answer) {
	w.calls[c.Slot].call.GiveUpAt(start.Add(now))
	w.calls[c.Slot] = wayCall{}
}

// Instance implements models.Steerer.
func (w *way) Instance(c models.Call) int {
	return slices.Index(w.names, w.calls[c.Slot].call.Usual())
}

// Standing implements models.Steerer.
func (w *way) Standing(c models.Call) models.Standing {
	a, _ := w.calls[c.Slot].call.Arrival()
	r := a.Rank
	return models.Standing{
		Ranked: r.Drawn, Rank: r.Place, Again: r.Again, Group: int(r.Group), ID: r.ID, Entry: a.Entry, Early: a.Early,
	}
}
