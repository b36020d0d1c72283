package load

import (
	"errors"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
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
			// Over a hundred seconds the mean is known to √(rate/100), the variance to about 14%.
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
		{
			"failed", func(*http.Request) (*http.Response, error) { return answer(500) },
			func(s Summary) int { return s.Failed }, 1,
		},
		{
			"broken", func(*http.Request) (*http.Response, error) { return nil, errors.New("reset") },
			func(s Summary) int { return s.Failed }, 1,
		},
		{
			"refused", func(*http.Request) (*http.Response, error) { return answer(503) },
			func(s Summary) int { return s.Refused }, math.NaN(),
		},
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

func TestClientsTryAgainAfterRefusalsAndTimeOuts(t *testing.T) {
	hang := func(r *http.Request) (*http.Response, error) {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	refuse := func(*http.Request) (*http.Response, error) { return answer(429) }
	fail := func(*http.Request) (*http.Response, error) { return answer(500) }
	serve := func(*http.Request) (*http.Response, error) { return answer(200) }
	for _, tc := range []struct {
		name             string
		attempts         []service
		outcome          Outcome
		tried, gaveUp    uint8
		shortest, within time.Duration
	}{
		{"answered at once", []service{serve}, OK, 1, 0, 0, 0},
		{"refused, then answered", []service{refuse, serve}, OK, 2, 0, 0, 100 * time.Millisecond},
		{"refused for good", []service{refuse, refuse, refuse, serve}, Refused, 3, 0, 0, 300 * time.Millisecond},
		{"given up, then answered: too late", []service{hang, serve}, Slow, 2, 1, time.Second, 1100 * time.Millisecond},
		{"given up, then refused", []service{hang, refuse, refuse}, TimedOut, 3, 1, time.Second, 1300 * time.Millisecond},
		{"a failure is an answer", []service{refuse, fail, serve}, Failed, 2, 0, 0, 100 * time.Millisecond},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var attempts atomic.Int64
				g, err := start(t.Context(), Config{
					URL: "http://service.test/", Timeout: time.Second, SLO: 300 * time.Millisecond,
					Retries: 2, RetryWait: 100 * time.Millisecond,
				}, 1, &http.Client{Transport: service(func(r *http.Request) (*http.Response, error) {
					return tc.attempts[attempts.Add(1)-1](r)
				})})
				if err != nil {
					t.Fatal(err)
				}
				for attempts.Load() == 0 {
					time.Sleep(time.Millisecond)
				}
				g.Stop()
				r := g.Records()[0]
				if r.Outcome != tc.outcome || r.Attempts != tc.tried || r.GaveUp != tc.gaveUp {
					t.Errorf("%+v", r)
				}
				if r.Latency < tc.shortest || r.Latency > tc.within || r.Last > r.Latency {
					t.Errorf("took %s, the last attempt %s; want %s to %s", r.Latency, r.Last, tc.shortest, tc.within)
				}
			})
		})
	}
}

func TestGeneratorsInStepSendTheSameRequests(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var sent [2][]Record
		classes := []Class{
			{Name: "a", Share: 0.2, Header: http.Header{"Class": {"a"}}},
			{Name: "b", Share: 0.8, Header: http.Header{"Class": {"b"}}},
		}
		for i, status := range []int{200, 503} { // what becomes of them makes no difference
			var mu sync.Mutex
			headers := map[string]int{}
			g, err := start(t.Context(), Config{
				URL: "http://service.test/", Seed: 3, Timeout: time.Second, SLO: time.Second, Classes: classes, Retries: i,
			}, 0, &http.Client{Transport: service(func(r *http.Request) (*http.Response, error) {
				mu.Lock()
				defer mu.Unlock()
				headers[r.Header.Get("Class")]++
				return answer(status)
			})})
			if err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			g.SetRateAt(began, 100)
			time.Sleep(20 * time.Second)
			at := time.Now()
			time.Sleep(time.Duration(i) * time.Millisecond) // told a little later, from the same instant on
			g.SetRateAt(at, 300)
			time.Sleep(20*time.Second - time.Duration(i)*time.Millisecond)
			g.Stop()
			for _, r := range g.Records() {
				sent[i] = append(sent[i], Record{Due: time.Time{}.Add(r.Due.Sub(began)), Class: r.Class})
			}
			total := headers["a"] + headers["b"]
			if total != len(sent[i])*(i+1) || headers["a"] < total/10 || headers["a"] > total/3 {
				t.Errorf("%d requests with headers %v", len(sent[i]), headers)
			}
		}
		if len(sent[0]) < 7000 || len(sent[0]) != len(sent[1]) {
			t.Fatalf("%d and %d requests", len(sent[0]), len(sent[1]))
		}
		for i := range sent[0] {
			if sent[0][i] != sent[1][i] {
				t.Fatalf("request %d: %+v and %+v", i, sent[0][i], sent[1][i])
			}
		}
	})
}
