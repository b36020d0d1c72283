package signals

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	v1 "github.com/prometheus/client_golang/api/prometheus/v1"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
)

// Learned is what the data in Prometheus tell about a service that nobody needs to configure.
type Learned struct {
	Scrape time.Duration // how often its newest series are scraped; 0: not known
	Native bool          // its histogram is there as a native one only
}

// How Learn looks: at the last samples of a few series of each service.
const (
	learnReach   = 11 * time.Minute // holds three samples at the slowest interval, 5 m
	learnSeries  = 3                // the slowest of which counts
	learnGaps    = 8                // the last ones, whose median is the interval
	learnAtOnce  = 4                // services
	learnTimeout = 5 * time.Second
)

// Learn looks at the raw samples of each service and says how often it is scraped. It works without the metadata of
// targets, which servers compatible with Prometheus do not have. A service that it finds nothing of, or whose series
// have fewer than three samples yet, is not in the answer. Services need no valid Timing for it.
func Learn(ctx context.Context, opts Options, services []Service) (map[string]Learned, error) {
	c, err := newClient(opts)
	if err != nil {
		return nil, err
	}
	defer c.CloseIdleConnections()
	l := learner{api: v1.NewAPI(c), timeout: min(cmp.Or(opts.Timeout, defaultTimeout), learnTimeout), now: time.Now()}
	found := map[string]Learned{}
	var mu sync.Mutex
	var all sync.WaitGroup
	slots := make(chan struct{}, learnAtOnce)
	for _, s := range services {
		slots <- struct{}{}
		all.Go(func() {
			defer func() { <-slots }()
			if s.Preset == "" {
				s.Preset = Guard
			}
			learned := l.service(ctx, s)
			mu.Lock()
			defer mu.Unlock()
			if learned.Scrape > 0 {
				found[s.Name] = learned
			}
		})
	}
	all.Wait()
	return found, nil
}

type learner struct {
	api     v1.API
	timeout time.Duration
	now     time.Time
}

// query returns the value of an expression, nil if there was none in time.
func (l learner) query(ctx context.Context, expr string) model.Value {
	ctx, cancel := context.WithTimeout(ctx, l.timeout)
	defer cancel()
	v, _, _, err := l.api.Query(ctx, expr, l.now, v1.WithTimeout(serverTimeout(l.timeout)))
	if err != nil {
		return nil
	}
	return v
}

// service looks at one service.
func (l learner) service(ctx context.Context, s Service) Learned {
	s.Native = false
	classic := newSubject(s)
	if s.Preset == Custom {
		return Learned{Scrape: l.interval(ctx, classic)}
	}
	s.Native = true
	native := newSubject(s)
	if l.finds(ctx, "count("+classic.selector(sigCompleted)+")") || !l.finds(ctx, "count(histogram_count("+native.selector(sigCompleted)+"))") {
		return Learned{Scrape: l.interval(ctx, classic)}
	}
	return Learned{Scrape: l.interval(ctx, native), Native: true}
}

// finds says whether the expression gives anything.
func (l learner) finds(ctx context.Context, expr string) bool {
	found, _ := l.query(ctx, expr).(model.Vector)
	return len(found) > 0
}

// interval is the scrape interval of the service: of a few of its series the longest, so that it is the same each time.
func (l learner) interval(ctx context.Context, s subject) time.Duration {
	var longest time.Duration
	for _, selector := range s.stands() {
		series, _ := l.query(ctx, "topk(3, timestamp("+selector+"))").(model.Vector)
		for _, one := range series[:min(len(series), learnSeries)] {
			longest = max(longest, l.gap(ctx, selector, one.Metric))
		}
		if longest > 0 {
			break
		}
	}
	return longest
}

// gap is the usual time between the last samples of one series.
func (l learner) gap(ctx context.Context, selector string, labels model.Metric) time.Duration {
	var matchers []string
	for _, name := range slices.Sorted(maps.Keys(labels)) {
		if name != model.MetricNameLabel {
			matchers = append(matchers, equality(string(name), string(labels[name])))
		}
	}
	one := strings.TrimSuffix(selector, "}")
	if len(matchers) > 0 && !strings.HasSuffix(one, "{") {
		one += ", "
	}
	one += strings.Join(matchers, ", ") + "}"
	matrix, _ := l.query(ctx, one+"["+promDuration(learnReach)+"]").(model.Matrix)
	if len(matrix) != 1 {
		return 0
	}
	var stamps []time.Time
	for _, v := range matrix[0].Values {
		stamps = append(stamps, v.Timestamp.Time())
	}
	for _, v := range matrix[0].Histograms {
		stamps = append(stamps, v.Timestamp.Time())
	}
	if len(stamps) < 3 {
		return 0
	}
	var gaps []time.Duration
	for i := max(1, len(stamps)-learnGaps); i < len(stamps); i++ {
		gaps = append(gaps, stamps[i].Sub(stamps[i-1]))
	}
	slices.Sort(gaps)
	return control.RoundInterval(gaps[(len(gaps)-1)/2].Seconds())
}

// stands lists the selectors of series that stand for the instances of the service.
func (s subject) stands() []string {
	if s.Preset != Custom {
		return []string{s.selector(sigSeen)}
	}
	expr, err := parseQuery(s.Queries[Offered], time.Minute)
	if err != nil {
		return nil
	}
	return readBy(expr)
}
