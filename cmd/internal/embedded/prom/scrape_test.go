package prom

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// bubble is a server that scrapes on its own clock. pages decides what a target answers.
type bubble struct {
	*Server
	stop func()
}

func newBubble(t *testing.T, options Options, pages func(r *http.Request) (string, error)) *bubble {
	options.Transport = transport(func(r *http.Request) (*http.Response, error) {
		body, err := pages(r)
		if err != nil {
			return nil, err
		}
		return &http.Response{
			StatusCode: http.StatusOK, Header: http.Header{"Content-Type": {classic}},
			Body: io.NopCloser(strings.NewReader(body)), Request: r,
		}, nil
	})
	b := &bubble{Server: New(options)}
	b.start(t)
	return b
}

func (b *bubble) start(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); b.Run(ctx) }()
	b.stop = func() { cancel(); <-done }
	t.Cleanup(b.stop)
}

// query returns the points of the only series; nil if there is none.
func (b *bubble) query(t *testing.T, query string) []point {
	t.Helper()
	w := httptest.NewRecorder()
	b.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/query?query="+url.QueryEscape(query), nil))
	var reply struct {
		Data struct {
			Result []struct {
				Value  point
				Values []point
			}
		}
	}
	if err := json.Unmarshal(w.Body.Bytes(), &reply); err != nil || w.Code != http.StatusOK {
		t.Fatalf("%s: status %d: %s", query, w.Code, w.Body)
	}
	switch result := reply.Data.Result; {
	case len(result) > 1:
		t.Fatalf("%s: %d series", query, len(result))
	case len(result) == 0:
		return nil
	case result[0].Values != nil:
		return result[0].Values
	default:
		return []point{result[0].Value}
	}
	return nil
}

type point struct {
	at    time.Time
	value string
}

func (p *point) UnmarshalJSON(b []byte) error {
	var pair [2]any
	if err := json.Unmarshal(b, &pair); err != nil {
		return err
	}
	p.at, p.value = millis(pair[0]), pair[1].(string)
	return nil
}

func one(targets ...string) []TargetGroup { return []TargetGroup{{Targets: targets}} }

func counting() func(*http.Request) (string, error) {
	var n atomic.Int64
	return func(*http.Request) (string, error) { return fmt.Sprintf("scrapes_total %d\n", n.Add(1)), nil }
}

func TestEachTargetHasItsPhaseOnTheGrid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, Options{Targets: one("a:1", "b:1")}, func(*http.Request) (string, error) { return "x 1\n", nil })
		time.Sleep(10 * time.Second)
		phases := map[time.Duration]bool{}
		for _, instance := range []string{"a:1", "b:1"} {
			points := b.query(t, fmt.Sprintf("up{instance=%q,job=\"services\"}[1m]", instance))
			if len(points) != 10 {
				t.Fatalf("%d scrapes of %s in 10 s, want 10", len(points), instance)
			}
			for i, p := range points {
				if want := points[0].at.Add(time.Duration(i) * time.Second); !p.at.Equal(want) || p.value != "1" {
					t.Errorf("scrape %d at %s, want %s, up = %s", i, p.at, want, p.value)
				}
			}
			phases[points[0].at.Sub(points[0].at.Truncate(time.Second))] = true
		}
		if len(phases) != 2 {
			t.Error("both targets are scraped at the same instant")
		}
	})
}

func TestRemovedTargetBecomesStaleAfterTwoIntervals(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, Options{Targets: one("a:1")}, counting())
		time.Sleep(5500 * time.Millisecond)
		if b.query(t, "scrapes_total") == nil {
			t.Fatal("not there before the removal")
		}
		removed := time.Now()
		b.SetTargets()
		for now := removed; b.query(t, "scrapes_total") != nil; now = time.Now() {
			if now.Sub(removed) > 5*time.Second {
				t.Fatal("still there 5 s after the removal")
			}
			time.Sleep(100 * time.Millisecond)
		}
		if took := time.Since(removed); took < 1100*time.Millisecond || took > 2300*time.Millisecond {
			t.Errorf("stale %s after the removal, want 1 to 2 intervals and 10%%", took)
		}
		if b.query(t, "up") != nil {
			t.Error("up is left")
		}
		if n := len(b.query(t, "scrapes_total[1m]")); n < 5 {
			t.Errorf("%d samples are left of the past, want them all", n)
		}
	})
}

// A target that changes its group is a new target: its new samples arrive before the markers, which are dropped.
func TestTargetThatOnlyMovedIsNotStale(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, Options{Targets: one("a:1")}, counting())
		time.Sleep(5 * time.Second)
		b.SetTargets()
		time.Sleep(100 * time.Millisecond)
		b.SetTargets(one("a:1")...)
		for range 50 {
			time.Sleep(100 * time.Millisecond)
			if b.query(t, "scrapes_total") == nil || b.query(t, "up") == nil {
				t.Fatal("there is a gap")
			}
		}
	})
}

func TestTargetThatHangsIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var hang atomic.Bool
		b := newBubble(t, Options{Targets: one("a:1")}, func(r *http.Request) (string, error) {
			if hang.Load() {
				<-r.Context().Done()
				return "", r.Context().Err()
			}
			return "x 1\n", nil
		})
		time.Sleep(3 * time.Second)
		hang.Store(true)
		time.Sleep(3 * time.Second)
		if up := b.query(t, "up"); len(up) != 1 || up[0].value != "0" {
			t.Errorf("up = %v", up)
		}
		if took := b.query(t, "scrape_duration_seconds"); len(took) != 1 || took[0].value != "1" {
			t.Errorf("the scrape took %v, want its time-out of 1 s", took)
		}
		if x := b.query(t, "x"); x != nil {
			t.Errorf("x = %v of a target that is down", x)
		}
		hang.Store(false)
		time.Sleep(2 * time.Second)
		if up := b.query(t, "up"); len(up) != 1 || up[0].value != "1" {
			t.Errorf("up = %v after it has come back", up)
		}
	})
}

func TestKilledServerGoesOnWithAGap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := newBubble(t, Options{Targets: one("a:1")}, counting())
		time.Sleep(5 * time.Second)
		b.stop()
		time.Sleep(20 * time.Second)
		// Nothing was marked: the value of the last scrape is still there, with its age.
		if x := b.query(t, "time() - timestamp(scrapes_total)"); x == nil {
			t.Error("a killed server has written staleness markers")
		}
		b.start(t)
		time.Sleep(5 * time.Second)
		points := b.query(t, "scrapes_total[1m]")
		if len(points) != 10 {
			t.Fatalf("%d samples, want 5 before and 5 after the gap", len(points))
		}
		if gap := points[5].at.Sub(points[4].at); gap < 20*time.Second || gap > 22*time.Second {
			t.Errorf("the gap is %s, want 20 to 22 s", gap)
		}
	})
}

func TestScrapeBeyondTheSeriesLimitFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var many atomic.Bool
		b := newBubble(t, Options{Targets: one("a:1"), MaxSeries: 20}, func(*http.Request) (string, error) {
			var page strings.Builder
			fmt.Fprintln(&page, "x 1")
			for i := 0; many.Load() && i < 20; i++ {
				fmt.Fprintf(&page, "y{i=\"%d\"} 1\n", i)
			}
			return page.String(), nil
		})
		time.Sleep(3 * time.Second)
		many.Store(true)
		time.Sleep(3 * time.Second)
		if up := b.query(t, "up"); len(up) != 1 || up[0].value != "0" {
			t.Errorf("up = %v", up)
		}
		for _, name := range []string{"x", "count(y)"} {
			if v := b.query(t, name); v != nil {
				t.Errorf("%s = %v: of a failed scrape nothing is kept", name, v)
			}
		}
		many.Store(false)
		time.Sleep(2 * time.Second)
		if x := b.query(t, "x"); x == nil {
			t.Error("x has not come back")
		}
	})
}

func TestMemoryIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := 0
		b := newBubble(t, Options{Targets: one("a:1"), Retention: time.Minute}, func(*http.Request) (string, error) {
			n++
			return fmt.Sprintf("steady 1\nchurn{n=\"%d\"} 1\n", n/10), nil
		})
		most := 0
		for range 20 {
			time.Sleep(30 * time.Second)
			b.head.mu.Lock()
			if len(b.head.byKey) > 5+1+8 {
				t.Errorf("%d series, want 5 reports, 1 steady, and the churn of a minute", len(b.head.byKey))
			}
			for _, s := range b.head.byKey {
				most = max(most, cap(s.samples))
			}
			b.head.mu.Unlock()
		}
		if most > 2*61 {
			t.Errorf("a ring of %d samples for a retention of 60", most)
		}
		if points := b.query(t, "steady[10m]"); len(points) < 60 || len(points) > 61 {
			t.Errorf("%d samples in reach, want those of a minute", len(points))
		}
	})
}

func TestQueryThatTakesTooLongIs503(t *testing.T) {
	s := New(Options{})
	for target, want := range map[string]struct {
		status int
		kind   string
	}{
		"/api/v1/query?query=vector(1)&timeout=0.000000001": {http.StatusServiceUnavailable, "timeout"},
		"/api/v1/query_range?query=x&start=0&end=9&step=1s": {http.StatusOK, ""},
	} {
		w := httptest.NewRecorder()
		s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, target, nil))
		var reply struct{ Status, ErrorType string }
		err := json.Unmarshal(w.Body.Bytes(), &reply)
		if err != nil || w.Code != want.status || reply.ErrorType != want.kind {
			t.Errorf("%s: %d %s", target, w.Code, w.Body)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/api/v1/query?query=up", nil).WithContext(ctx))
	if w.Code != 499 || !strings.Contains(w.Body.String(), `"errorType":"canceled"`) {
		t.Errorf("a client that has gone: %d %s", w.Code, w.Body)
	}
}
