package daemon

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"
)

// A governor whose loops have stopped must not keep the lock: nobody would decide, and nobody would notice. Its loops
// have stopped if the loop of a group has not come round for this many of the longest period. A tick that ends in a hold
// counts, so no dependency that is down stops them.
const stoppedAfter = 5

// Pace and patience of what looks after the loops.
const (
	lookEvery    = time.Second
	stopPatience = 10 * time.Second // for the ticks in progress when the daemon stops
)

// progress is how far the loop of one worker has come. It is safe for concurrent use, and never locked for longer than
// an assignment: it must work while a tick hangs. Its durations are those of the monotonic clock, so they include
// neither a step of the wall clock nor the time in which the machine was suspended.
type progress struct {
	mu      sync.Mutex
	period  time.Duration
	round   time.Time // when the loop last came round; before its first tick, when it began
	point   time.Time // the grid point of the last tick that began; zero: none
	running bool
	counted int64 // the grid points after point that have been counted as skipped
}

// begin notes that the tick of a grid point begins. It returns how many grid points without a tick are to be counted.
func (p *progress) begin(point time.Time) (skipped int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.point.IsZero() {
		passed := int64(math.Round(float64(point.Sub(p.point))/float64(p.period))) - 1
		skipped = max(0, passed-p.counted)
	}
	p.point, p.running, p.counted = point, true, 0
	return skipped
}

// end notes that the tick has ended.
func (p *progress) end(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.round, p.running = now, false
}

// skipped returns how many grid points have passed since it was last asked, while a tick was running.
func (p *progress) skipped(now time.Time) int64 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.running {
		return 0
	}
	n := max(0, int64(now.Sub(p.point)/p.period)-p.counted)
	p.counted += n
	return n
}

// last returns when the loop last came round.
func (p *progress) last() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.round
}

// inherit continues from where was has come, at the same pace.
func (p *progress) inherit(was *progress) {
	was.mu.Lock()
	defer was.mu.Unlock()
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.round.After(was.round) {
		p.round = was.round
	}
	if p.period == was.period && (p.point.IsZero() || p.point.After(was.point)) {
		p.point, p.counted = was.point, was.counted
	}
}

// pace is what Stopped compares: the progress of all workers in force, and the longest period.
type pace struct {
	workers []*progress
	longest time.Duration
}

// lastRound returns when the loop that has waited longest came round.
func (p *pace) lastRound() time.Time {
	oldest := p.workers[0].last()
	for _, w := range p.workers[1:] {
		if at := w.last(); at.Before(oldest) {
			oldest = at
		}
	}
	return oldest
}

// Stopped says why this governor must not lead: the loop of a group has not come round for five of the longest period.
// It returns nil while all do, also where they end in a hold. It does not block.
func (d *Daemon) Stopped() error {
	p := d.pace.Load()
	if len(p.workers) == 0 {
		return nil
	}
	since := p.lastRound()
	if woke := d.woke.Load(); woke != nil && woke.After(since) {
		since = *woke // the loops had no chance to run before that
	}
	if idle := time.Since(since); idle > stoppedAfter*p.longest {
		return fmt.Errorf("the loops have stopped: those of a group have not come round for %s, allowed are %d periods of %s",
			idle.Round(time.Second), stoppedAfter, p.longest)
	}
	return nil
}

// WhileTicking runs lead, such as the election, until ctx ends. It ends lead's context while the loops have stopped, and
// runs it again when they come round: a governor that decides nothing must let a standby lead.
func (d *Daemon) WhileTicking(ctx context.Context, lead func(context.Context)) {
	for ctx.Err() == nil {
		leading, end := context.WithCancel(ctx)
		var term sync.WaitGroup
		term.Go(func() { lead(leading) })
		d.await(ctx, func() bool { return d.Stopped() != nil })
		end()
		term.Wait()
		d.await(ctx, func() bool { return d.Stopped() == nil })
	}
}

// await returns once the condition is true, or when ctx ends.
func (d *Daemon) await(ctx context.Context, condition func() bool) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	for !condition() {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
	}
}

// watch counts the grid points that pass while a tick runs, and logs when the loops stop and when they go on.
func (d *Daemon) watch(ctx context.Context) {
	look := time.NewTicker(lookEvery)
	defer look.Stop()
	looked := time.Now()
	var stopped error
	for {
		select {
		case <-ctx.Done():
			return
		case <-look.C:
		}
		now := time.Now()
		if now.Sub(looked) > 3*lookEvery { // this process did not run: neither did the loops
			d.woke.Store(&now)
		}
		looked = now
		for _, p := range d.pace.Load().workers {
			d.recorder.Skipped(p.skipped(now))
		}
		before := stopped
		switch stopped = d.Stopped(); {
		case stopped != nil && before == nil:
			d.opts.Log.Error("giving up the lead, so that a standby can take over", "err", stopped)
		case stopped == nil && before != nil:
			d.opts.Log.Info("the loops come round again")
		}
	}
}
