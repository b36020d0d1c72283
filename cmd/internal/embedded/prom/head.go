package prom

import (
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"sync"
	"time"

	"github.com/prometheus/common/model"
	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/util/annotations"
)

// head is the storage: for every series, the samples within the retention. Timestamps are milliseconds since 1970.
type head struct {
	retention int64 // ms
	maxSeries int

	mu     sync.RWMutex
	byKey  map[string]*series
	byName map[string][]*series // by metric name, in the order of creation
	number int                  // series created so far
	newest int64
	swept  int64
}

// series is one time series. Its samples are only appended to, or replaced as a whole, so a reader may keep a slice of
// them without a lock.
type series struct {
	number  int // Answers are in the order of creation, as Prometheus's are: sums then round alike.
	labels  labels.Labels
	samples []sample
}

func newHead(retention time.Duration, maxSeries int) *head {
	return &head{
		retention: retention.Milliseconds(), maxSeries: maxSeries,
		byKey: map[string]*series{}, byName: map[string][]*series{},
	}
}

// keyOf returns the identity of a label set, for maps.
func keyOf(l labels.Labels) string { return string(l.Bytes(nil)) }

// check returns why a sample cannot be appended: storage.ErrOutOfOrderSample, ErrDuplicateSampleForTimestamp or
// ErrOutOfBounds. The caller holds mu.
func (h *head) check(key string, t int64, v float64) error {
	if t < h.newest-h.retention {
		return storage.ErrOutOfBounds
	}
	s := h.byKey[key]
	if s == nil || len(s.samples) == 0 {
		return nil
	}
	switch last := s.samples[len(s.samples)-1]; {
	case t > last.t:
		return nil
	case t < last.t:
		return storage.ErrOutOfOrderSample
	case math.Float64bits(v) != math.Float64bits(last.v):
		return storage.ErrDuplicateSampleForTimestamp
	}
	return nil
}

// pending is one sample of a batch.
type pending struct {
	key    string
	labels labels.Labels
	sample
}

// room returns an error if a batch would need too many series. The caller holds mu.
func (h *head) room(batch []pending) error {
	added := map[string]bool{}
	for _, p := range batch {
		if h.byKey[p.key] == nil {
			added[p.key] = true
		}
	}
	if len(h.byKey)+len(added) > h.maxSeries {
		return fmt.Errorf("%d series are stored and %d would be new: more than %d are not kept",
			len(h.byKey), len(added), h.maxSeries)
	}
	return nil
}

// commit appends a batch. Samples that are not newer than the last of their series are skipped. The caller holds mu.
func (h *head) commit(batch []pending) {
	for _, p := range batch {
		s := h.byKey[p.key]
		if s == nil {
			h.number++
			s = &series{number: h.number, labels: p.labels}
			h.byKey[p.key] = s
			name := p.labels.Get(model.MetricNameLabel)
			h.byName[name] = append(h.byName[name], s)
		}
		if n := len(s.samples); n > 0 && p.t <= s.samples[n-1].t {
			continue
		}
		if n := len(s.samples); n > 0 && n == cap(s.samples) {
			s.samples = slices.Clone(from(s.samples, h.newest-h.retention)) // instead of growing with samples that are too old
		}
		s.samples = append(s.samples, p.sample)
		h.newest = max(h.newest, p.t)
	}
	if h.newest-h.swept > h.retention/60 {
		h.sweep()
	}
}

// sweep drops samples older than the retention, and series without samples.
func (h *head) sweep() {
	h.swept = h.newest
	oldest := h.newest - h.retention
	for key, s := range h.byKey {
		live := from(s.samples, oldest)
		if len(live) > 0 {
			if len(live) < len(s.samples)/2 {
				s.samples = slices.Clone(live)
			}
			continue
		}
		delete(h.byKey, key)
		name := s.labels.Get(model.MetricNameLabel)
		h.byName[name] = slices.DeleteFunc(slices.Clone(h.byName[name]), func(o *series) bool { return o == s })
		if len(h.byName[name]) == 0 {
			delete(h.byName, name)
		}
	}
}

// from returns the samples at or after t.
func from(samples []sample, t int64) []sample {
	return samples[sort.Search(len(samples), func(i int) bool { return samples[i].t >= t }):]
}

