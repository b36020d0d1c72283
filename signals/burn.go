package signals

import (
	"context"
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
)

// Burn rates cover hours, so their query is expensive and its answer changes slowly. It runs in the background at a
// pace of its own; the ticks in between use the last answer until it is too old.
const (
	burnPace   = 30 * time.Second
	burnMemory = 3 // an answer counts for this many paces
)

// burnRequests is how many requests a window must contain before its burn rate means anything.
const burnRequests = 100

type burnRates struct {
	query          string
	pace, deadline time.Duration
	background     context.Context
	running        sync.WaitGroup // at most one

	mu     sync.Mutex // guards what follows
	closed bool
	asked  time.Time // zero: never
	busy   bool
	at     time.Time // of the reply; zero: none yet
	reply  *reply
	bad    bool // the last query failed; see fault
	fault  control.Reading
}

func newBurnRates(background context.Context, opts Options, g *Group, get bool) *burnRates {
	b := &burnRates{background: background, pace: max(burnPace, g.timing.Period)}
	b.deadline = deadline(opts.Timeout, b.pace)
	if s := g.services[0]; len(s.Queries) > 0 {
		b.query = s.ownBurn()
	} else {
		b.query = fitted(get, g.services, func(selectors []string) string {
			return newBuilder(g.key, g.services, selectors).burn()
		})
	}
	return b
}

// refresh starts a new query if one is due, and returns at once.
func (b *burnRates) refresh(g *Group, now time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.query == "" || b.closed || b.busy || !b.asked.IsZero() && now.Sub(b.asked) < b.pace && !now.Before(b.asked) {
		return
	}
	b.asked, b.busy = now, true
	b.running.Go(func() { b.take(g, now, g.ask(b.background, b.query, now, b.deadline)) })
}

// stop waits for the running query and prevents any other from starting.
func (b *burnRates) stop() {
	b.mu.Lock()
	b.closed = true
	b.mu.Unlock()
	b.running.Wait()
}

// take stores the answer for the following ticks.
func (b *burnRates) take(g *Group, now time.Time, a answer) {
	r := g.tabulate(a.vector) // before the lock: a tick may be waiting for it
	b.mu.Lock()
	defer b.mu.Unlock()
	b.busy = false
	if b.bad = a.reason != ""; b.bad {
		b.fault = control.Missing(a.reason, "burn rates: "+a.detail)
		return
	}
	b.at, b.reply = now, r
}

// of returns the burn rates of the service according to the last answer.
func (b *burnRates) of(s subject, now time.Time) (burn [len(control.BurnRates)]control.Burn) {
	b.mu.Lock()
	defer b.mu.Unlock()
	age := now.Sub(b.at)
	var missing control.Reading
	switch fresh := !b.at.IsZero() && age <= burnMemory*b.pace; {
	case fresh:
		for i, rates := range control.BurnRates {
			burn[i].Long = b.reply.burnRate(s, rates.Long, rates.Multiple)
			burn[i].Short = b.reply.burnRate(s, rates.Short, rates.Multiple)
			if b.reply.young(s, rates.Long, rates.Short) {
				burn[i].Long = control.Missing(control.Starting, "hardly more requests in "+promDuration(rates.Long)+
					" than in "+promDuration(rates.Short)+": the long window does not cover its time yet")
			}
		}
		return burn
	case b.query == "":
		missing = control.Missing(control.NoData, "the queries of slow and failed do not follow "+windowVariable)
	case b.bad:
		missing = b.fault
	case b.at.IsZero():
		missing = control.Missing(control.Starting, fmt.Sprintf("burn rates: asked every %s, no answer yet", b.pace))
	default:
		missing = control.Missing(control.Stale, fmt.Sprintf("burn rates: stale %s > %s", seconds(age.Seconds()),
			seconds((burnMemory*b.pace).Seconds())))
	}
	for i := range burn {
		burn[i] = control.Burn{Long: missing, Short: missing}
	}
	return burn
}

// young says that the series do not go back far enough for the long window to mean anything: one minute after a start
// the last hour shows only that minute, and one bad minute would read as a bad hour.
func (r *reply) young(s subject, long, short time.Duration) bool {
	inLong, ok := s.read(sigCompleted, r.service(burnSignal(sigCompleted, long), s.Name)).Value()
	inShort, ok2 := s.read(sigCompleted, r.service(burnSignal(sigCompleted, short), s.Name)).Value()
	return ok && ok2 && inLong < youngest*inShort
}

// youngest is how many times the requests of the short window the long window, twelve times as long, must contain.
const youngest = 3

