package plant

import (
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func newPlant(t *testing.T, s Settings) *Plant {
	t.Helper()
	p, err := New(s, 1)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestCapacityIsServersOverMean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, Settings{Servers: 8, MeanSeconds: 0.040})
		began := time.Now()
		var wg sync.WaitGroup
		const n = 4000
		for range n {
			wg.Go(func() { p.Serve() })
		}
		wg.Wait()
		rate := n / time.Since(began).Seconds()
		// The mean of n exponential draws has a relative standard error of 1/√n = 1.6%.
		if math.Abs(rate-200) > 10 {
			t.Errorf("served %.0f/s, want 200/s", rate)
		}
	})
}

func TestTimesStretchesTheServiceTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		took := func(times float64) time.Duration {
			p := newPlant(t, Settings{Servers: 1, MeanSeconds: 0.040}) // the same draw each time
			began := time.Now()
			p.Times(times).ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "/", nil))
			return time.Since(began)
		}
		if once, long := took(1), took(25); (long - 25*once).Abs() > 25*time.Nanosecond {
			t.Errorf("a request takes %s, one 25 times as long %s", once, long)
		}
	})
}

func TestQueueIsFirstInFirstOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, Settings{Servers: 1, MeanSeconds: 0.040})
		var mu sync.Mutex
		var order []int
		for i := range 20 {
			go func() {
				p.Serve()
				mu.Lock()
				defer mu.Unlock()
				order = append(order, i)
			}()
			synctest.Wait()
		}
		time.Sleep(10 * time.Second)
		synctest.Wait()
		for i, got := range order {
			if got != i {
				t.Fatalf("served in the order %v", order)
			}
		}
		if len(order) != 20 {
			t.Errorf("served %d of 20", len(order))
		}
	})
}

func TestServersComeAndGoWhileRequestsWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, Settings{Servers: 0, MeanSeconds: 0.040})
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { p.Serve() })
		}
		time.Sleep(time.Minute)
		if s := p.State(); s.Waiting != 100 || s.Busy != 0 {
			t.Fatalf("without servers: %+v", s)
		}
		if err := p.Set(Settings{Servers: 8, MeanSeconds: 0.040}); err != nil {
			t.Fatal(err)
		}
		if s := p.State(); s.Waiting != 92 || s.Busy != 8 {
			t.Errorf("with eight servers: %+v", s)
		}
		wg.Wait()
		synctest.Wait()
		if s := p.State(); s.Served != 100 || s.Busy != 0 || s.Waiting != 0 {
			t.Errorf("at the end: %+v", s)
		}
	})
}

func TestDependencyDelaysWithoutOccupyingAServer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, Settings{Servers: 1, MeanSeconds: 0.001, DependencySeconds: 10, DependencyShare: 1})
		began := time.Now()
		var wg sync.WaitGroup
		for range 100 {
			wg.Go(func() { p.Serve() })
		}
		wg.Wait()
		if took := time.Since(began); took < 10*time.Second || took > 11*time.Second {
			t.Errorf("a hundred requests took %s, want a little over 10 s: they wait side by side", took)
		}
	})
}

func TestWhoFindsTheQueueFullIsRefusedAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := newPlant(t, Settings{Servers: 1, MeanSeconds: 1, Places: 2})
		began := time.Now()
		var wg sync.WaitGroup
		for range 3 { // one is served, two wait
			wg.Go(func() { p.Serve() })
			synctest.Wait()
		}
		w := httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusServiceUnavailable || time.Since(began) != 0 {
			t.Errorf("status %d after %s, want 503 at once", w.Code, time.Since(began))
		}
		wg.Wait()
		synctest.Wait()
		if s := p.State(); s.Served != 3 {
			t.Errorf("served %d, want the three that found a place", s.Served)
		}
		w = httptest.NewRecorder()
		p.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/", nil))
		if w.Code != http.StatusOK {
			t.Errorf("status %d once there is room", w.Code)
		}
	})
}

func TestControlChangesOnlyWhatIsNamed(t *testing.T) {
	p := newPlant(t, Settings{Servers: 8, MeanSeconds: 0.040})
	put := func(body string) int {
		w := httptest.NewRecorder()
		p.Control(w, httptest.NewRequest(http.MethodPut, "/control", strings.NewReader(body)))
		return w.Code
	}
	if code := put(`{"servers": 4}`); code != http.StatusOK {
		t.Errorf("status %d", code)
	}
	if got, want := p.State().Settings, (Settings{Servers: 4, MeanSeconds: 0.040}); got != want {
		t.Errorf("settings %+v, want %+v", got, want)
	}
	for _, bad := range []string{`{"servers": -1}`, `{"mean_seconds": 0}`, `{"places": -1}`, `{"serverz": 1}`, `{`} {
		if code := put(bad); code != http.StatusBadRequest {
			t.Errorf("%s: status %d, want 400", bad, code)
		}
	}
	if got, want := p.State().Settings, (Settings{Servers: 4, MeanSeconds: 0.040}); got != want {
		t.Errorf("after bad requests: settings %+v, want %+v", got, want)
	}
}
