package signals

import (
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

// Group measures the services that share one query. One goroutine owns a group's pace; Measure never blocks for longer
// than Deadline.
type Group struct {
	api      v1.API
	key      groupKey
	timing   control.Timing
	services []Service
	query    string
	deadline time.Duration

	inFlight sync.Mutex // held while the query runs

	mu       sync.Mutex // guards what follows
	health   Health
	observed control.Reading
}

// Services names the services, in the order of Measure's answer.
func (g *Group) Services() []string {
	names := make([]string, len(g.services))
	for i, s := range g.services {
		names[i] = s.Name
	}
	return names
}

// Timing is the pace of the group: Period is how often to call Measure.
func (g *Group) Timing() control.Timing { return g.timing }

// Deadline bounds one call of Measure; it is at most 0.8 of the period.
func (g *Group) Deadline() time.Duration { return g.deadline }

// Query is the PromQL that Measure evaluates, for people who want to see it with their own eyes.
func (g *Group) Query() string { return g.query }

// String identifies the group in a log line.
func (g *Group) String() string {
	return fmt.Sprintf("%s S=%s W=%s T=%s objective=%s services=%d", g.key.preset, g.key.scrape, g.key.window,
		g.key.period, strconv.FormatFloat(g.key.objective, 'f', -1, 64), len(g.services))
}

// Health is how the group's last query went; a group that has not asked yet is not OK. It is safe for concurrent use.
func (g *Group) Health() Health {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.health
}

// ObservedScrape is the scrape interval in seconds that the last answered query found in the data: the median over the
// instances of two windows divided by the samples in them. Compare it with Timing.Scrape: all delays derive from that.
// It is safe for concurrent use.
func (g *Group) ObservedScrape() control.Reading {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.observed
}

// Measure evaluates the group's query at the instant now and returns one Measurement for each service, in the order of
// Services. It always returns within Deadline; whatever failed is in the Measurements, as a reason and a sentence. A
// call while another is running does not ask a second time: it returns at once, with the reason Timeout.
func (g *Group) Measure(ctx context.Context, now time.Time) []control.Measurement {
	now = now.Truncate(time.Millisecond) // what Prometheus resolves
	if !g.inFlight.TryLock() {
		return g.invalid(now, 0, control.Timeout, "the query of the tick before is still running")
	}
	defer g.inFlight.Unlock()

	var ex exchange
	ctx, cancel := context.WithTimeout(context.WithValue(ctx, exchangeKey{}, &ex), g.deadline)
	defer cancel()
	started := time.Now()
	limit := g.deadline
	if d, ok := ctx.Deadline(); ok { // the caller's may be earlier
		limit = d.Sub(started).Round(time.Millisecond)
	}
	value, warnings, _, err := g.api.Query(ctx, g.query, now, v1.WithTimeout(serverTimeout(limit)))
	took := time.Since(started)

	var reason control.Reason
	var detail string
	vector, isVector := value.(model.Vector)
	switch {
	case err != nil:
		reason, detail = explain(err, ex, limit)
	case !isVector:
		reason, detail = control.QueryError, fmt.Sprintf("Prometheus answered with %T, not a vector", value)
	}
	if reason != "" {
		g.failed(detail)
		return g.invalid(now, took, reason, detail)
	}

	r := tabulate(vector)
	g.answered(started.Add(took), took, ex.skew, r.observedScrape(g.key.window))
	partial := partialOf(warnings)
	ms := make([]control.Measurement, len(g.services))
	for i, s := range g.services {
		m := control.Measurement{Service: s.Name, At: now, Window: g.key.window, Took: took, Partial: partial}
		if ex.skew.Abs() > s.StaleAfter {
			m.Invalid, m.Detail = control.Clock, skewDetail(ex.skew)
		} else {
			r.fill(&m, s, now)
		}
		ms[i] = m
	}
	return ms
}

func (g *Group) invalid(now time.Time, took time.Duration, why control.Reason, detail string) []control.Measurement {
	ms := make([]control.Measurement, len(g.services))
	for i, s := range g.services {
		ms[i] = control.Measurement{
			Service: s.Name, At: now, Window: g.key.window, Took: took, Invalid: why, Detail: detail,
			Quantile: control.Missing(why, detail),
		}
	}
	return ms
}

func (g *Group) failed(detail string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health.OK, g.health.Error = false, detail
}

func (g *Group) answered(at time.Time, took, skew time.Duration, observed control.Reading) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.health = Health{OK: true, Latency: took, LastOK: at, Skew: skew}
	g.observed = observed
}

// serverTimeout is the deadline told to the server, so that it stops working for a client that has left. The API reads
// no fractions of a second other than milliseconds.
func serverTimeout(d time.Duration) time.Duration {
	if d >= time.Second {
		return (d + time.Second - 1).Truncate(time.Second)
	}
	return max(d.Truncate(time.Millisecond), time.Millisecond)
}

// partialOf joins the warnings of a reply. Older servers send their notes (such as bucket counts made
// monotonic) in the same list; those are normal and say nothing about missing data.
func partialOf(warnings v1.Warnings) string {
	var kept []string
	for _, w := range warnings {
		if !strings.HasPrefix(w, "PromQL info:") {
			kept = append(kept, brief(w))
		}
	}
	return strings.Join(kept, "; ")
}

func skewDetail(skew time.Duration) string {
	side := "ahead of"
	if skew < 0 {
		side = "behind"
	}
	return fmt.Sprintf("the clock of Prometheus is %s %s governor's, so no sample's age can be trusted: synchronise them",
		skew.Abs().Round(time.Second), side)
}
