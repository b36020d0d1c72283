package signals

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// Group measures the services that share one query. One goroutine owns a group and its pace.
type Group struct {
	api      v1.API
	key      groupKey
	timing   control.Timing
	services []subject
	owner    map[string]string // service names by the values of their identifying labels
	query    string            // "": all queries are user-supplied
	own      []ownQuery
	burn     *burnRates
	deadline time.Duration

	inFlight sync.Mutex // held while a measurement runs

	mu       sync.Mutex // guards what follows
	health   Health
	observed control.Reading
}

// Services returns the names of the services, in the order of Measure's result.
func (g *Group) Services() []string {
	names := make([]string, len(g.services))
	for i, s := range g.services {
		names[i] = s.Name
	}
	return names
}

// Timing is the timing of the group. Call Measure once per Period.
func (g *Group) Timing() control.Timing { return g.timing }

// Deadline bounds the queries of one call of Measure; it is at most 0.8 of the period.
func (g *Group) Deadline() time.Duration { return g.deadline }

// Queries returns the PromQL that the group evaluates, for people who want to run it themselves: first the queries of
// each period, and last the slower query of the burn rates.
func (g *Group) Queries() []string {
	var all []string
	if g.query != "" {
		all = append(all, g.query)
	}
	for _, q := range g.own {
		all = append(all, q.query)
	}
	return append(all, g.burn.query)
}

// String identifies the group in a log line.
func (g *Group) String() string {
	return fmt.Sprintf("%s S=%s W=%s T=%s objective=%s services=%d", g.key.preset, g.key.scrape, g.key.window,
		g.key.period, strconv.FormatFloat(g.key.objective, 'f', -1, 64), len(g.services))
}

// Health reports how the group's last query went. A group that has not asked yet is not OK. It is safe for concurrent
// use.
func (g *Group) Health() Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.health
}

// ObservedScrape is the scrape interval in seconds seen in the last answer: two windows divided by the number of
// samples in them, median over the instances. Compare it with Timing.Scrape, from which all delays derive. It is safe
// for concurrent use.
func (g *Group) ObservedScrape() control.Reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.observed
}

// Measure evaluates the group's query at the instant now and returns one Measurement per service, in the order of
// Services. It returns at the latest a sixteenth of Deadline after Deadline, or after the end of ctx, whether the
// queries or the work on their answers take so long; the Measurements report failures as a reason and a sentence. A call
// while the work of another one is running sends no second query: it returns at once, with the reason Timeout.
func (g *Group) Measure(ctx context.Context, now time.Time) []control.Measurement {
	now = now.Truncate(time.Millisecond) // the resolution of Prometheus
	if !g.inFlight.TryLock() {
		return g.invalid(now, 0, control.Timeout, "the query of the previous tick is still running")
	}
	done := make(chan []control.Measurement, 1)
	go func() {
		ms := g.measure(ctx, now)
		g.inFlight.Unlock() // first: the caller may ask again as soon as it has the answer
		done <- ms
	}()
	grace, limit := g.deadline/16, g.deadline
	if d, ok := ctx.Deadline(); ok {
		limit = min(limit, time.Until(d))
	}
	late := time.NewTimer(limit + grace)
	defer late.Stop()
	detail := fmt.Sprintf("governor could not work through the answer of Prometheus within %s: is this machine overloaded?",
		limit.Round(time.Millisecond))
	for ended := ctx.Done(); ; {
		select {
		case ms := <-done:
			return ms
		case <-late.C:
			g.failed(detail)
			return g.invalid(now, limit, control.Timeout, detail)
		case <-ended:
			ended = nil
			late.Reset(grace)
		}
	}
}

func (g *Group) measure(ctx context.Context, now time.Time) []control.Measurement {
	g.burn.refresh(g, now)

	r, a, faults := g.snapshot(ctx, now)
	if a.reason != "" {
		g.failed(a.detail)
		return g.invalid(now, a.took, a.reason, a.detail)
	}
	g.answered(a, r.observedScrape(g.key.window))
	ms := make([]control.Measurement, len(g.services))
	for i, s := range g.services {
		m := control.Measurement{Service: s.Name, At: now, Window: g.key.window, Took: a.took, Partial: a.partial}
		if a.skew.Abs() > s.StaleAfter {
			m.Invalid, m.Detail = control.Clock, skewDetail(a.skew)
		} else {
			r.fill(&m, s, now, faults)
		}
		m.Burn = g.burn.of(s, now)
		ms[i] = m
	}
	return ms
}

// answer is the result of one query.
type answer struct {
	vector  model.Vector
	partial string // the server's warnings
	started time.Time
	took    time.Duration
	exchange
	reason control.Reason // "": answered
	detail string
}

