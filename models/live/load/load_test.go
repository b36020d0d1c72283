package load

import (
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

// service answers in the bubble's time, without a network.
type service func(*http.Request) (*http.Response, error)

func (s service) RoundTrip(r *http.Request) (*http.Response, error) { return s(r) }

func answer(status int) (*http.Response, error) {
	return &http.Response{StatusCode: status, Body: http.NoBody}, nil
}

func generate(t *testing.T, seed uint64, rate float64, s service) *Generator {
	t.Helper()
	g, err := start(t.Context(), Config{
		URL: "http://service.test/", Seed: seed, Timeout: time.Second, SLO: 300 * time.Millisecond,
	}, rate, &http.Client{Transport: s})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(g.Stop)
	return g
}

func TestArrivalsArePoissonAndFollowTheRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generate(t, 1, 600, func(*http.Request) (*http.Response, error) { return answer(200) })
		began := time.Now()
		time.Sleep(100 * time.Second)
		g.SetRate(60)
		time.Sleep(100 * time.Second)
		g.SetRate(0)
		time.Sleep(100 * time.Second)

		var counts [300]float64
		for i := range counts {
			from := began.Add(time.Duration(i) * time.Second)
			counts[i] = float64(g.Between(from, from.Add(time.Second)).Offered)
		}
		for _, tc := range []struct {
			from, to int
			rate     float64
		}{{0, 100, 600}, {100, 200, 60}} {
			sum, squares := 0.0, 0.0
			for _, n := range counts[tc.from:tc.to] {
				sum += n
			}
			mean := sum / 100
			for _, n := range counts[tc.from:tc.to] {
				squares += (n - mean) * (n - mean)
			}
			// Over a hundred seconds the mean is known to √(rate/100), the variance to about 14 %.
			if math.Abs(mean-tc.rate) > 4*math.Sqrt(tc.rate/100) {
				t.Errorf("%.1f requests a second, want %.0f", mean, tc.rate)
			}
			if variance := squares / 99; variance < 0.5*mean || variance > 1.6*mean {
				t.Errorf("variance %.0f at mean %.0f: a Poisson process has the two equal", variance, mean)
			}
		}
		if n := g.Between(began.Add(200*time.Second), began.Add(300*time.Second)).Offered; n != 0 {
			t.Errorf("%d requests while paused", n)
		}
	})
}

func TestOneSeedSendsAtTheSameInstants(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var instants [3][]time.Duration
		for i, seed := range []uint64{7, 7, 8} {
			g := generate(t, seed, 100, func(*http.Request) (*http.Response, error) { return answer(200) })
			began := time.Now()
			time.Sleep(10 * time.Second)
			g.Stop()
			for _, r := range g.records {
				instants[i] = append(instants[i], r.Due.Sub(began))
			}
		}
		equal := func(a, b []time.Duration) bool {
			for i := range min(len(a), len(b)) {
				if a[i] != b[i] {
					return false
				}
			}
			return len(a) == len(b)
		}
		if !equal(instants[0], instants[1]) {
			t.Error("one seed gave two sequences")
		}
		if equal(instants[0], instants[2]) {
			t.Error("two seeds gave one sequence")
		}
	})
}

func TestOutcomesAreToldApart(t *testing.T) {
	for _, tc := range []struct {
		name    string
		service service
		want    func(Summary) int
		bad     float64
	}{
		{"ok", func(*http.Request) (*http.Response, error) { return answer(200) }, func(s Summary) int { return s.OK }, 0},
		{"slow", func(*http.Request) (*http.Response, error) {
			time.Sleep(400 * time.Millisecond)
			return answer(200)
		}, func(s Summary) int { return s.Slow }, 1},
		{"failed", func(*http.Request) (*http.Response, error) { return answer(500) },
			func(s Summary) int { return s.Failed }, 1},
		{"broken", func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") },
			func(s Summary) int { return s.Failed }, 1},
		{"refused", func(*http.Request) (*http.Response, error) { return answer(503) },
			func(s Summary) int { return s.Refused }, math.NaN()},
		{"timed out", func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}, func(s Summary) int { return s.TimedOut }, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := generate(t, 1, 50, tc.service)
				began := time.Now()
				time.Sleep(4 * time.Second)
				g.Stop()
				s := g.Between(began, time.Now())
				if s.Offered < 100 || tc.want(s) != s.Offered {
					t.Errorf("%s", s)
				}
				if bad := s.BadRatio(); bad != tc.bad && !(math.IsNaN(bad) && math.IsNaN(tc.bad)) {
					t.Errorf("bad ratio %v, want %v", bad, tc.bad)
				}
			})
		})
	}
}

// TestLoadIsOpenLoop is the reason for the package: a service that hangs must not slow its clients down.
func TestLoadIsOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := generate(t, 1, 600, func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		})
		began := time.Now()
		time.Sleep(10 * time.Second)
		g.Stop()
		s := g.Between(began, time.Now())
		if math.Abs(float64(s.Offered)-6000) > 4*math.Sqrt(6000) || s.Lateness != 0 {
			t.Errorf("a hanging service was offered %d requests in 10 s at 600/s: %s", s.Offered, s)
		}
	})
}

func TestRealConnectionsAreReusedAndLeftClean(t *testing.T) {
	defer goleak.VerifyNone(t)
	var withHeader, connections atomic.Int64
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Test") == "yes" {
			withHeader.Add(1)
		}
	}))
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			connections.Add(1)
		}
	}
	s.Start()
	defer s.Close()
	g, err := Start(t.Context(), Config{
		URL: s.URL, Timeout: 5 * time.Second, SLO: 5 * time.Second, Header: http.Header{"X-Test": {"yes"}},
	}, 20)
	if err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for g.Between(began, time.Now()).OK < 20 {
		if time.Since(began) > 20*time.Second {
			t.Fatalf("twenty requests take too long: %s", g.Between(began, time.Now()))
		}
		time.Sleep(10 * time.Millisecond)
	}
	g.Stop()
	if withHeader.Load() < 20 {
		t.Error("the header was not sent")
	}
	if n := connections.Load(); n > 15 {
		t.Errorf("%d connections for twenty requests one after another", n)
	}
}

func TestQuantileIsNearestRank(t *testing.T) {
	for _, tc := range []struct {
		in   []int
		q    float64
		want int
	}{{nil, 0.5, 0}, {[]int{3}, 0.99, 3}, {[]int{3, 1, 2, 4}, 0.5, 2}, {[]int{3, 1, 2, 4}, 0.99, 4}, {[]int{3, 1}, 0, 1}} {
		if got := quantile(tc.in, tc.q); got != tc.want {
			t.Errorf("quantile %v of %v: %d, want %d", tc.q, tc.in, got, tc.want)
		}
	}
}

func TestConfigIsChecked(t *testing.T) {
	for _, c := range []Config{{URL: "http://x", SLO: 1}, {URL: "http://x", Timeout: 1}, {URL: ":", SLO: 1, Timeout: 1}} {
		if g, err := Start(t.Context(), c, 1); err == nil {
			g.Stop()
			t.Errorf("%+v accepted", c)
		} else if !strings.HasPrefix(err.Error(), "start load") {
			t.Errorf("%v does not say what was attempted", err)
		}
	}
}
