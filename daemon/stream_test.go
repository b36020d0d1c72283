package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// reader is a client of the stream that only listens.
type reader struct {
	*httptest.ResponseRecorder
	mu   sync.Mutex
	text strings.Builder
	fail error
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail != nil {
		return 0, r.fail
	}
	return r.text.Write(p)
}

func (r *reader) heard() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

// listen streams to a reader until the returned function is called, which waits for the stream to end.
func (g *governor) listen(t *testing.T, lastEventID string) (*reader, func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	request := httptest.NewRequest("GET", api.Prefix+"/stream", nil).WithContext(ctx)
	if lastEventID != "" {
		request.Header.Set("Last-Event-ID", lastEventID)
	}
	r := &reader{ResponseRecorder: httptest.NewRecorder()}
	done := make(chan struct{})
	go func() { defer close(done); g.Handler().ServeHTTP(r, request) }()
	end := func() { cancel(); <-done }
	t.Cleanup(end)
	return r, end
}

// ids lists the ids of the events of one kind.
func ids(text, kind string) []string {
	var found []string
	for event := range strings.SplitSeq(text, "\n\n") {
		if lines := strings.Split(event, "\n"); lines[0] == "event: "+kind && len(lines) > 1 {
			found = append(found, strings.TrimPrefix(lines[1], "id: "))
		}
	}
	return found
}

func TestStreamTellsEveryDecision(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout", "search")
		pass(time.Minute)
		r, end := g.listen(t, "")
		synctest.Wait()
		if text := r.heard(); !strings.HasPrefix(text, "event: snapshot\nid: ") || strings.Count(text, "event: ") != 1 {
			t.Fatalf("it does not begin with one snapshot: %.200s", text)
		}
		pass(time.Minute)
		records := g.recorder.journal.Since(0, selection{}, 1000).Decisions
		loops := ids(r.heard(), api.EventLoop)
		if len(loops) != 24 {
			t.Fatalf("%d decisions told in a minute, want 24", len(loops))
		}
		for i, id := range loops {
			if want := fmt.Sprint(records[24+i].Seq); id != want {
				t.Errorf("event %d has the id %s, the journal says %s", i, id, want)
			}
		}
		if n := strings.Count(r.heard(), ":\n\n"); n < 12 || n > 24 {
			t.Errorf("%d heartbeats in a minute, want one every 2 s of silence", n)
		}
		if n := len(ids(r.heard(), api.EventStatus)); n > 12 {
			t.Errorf("%d messages about the status, of which no more than a call of Consul changes each tick", n)
		}

		w.kv.set(func(kv *memoryKV) { kv.down = errDown })
		pass(period + statusEvery)
		if text := r.heard(); !strings.Contains(text[strings.LastIndex(text, "event: status"):], "connection refused") {
			t.Error("the stream does not tell that Consul is down")
		}
		end()
		if n := len(g.recorder.subscribers); n != 0 {
			t.Errorf("%d readers are still known", n)
		}
	})
}

func TestStreamGoesOnWhereItWasCut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout", "search")
		g := w.governor(t, control.Enforce)
		g.start(t)
		pass(time.Minute)
		first, end := g.listen(t, "")
		pass(20 * time.Second)
		end()
		before := ids(first.heard(), api.EventLoop)
		cursor := before[len(before)-3] // two were on their way when the connection broke
		pass(20 * time.Second)

		again, _ := g.listen(t, cursor)
		pass(10 * time.Second)
		text := again.heard()
		after := ids(text, api.EventLoop)
		if len(after) != 2+8+4 {
			t.Fatalf("%d decisions after the cut, want the 2 lost, the 8 missed and 4 new ones", len(after))
		}
		for i, id := range after {
			if want := fmt.Sprint(atoi(t, cursor) + uint64(i) + 1); id != want {
				t.Fatalf("event %d has the id %s, want %s", i, id, want)
			}
		}
		if !strings.Contains(text, `"complete":true`) {
			t.Error("the snapshot does not say that nothing was left out")
		}

		for _, unknown := range []string{"17", "99999999999999"} {
			r, _ := g.listen(t, unknown)
			synctest.Wait()
			if text := r.heard(); len(ids(text, api.EventLoop)) != 0 || !strings.Contains(text, `"complete":false`) {
				t.Errorf("after the unknown id %s: %.300s", unknown, text)
			}
		}
		bad, _ := g.listen(t, "yesterday")
		synctest.Wait()
		if bad.Code != 400 {
			t.Errorf("status %d for a Last-Event-ID that is none", bad.Code)
		}
	})
}

func atoi(t *testing.T, text string) (n uint64) {
	t.Helper()
	if _, err := fmt.Sscan(text, &n); err != nil {
		t.Fatal(err)
	}
	return n
}

// A reader that does not read costs the daemon only its buffer.
func TestSlowReaderIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld("checkout")
		g := w.governor(t, control.Shadow)
		slow, _ := g.recorder.subscribe()
		g.start(t)
		pass(streamBuffer*period - time.Second)
		if dropped := testutil.ToFloat64(g.recorder.metrics.streamsDropped); dropped != 0 {
			t.Fatalf("%v readers cut off before the buffer was full", dropped)
		}
		pass(2 * period)
		if dropped := testutil.ToFloat64(g.recorder.metrics.streamsDropped); dropped != 1 {
			t.Errorf("%v readers cut off, want 1", dropped)
		}
		if n := len(g.records("checkout")); n != 1024 {
			t.Errorf("%d records: the loops did not go on", n)
		}
		n := 0
		for range slow.frames {
			n++
		}
		if n != streamBuffer {
			t.Errorf("%d frames before the end, want the whole buffer", n)
		}
		g.recorder.unsubscribe(slow)

		gone, end := g.listen(t, "")
		synctest.Wait()
		gone.mu.Lock()
		gone.fail = errDown
		gone.mu.Unlock()
		pass(2 * period)
		if n := len(g.recorder.subscribers); n != 0 {
			t.Errorf("%d readers are known after the only one has gone", n)
		}
		end()
	})
}