// ask evaluates one query at the instant now, within deadline or ctx's deadline if that is earlier.
func (g *Group) ask(ctx context.Context, query string, now time.Time, deadline time.Duration) answer {
	a := answer{started: time.Now(), exchange: exchange{most: mostBytes(len(g.services))}}
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, &a.exchange), deadline)
	defer cancel()
	if d, ok := ctx.Deadline(); ok { // the caller's may be earlier
		deadline = d.Sub(a.started).Round(time.Millisecond)
	}
	value, warnings, _, err := g.api.Query(ctx, query, now, v1.WithTimeout(serverTimeout(deadline)))
	a.took = time.Since(a.started)
	vector, isVector := value.(model.Vector)
	switch {
	case err != nil:
		a.reason, a.detail = explain(err, a.exchange, deadline)
	case !isVector:
		a.reason, a.detail = control.QueryError, fmt.Sprintf("Prometheus answered with %T, not a vector", value)
	default:
		a.vector, a.partial = vector, partialOf(warnings)
	}
	return a
}

// snapshot runs the query of the tick and the user-supplied queries concurrently. The answer summarizes them; it has
// failed only if nothing can be known.
func (g *Group) snapshot(ctx context.Context, now time.Time) (*reply, answer, faults) {
	own := make([]answer, len(g.own))
	var wg sync.WaitGroup
	for i, q := range g.own {
		wg.Go(func() { own[i] = g.ask(ctx, q.query, now, g.deadline) })
	}
	r := newReply()
	var sum answer
	if g.query != "" {
		sum = g.ask(ctx, g.query, now, g.deadline)
		r = g.tabulate(sum.vector)
	}
	wg.Wait()
	faults := faults{}
	for i, q := range g.own {
		a := own[i]
		if g.query == "" && q.signal == Offered { // says which instances exist, and since when
			took, partial := sum.took, sum.partial
			sum = a
			sum.took, sum.partial = max(took, a.took), joinedWarnings(partial, a.partial)
		} else {
			sum.took, sum.partial = max(sum.took, a.took), joinedWarnings(sum.partial, a.partial)
		}
		if a.reason != "" {
			faults[q.signal] = control.Missing(a.reason, fmt.Sprintf("the query of %s: %s", q.signal, a.detail))
			continue
		}
		r.merge(g.services[0], q.signal, a.vector)
	}
	return r, sum, faults
}

// tabulate assigns the samples to the services of the group.
func (g *Group) tabulate(v model.Vector) *reply {
	return tabulate(v, func(m model.Metric) (string, bool) {
		if g.key.alone != "" {
			return g.key.alone, true
		}
		name, ok := g.owner[g.identity(m)]
		return name, ok
	}, model.LabelName(g.key.instance))
}

// identity joins the values of the labels that identify a service.
func (g *Group) identity(m model.Metric) string {
	var b strings.Builder
	for name := range strings.SplitSeq(g.key.ids, ", ") {
		b.WriteString(strconv.Quote(string(m[model.LabelName(name)])))
	}
	return b.String()
}

func (g *Group) invalid(now time.Time, took time.Duration, why control.Reason, detail string) []control.Measurement {
	ms := make([]control.Measurement, len(g.services))
	for i, s := range g.services {
		ms[i] = control.Measurement{
			Service: s.Name, At: now, Window: g.key.window, Took: took, Invalid: why, Detail: detail,
			Quantile: control.Missing(why, detail), Burn: g.burn.of(s, now),
		}
	}
	return ms
}

func (g *Group) failed(detail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health.OK, g.health.Error = false, detail
}

func (g *Group) answered(a answer, observed control.Reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health = Health{OK: true, Latency: a.took, LastOK: a.started.Add(a.took), Skew: a.skew}
	g.observed = observed
}

// serverTimeout is the deadline passed to the server, so that it stops working for a client that is gone. The API
// accepts no fractions of a second except milliseconds.
func serverTimeout(d time.Duration) time.Duration {
	if d >= time.Second {
		return (d + time.Second - 1).Truncate(time.Second)
	}
	return max(d.Truncate(time.Millisecond), time.Millisecond)
}

// partialOf joins the warnings of a reply. Older servers include notes (such as bucket counts made monotonic) in the
// same list; those are normal and say nothing about missing data.
func partialOf(warnings v1.Warnings) string {
	var kept []string
	for _, w := range warnings {
		if !strings.HasPrefix(w, "PromQL info:") {
			kept = append(kept, brief(w))
		}
	}
	return strings.Join(kept, "; ")
}

func joinedWarnings(a, b string) string {
	if a == "" || b == "" || a == b {
		return cmp.Or(a, b)
	}
	return a + "; " + b
}

func skewDetail(skew time.Duration) string {
	side := "ahead of"
	if skew < 0 {
		side = "behind"
	}
	return fmt.Sprintf("the clock of Prometheus is %s %s governor's, so no sample's age can be trusted: synchronize them",
		skew.Abs().Round(time.Second), side)
}
