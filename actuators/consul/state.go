package consul

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"
)

// State is the state of an Elector.
type State struct {
	Leading bool
	Fence   Fence     // of the leadership; zero unless Leading
	Holder  Holder    // of the lock, this instance or another; zero if nobody holds it, or none was read
	Since   time.Time // of the last change of Leading
	// Err says why this instance cannot compete now; nil if it leads, or waits for the lock as it should.
	Err error
}

// State returns the Elector's current state.
func (e *Elector) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.state
	// The caller may ask a process that was paused before Run has noticed that its time is up.
	if state.Leading && !time.Now().Before(e.deadline) {
		state.Leading, state.Fence, state.Since = false, Fence{}, e.deadline
	}
	return state
}

// Fence returns the fence that a write needs, and false while this instance does not lead.
func (e *Elector) Fence() (Fence, bool) {
	state := e.State()
	return state.Fence, state.Leading
}

func (e *Elector) lead(fence Fence, deadline time.Time) {
	e.update(func(s *State) {
		e.deadline = deadline
		*s = State{
			Leading: true,
			Fence:   fence,
			Holder:  Holder{Instance: e.options.Instance, API: e.options.API, Epoch: fence.Epoch},
			Since:   time.Now(),
		}
	})
	e.worked()
	e.log.Info("Leading", "epoch", fence.Epoch)
}

func (e *Elector) extend(deadline time.Time) { e.update(func(*State) { e.deadline = deadline }) }

func (e *Elector) stepDown(ctx context.Context, why error) {
	stopping := ctx.Err() != nil
	e.update(func(s *State) {
		*s = State{Since: time.Now()}
		if !stopping {
			s.Err = fmt.Errorf("stepped down: %w", why)
		}
	})
	if stopping {
		e.log.Info("Giving up the lead: stopping")
	} else {
		e.log.Warn("Stepped down; competing again", "err", why)
	}
}

func (e *Elector) see(holder Holder) {
	before := e.update(func(s *State) { s.Holder = holder })
	if before.Holder != holder && holder != (Holder{}) {
		e.log.Info("Another governor leads", "leader", holder.Instance, "epoch", holder.Epoch)
	}
}

// standBy notes that this instance could lead if the lock were free. foreign is nil, or says that no governor holds it.
func (e *Elector) standBy(foreign error) {
	before := e.update(func(s *State) { s.Err = foreign })
	e.worked()
	if foreign != nil && (before.Err == nil || before.Err.Error() != foreign.Error()) {
		e.log.Warn("Cannot lead", "err", foreign)
	}
}

func (e *Elector) cannot(err error, pause time.Duration) {
	if errors.Is(err, errTaken) || errors.Is(err, errNotYet) { // an ordinary race
		e.standBy(nil)
		e.log.Debug("Lock not acquired", "err", err)
		return
	}
	e.update(func(s *State) { s.Err = err })
	e.failed("Cannot compete for the leader's lock; standing by", err, pause)
}

// update changes the state. It logs outside of the lock: a slow log must not block State.
func (e *Elector) update(change func(*State)) (before State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before = e.state
	change(&e.state)
	return before
}

// failed logs a failed request to Consul. An outage may cost many requests: each reason is a warning once until
// something works again; repeats are logged at debug level.
func (e *Elector) failed(what string, err error, pause time.Duration) {
	why := cause(err)
	e.mu.Lock()
	level := slog.LevelWarn
	if e.troubles[why] {
		level = slog.LevelDebug
	}
	if len(e.troubles) == 0 {
		e.troubled = time.Now()
	}
	e.troubles[why] = true
	e.mu.Unlock()
	args := []any{"err", err}
	if pause > 0 {
		args = append(args, "retry_in", pause.Round(time.Millisecond))
	}
	e.log.Log(context.Background(), level, what, args...)
}

// worked ends the outage that failed began.
func (e *Elector) worked() {
	e.mu.Lock()
	over, lasted := len(e.troubles) > 0, time.Since(e.troubled)
	clear(e.troubles)
	e.mu.Unlock()
	if over {
		e.log.Info("Consul works again", "after", lasted.Round(time.Millisecond))
	}
}