func TestClientFollowsTheDaemon(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Enforce)
	g.win(1)
	client := g.client(t)
	ctx, cancel := context.WithCancel(t.Context())
	ticks := 0
	err := client.Stream(ctx, 0, func(e api.Event) error {
		switch {
		case e.Snapshot != nil && (e.Snapshot.Status.Instance != "test:9747" || len(e.Snapshot.Loops) != 1):
			t.Errorf("snapshot %+v", e.Snapshot)
		case e.Loop != nil && e.Loop.Service != "checkout":
			t.Errorf("loop %+v", e.Loop)
		}
		if ticks++; ticks == 4 {
			cancel()
		}
		go g.workers[0].tick(t.Context(), time.Now().Add(time.Duration(ticks)*period))
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the stream ended with %v", err)
	}
}

func TestHistoryIsTheJournalInShort(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, g := lead(t, "checkout", "search")
		w.overload()
		pass(10 * time.Minute)
		for _, tc := range []struct {
			path   string
			loops  int
			points int
		}{
			{"/history", 2, 120},
			{"/history?since=5m", 2, 60},
			{"/history?since=5m&step=30s", 2, 11}, // the grid of 30 s does not begin with the span
			{"/history?service=search&since=" + time.Now().Add(-time.Minute).UTC().Format(time.RFC3339), 1, 12},
			{"/loops/checkout/concurrency/history?since=1m", 1, 12},
		} {
			code, body := get(t, g, "GET", api.Prefix+tc.path)
			var h api.History
			if err := json.Unmarshal([]byte(body), &h); err != nil {
				t.Fatal(err)
			}
			if code != 200 || len(h.Loops) != tc.loops {
				t.Fatalf("%s: %d, %d loops", tc.path, code, len(h.Loops))
			}
			if n := len(h.Loops[0].Points); n < tc.points-1 || n > tc.points {
				t.Errorf("%s: %d points, want about %d", tc.path, n, tc.points)
			}
			points := h.Loops[0].Points
			last := g.loop(t, h.Loops[0].Service).Decision
			if p := points[len(points)-1]; !p.At.Equal(last.At) || p.Value != last.Value || p.Measured != last.Measured ||
				p.Setpoint != last.Setpoint || p.State != last.State || p.BadRatio != last.Inputs.BadRatio {
				t.Errorf("%s: the last point is %+v, the last decision %+v", tc.path, p, last)
			}
		}
		for path, want := range map[string]int{
			"/history?since=yesterday": 400, "/history?step=-1s": 400, "/loops/x/rate/history": 404,
		} {
			if code, body := get(t, g, "GET", api.Prefix+path); code != want {
				t.Errorf("%s: %d %s", path, code, body)
			}
		}
	})
}

// stuck is a client that never reads: writes to it hang until the test ends.
type stuck struct {
	*httptest.ResponseRecorder
	writes atomic.Int64
	end    chan struct{}
}

func (s *stuck) Write(p []byte) (int, error) {
	s.writes.Add(1)
	<-s.end
	return 0, errors.New("cut")
}

// A hundred readers that ask for the last ten thousand decisions and then do not read, and as many that ask for all of
// them at once, cost little.
func TestReadersThatNeverReadCostABoundedAmountOfMemory(t *testing.T) {
	w := newWorld("checkout")
	g := w.governor(t, control.Shadow)
	loop := g.loop(t, "checkout")
	loop.Decision.Reason = strings.Repeat("because ", 100)
	g.recorder.journal.Resize(20_000)
	for range 12_000 {
		g.recorder.journal.Append(entry{loop: loop})
	}
	heap := func() uint64 {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	end := make(chan struct{})
	var readers sync.WaitGroup
	defer readers.Wait()
	defer close(end)
	refused := 0
	for i := range 2 * (streamsMost + 36) {
		path := "/decisions?limit=10000"
		if i%2 == 0 {
			path = "/stream"
		}
		r := httptest.NewRequest("GET", api.Prefix+path, nil)
		r.Header.Set("Last-Event-ID", fmt.Sprint(g.recorder.journal.Last()-streamReplay))
		client := &stuck{ResponseRecorder: httptest.NewRecorder(), end: end}
		readers.Go(func() { g.Handler().ServeHTTP(client, r) })
		waittest.Until(t, "the answer begins", func() bool { return client.writes.Load() > 0 })
		if client.Code == http.StatusServiceUnavailable {
			refused++
		}
	}
	if refused != 36 {
		t.Errorf("%d of %d streams refused, want all beyond %d", refused, streamsMost+36, streamsMost)
	}
	if grown := int64(heap()) - int64(before); grown > 100<<20 {
		t.Errorf("%d MiB more", grown>>20)
	} else {
		t.Logf("%d MiB more", grown>>20)
	}
}