// Querier implements storage.Queryable.
func (h *head) Querier(mint, maxt int64) (storage.Querier, error) {
	return &querier{head: h, mint: mint, maxt: maxt}, nil
}

type querier struct {
	head       *head
	mint, maxt int64
}

func (q *querier) Close() error { return nil }

// Select returns the matching series with their samples in the querier's range.
func (q *querier) Select(_ context.Context, sorted bool, hints *storage.SelectHints, matchers ...*labels.Matcher,
) storage.SeriesSet {
	mint, maxt := q.mint, q.maxt
	if hints != nil {
		mint, maxt = max(mint, hints.Start), min(maxt, hints.End)
	}
	q.head.mu.RLock()
	defer q.head.mu.RUnlock()
	mint = max(mint, q.head.newest-q.head.retention)
	set := &seriesSet{at: -1}
	for _, s := range q.head.matching(matchers) {
		live := from(s.samples, mint)
		live = live[:sort.Search(len(live), func(i int) bool { return live[i].t > maxt })]
		if len(live) == 0 {
			continue
		}
		set.list = append(set.list, &storage.SeriesEntry{
			Lset: s.labels,
			SampleIteratorFn: func(chunkenc.Iterator) chunkenc.Iterator {
				return storage.NewListSeriesIterator(sampleList(live))
			},
		})
	}
	if sorted {
		slices.SortFunc(set.list, func(a, b storage.Series) int { return labels.Compare(a.Labels(), b.Labels()) })
	}
	return set
}

// matching returns the matching series. The caller holds mu.
func (h *head) matching(matchers []*labels.Matcher) (found []*series) {
	consider := func(candidates []*series) {
	next:
		for _, s := range candidates {
			for _, m := range matchers {
				if !m.Matches(s.labels.Get(m.Name)) {
					continue next
				}
			}
			found = append(found, s)
		}
	}
	for _, m := range matchers {
		if m.Name == model.MetricNameLabel && m.Type == labels.MatchEqual {
			consider(h.byName[m.Value])
			return found
		}
	}
	for _, candidates := range h.byName {
		consider(candidates)
	}
	slices.SortFunc(found, func(a, b *series) int { return a.number - b.number })
	return found
}

// LabelNames implements storage.LabelQuerier.
func (q *querier) LabelNames(_ context.Context, _ *storage.LabelHints, matchers ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	return q.collect(matchers, func(l labels.Labels, add func(string)) {
		l.Range(func(l labels.Label) { add(l.Name) })
	}), nil, nil
}

// LabelValues implements storage.LabelQuerier.
func (q *querier) LabelValues(_ context.Context, name string, _ *storage.LabelHints, matchers ...*labels.Matcher,
) ([]string, annotations.Annotations, error) {
	return q.collect(matchers, func(l labels.Labels, add func(string)) {
		if v := l.Get(name); v != "" {
			add(v)
		}
	}), nil, nil
}

func (q *querier) collect(matchers []*labels.Matcher, each func(l labels.Labels, add func(string))) []string {
	q.head.mu.RLock()
	defer q.head.mu.RUnlock()
	found := map[string]struct{}{}
	for _, s := range q.head.matching(matchers) {
		each(s.labels, func(v string) { found[v] = struct{}{} })
	}
	return slices.Sorted(maps.Keys(found))
}

type seriesSet struct {
	list []storage.Series
	at   int
}

func (s *seriesSet) Next() bool                        { s.at++; return s.at < len(s.list) }
func (s *seriesSet) At() storage.Series                { return s.list[s.at] }
func (s *seriesSet) Err() error                        { return nil }
func (s *seriesSet) Warnings() annotations.Annotations { return nil }

// sample is one float at an instant.
type sample struct {
	t int64
	v float64
}

// The methods of *sample and sampleList are what storage's iterator over a list asks for.
func (s *sample) T() int64                      { return s.t }
func (s *sample) ST() int64                     { return 0 }
func (s *sample) F() float64                    { return s.v }
func (s *sample) H() *histogram.Histogram       { return nil }
func (s *sample) FH() *histogram.FloatHistogram { return nil }
func (s *sample) Type() chunkenc.ValueType      { return chunkenc.ValFloat }
func (s *sample) Copy() chunks.Sample           { c := *s; return &c }

type sampleList []sample

func (l sampleList) Get(i int) chunks.Sample { return &l[i] }
func (l sampleList) Len() int                { return len(l) }