// burnRate is the worse of the slow and the failed ratio over a window, each as a multiple of its budget. If one of
// them is missing, the other counts only if it alone exceeds the multiple: the true value can only be worse.
func (r *reply) burnRate(s subject, window time.Duration, multiple float64) control.Reading {
	total := s.read(sigCompleted, r.service(burnSignal(sigCompleted, window), s.Name))
	switch n, ok := total.Value(); {
	case !ok:
		return total
	case n < burnRequests:
		return control.Missing(control.TooLittleTraffic,
			fmt.Sprintf("%s requests in %s, needs %d", format.Count(n), promDuration(window), burnRequests))
	}
	of := func(bad control.Reading, budget float64) control.Reading {
		return bad.ShareOf(total).Over(control.Read(budget), "no budget")
	}
	ratios := []control.Reading{of(r.burnSlow(s, window, total), 1-s.SLO.Objective)}
	if s.SLO.Errors > 0 {
		ratios = append(ratios, of(r.burnFailed(s, window), s.SLO.Errors))
	}
	worst, missing := math.Inf(-1), control.Reading{}
	unknown := false
	for _, ratio := range ratios {
		if v, ok := ratio.Value(); ok {
			worst = max(worst, v)
		} else {
			missing, unknown = ratio, true
		}
	}
	if unknown && !(worst > multiple) {
		return missing
	}
	return control.Read(worst)
}

func (r *reply) burnSlow(s subject, window time.Duration, total control.Reading) control.Reading {
	if s.Queries[Slow] != "" {
		return s.read(string(Slow), r.service(burnSignal(string(Slow), window), s.Name))
	}
	fast, ok := r.upToSLO(s, r.service(burnSignal(sigBucket, window), s.Name))
	for _, at := range []time.Duration{0, window} {
		series, edges := r.service(burnSignal("series", at), s.Name), r.service(burnSignal("edges", at), s.Name)
		if why := s.uncovered(series, edges, at); ok && why != "" {
			return control.Missing(control.NoData, why)
		}
	}
	if !ok || r.straddled(s) != "" {
		return control.Missing(control.NoData, fmt.Sprintf("no bucket edge at the SLO of %s", s.SLO.Latency))
	}
	return total.Less(fast)
}

func (r *reply) burnFailed(s subject, window time.Duration) control.Reading {
	found := r.service(burnSignal(sigFailed, window), s.Name)
	if len(found) == 0 && len(r.service(hasLabels(sigFailed), s.Name)) > 0 {
		return control.Read(0)
	}
	return s.read(sigFailed, found)
}

// ownBurn is the burn-rate query of a service with user-supplied queries: the same queries over longer windows. It is
// "" if they do not leave the window to governor.
func (s subject) ownBurn() string {
	for _, signal := range []Signal{Offered, Admitted, Refused, Completed, Slow, Failed} {
		if text := s.Queries[signal]; text != "" && !strings.Contains(text, windowVariable) {
			return ""
		}
	}
	b := newBuilder(keyOf(s), []subject{s}, selectors([]subject{s}, true))
	for _, w := range burnWindows() {
		own := func(signal Signal) string {
			expr, _ := parseQuery(s.Queries[signal], w) // validated
			return "sum(" + expr.String() + ")"
		}
		completed := ""
		switch custom := s.Preset == Custom; {
		case s.Queries[Completed] != "":
			completed = own(Completed)
		case custom && s.Queries[Admitted] != "":
			completed = own(Admitted)
		case custom && s.Queries[Refused] != "":
			completed = own(Offered) + " - " + own(Refused)
		case custom:
			completed = own(Offered)
		}
		count := func(signal, perSecond string) {
			b.add(burnSignal(signal, w), fmt.Sprintf("(%s) * %v", perSecond, w.Seconds()))
		}
		_, preset := b.from[sigFailed]
		switch {
		case completed != "":
			count(sigCompleted, completed)
		default:
			b.add(burnSignal(sigCompleted, w), b.counted(w, sigCompleted))
		}
		switch {
		case s.Queries[Slow] != "":
			count(string(Slow), own(Slow))
		case s.Preset != Custom:
			b.within(burnSignal(sigBucket, w), w)
			b.coverage(burnSignal("series", w), burnSignal("edges", w), w)
		}
		switch {
		case s.Queries[Failed] != "":
			count(sigFailed, own(Failed))
		case preset:
			b.add(burnSignal(sigFailed, w), b.counted(w, sigFailed))
		}
	}
	if b.native != "" {
		b.add(sigEdges, b.by("sum", b.each("$", sigEdges)))
	}
	if s.Preset == HTTPHistogram {
		b.labels()
	}
	return b.String()
}
