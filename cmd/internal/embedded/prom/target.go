package prom

import (
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/model/textparse"
	"github.com/prometheus/prometheus/model/value"
	"github.com/prometheus/prometheus/storage"
)

// maxAhead is how far in the future a sample may claim to be.
const maxAhead = 10 * time.Minute

var stale = math.Float64frombits(value.StaleNaN)

// target is one scraped endpoint and its state between scrapes. It is for one goroutine.
type target struct {
	head    *head
	url     string
	labels  labels.Labels // with job and instance, without those that start with __
	symbols *labels.SymbolTable

	scrapes int
	cache   map[string]*entry // by the text of the series in the exposition
	// The series of the last scrape and of this one that can become stale: those without their own timestamps.
	before, now map[string]*entry
}

type entry struct {
	key      string
	labels   labels.Labels
	lastSeen int // number of the scrape
}

func newTarget(h *head, url string, l labels.Labels) *target {
	return &target{
		head: h, url: url, labels: l, symbols: labels.NewSymbolTable(),
		cache: map[string]*entry{}, before: map[string]*entry{}, now: map[string]*entry{},
	}
}

// result is the outcome of a scrape.
type result struct {
	body        []byte
	contentType string
	duration    time.Duration
	err         error // nil: there is a body
}

// store stores the result of the scrape that started at t, and reports it as up, scrape_duration_seconds and so on. The
// error says why up is 0.
func (g *target) store(t time.Time, r result) error {
	g.head.mu.Lock()
	defer g.head.mu.Unlock()
	a := &appender{target: g, t: t.UnixMilli(), latest: t.Add(maxAhead).UnixMilli()}
	body := r.body
	if r.err != nil {
		body = nil
	}
	err := a.scrape(body, r.contentType)
	if err != nil {
		a.batch = nil
		_ = a.scrape(nil, "") // cannot fail without a body
	}
	g.head.commit(a.batch)
	if r.err != nil {
		err = r.err
	}
	up := 1.0
	if err != nil {
		up = 0
	}
	g.report(a.t, up, r.duration.Seconds(), float64(a.scraped), float64(a.kept), float64(a.added))
	return err
}

// end marks all series of the target as stale at t, because it is no longer a target.
func (g *target) end(t time.Time) {
	g.head.mu.Lock()
	defer g.head.mu.Unlock()
	a := &appender{target: g, t: t.UnixMilli()}
	_ = a.scrape(nil, "")
	g.head.commit(a.batch)
	g.report(a.t, stale, stale, stale, stale, stale)
}

var reportNames = []string{
	"up", "scrape_duration_seconds", "scrape_samples_scraped", "scrape_samples_post_metric_relabeling",
	"scrape_series_added",
}

// report stores the scrape's own series at t. These few series are not limited.
func (g *target) report(t int64, values ...float64) {
	var batch []pending
	for i, v := range values {
		b := labels.NewBuilder(g.labels)
		b.Set(model.MetricNameLabel, reportNames[i])
		l := b.Labels()
		batch = append(batch, pending{keyOf(l), l, sample{t, v}})
	}
	g.head.commit(batch)
}

// appender collects the samples of one scrape. It does what Prometheus's scrape loop does, step by step.
type appender struct {
	*target
	t, latest            int64
	batch                []pending
	scraped, kept, added int
}

// scrape parses body, and marks as stale the series of the previous scrape that are missing in this one. Without a body
// that is all of them.
func (a *appender) scrape(body []byte, contentType string) error {
	if len(body) == 0 {
		a.markStale()
		a.next()
		return nil
	}
	p, err := textparse.New(body, contentType, a.symbols, textparse.ParserOptions{IgnoreNativeHistograms: true})
	if p == nil {
		return fmt.Errorf("cannot read what Content-Type %q announces: %w", contentType, err)
	}
	for {
		kind, err := p.Next()
		if errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("cannot parse the metrics: %w", err)
		}
		if kind == textparse.EntrySeries {
			if err := a.sample(p); err != nil {
				return err
			}
		}
	}
	if err := a.head.room(a.batch); err != nil {
		clear(a.now)
		return err
	}
	a.markStale()
	for text, e := range a.cache {
		if e.lastSeen != a.scrapes {
			delete(a.cache, text)
		}
	}
	a.next()
	return nil
}

func (a *appender) sample(p textparse.Parser) error {
	a.scraped++
	text, own, v := p.Series()
	t := a.t
	if own != nil {
		t = *own
	}
	e, known := a.cache[string(text)]
	again := known && e.lastSeen == a.scrapes
	if !known {
		var exposed labels.Labels
		p.Labels(&exposed)
		l := withTarget(exposed, a.labels)
		if !l.Has(model.MetricNameLabel) || !l.IsValid(model.UTF8Validation) {
			return fmt.Errorf("invalid metric name or label names: %s", l)
		}
		e = &entry{key: keyOf(l), labels: l}
	}
	e.lastSeen = a.scrapes
	var err error
	switch {
	case again && own == nil:
		err = storage.ErrDuplicateSampleForTimestamp
	case t > a.latest:
		err = storage.ErrOutOfBounds
	default:
		err = a.head.check(e.key, t, v)
	}
	a.kept++
	if err != nil {
		return nil // dropped, and the rest of the scrape is still good
	}
	a.batch = append(a.batch, pending{e.key, e.labels, sample{t, v}})
	if !known {
		a.added++
		a.cache[string(text)] = e
	}
	if own == nil {
		a.now[e.key] = e
	}
	return nil
}

func (a *appender) markStale() {
	for key, e := range a.before {
		if _, ok := a.now[key]; !ok && a.head.check(key, a.t, stale) == nil {
			a.batch = append(a.batch, pending{key, e.labels, sample{a.t, stale}})
		}
	}
}

func (a *appender) next() {
	a.before, a.now = a.now, a.before
	clear(a.now)
	a.scrapes++
}

// withTarget adds the target's labels to the exposed ones, which move to exported_… on conflict.
func withTarget(exposed, target labels.Labels) labels.Labels {
	b := labels.NewBuilder(exposed)
	var displaced []labels.Label
	target.Range(func(l labels.Label) {
		if v := exposed.Get(l.Name); v != "" {
			displaced = append(displaced, labels.Label{Name: l.Name, Value: v})
		}
		b.Set(l.Name, l.Value)
	})
	slices.SortStableFunc(displaced, func(a, b labels.Label) int { return len(a.Name) - len(b.Name) })
	for _, l := range displaced {
		name := l.Name
		for {
			if name = model.ExportedLabelPrefix + name; b.Get(name) == "" {
				b.Set(name, l.Value)
				break
			}
		}
	}
	return b.Labels()
}

// targetLabels returns the labels of a target in a group, and its URL.
func targetLabels(address string, group map[string]string) (l labels.Labels, url string) {
	path := "/metrics"
	b := labels.NewScratchBuilder(len(group) + 2)
	for name, v := range group {
		switch {
		case name == model.MetricsPathLabel:
			path = v
		case !strings.HasPrefix(name, model.ReservedLabelPrefix) && name != model.InstanceLabel && name != model.JobLabel:
			b.Add(name, v)
		}
	}
	job, instance := group[model.JobLabel], group[model.InstanceLabel]
	if job == "" {
		job = DefaultJob
	}
	if instance == "" {
		instance = address
	}
	b.Add(model.JobLabel, job)
	b.Add(model.InstanceLabel, instance)
	b.Sort()
	return b.Labels(), "http://" + address + path
}
