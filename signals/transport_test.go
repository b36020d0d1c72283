package signals

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/control"
)

// wire is a transport in the same process, so that its delays pass on the clock of synctest.
type wire func(*http.Request) (*http.Response, error)

func (w wire) RoundTrip(r *http.Request) (*http.Response, error) { return w(r) }

func ok(body string) *http.Response {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: io.NopCloser(strings.NewReader(body))}
}

// query reads the query of a request; the request is used up.
func query(t *testing.T, r *http.Request) string {
	t.Helper()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Error(err)
	}
	form, err := url.ParseQuery(string(body))
	if err != nil {
		t.Error(err)
	}
	return form.Get("query")
}

// after waits for d, or for the request to be given up.
func after(r *http.Request, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-r.Context().Done():
		return r.Context().Err()
	}
}

// A10, kedacore/keda#5118, #2292, #3152: one slow query that delays every loop, and coming back after an outage.
func TestSlowQueryDelaysOnlyItsOwnGroup(t *testing.T) {
	body := healthy(t).body()
	synctest.Test(t, func(t *testing.T) {
		const slow = 3
		down := false
		var mu sync.Mutex
		inFlight := map[string]int{}
		w := wire(func(r *http.Request) (*http.Response, error) {
			form, _ := io.ReadAll(r.Body)
			group := string(form)
			mu.Lock()
			refuse := down
			inFlight[group]++
			if inFlight[group] > 1 {
				t.Errorf("%d queries of one group in flight", inFlight[group])
			}
			mu.Unlock()
			defer func() {
				mu.Lock()
				inFlight[group]--
				mu.Unlock()
			}()
			if refuse {
				return nil, errors.New("dial tcp 127.0.0.1:9090: connect: connection refused")
			}
			d := 10 * time.Millisecond
			if strings.Contains(group, fmt.Sprintf("group-%d", slow)) {
				d = 40 * time.Second
			}
			if err := after(r, d); err != nil {
				return nil, err
			}
			return ok(body), nil
		})

		var services []Service
		for i := range 8 {
			services = append(services, Service{
				Name: fmt.Sprintf("group-%d", i), SLO: control.SLO{Latency: 300 * time.Millisecond, Objective: 0.99},
				Timing: control.Timing{
					Scrape: 5 * time.Second, Window: time.Duration(20+i) * time.Second, Period: 5 * time.Second,
				},
			})
		}
		s := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, services...)
		if len(s.Groups()) != 8 {
			t.Fatalf("%d groups", len(s.Groups()))
		}
		round := func() (all [8]control.Measurement, took [8]time.Duration) {
			start := time.Now()
			var wg sync.WaitGroup
			for i, g := range s.Groups() {
				wg.Go(func() {
					all[i] = g.Measure(t.Context(), time.Now())[0]
					took[i] = time.Since(start)
				})
			}
			wg.Wait()
			return all, took
		}

		for range 3 {
			all, took := round()
			for i, m := range all {
				switch {
				case i == slow && (m.Invalid != control.Timeout || took[i] != 4*time.Second || m.Took != took[i]):
					t.Errorf("the slow group: %s (%s) after %s, want timeout after 4s", m.Invalid, m.Detail, took[i])
				case i != slow && (m.Invalid == control.Timeout || took[i] > 20*time.Millisecond):
					t.Errorf("group %d: %q after %s, want an answer after 10ms", i, m.Invalid, took[i])
				}
			}
			if h := s.Health(); h.OK || !strings.Contains(h.Error, "no reply from Prometheus within 4s") {
				t.Errorf("health %+v", h)
			}
			time.Sleep(time.Second) // the rest of the period
		}

		mu.Lock()
		down = true
		mu.Unlock()
		lastOK := s.Health().LastOK
		for range 18 { // 90 s
			all, took := round()
			for i, m := range all {
				isInvalid(t, m, control.QueryError, "connection refused")
				if took[i] != 0 {
					t.Errorf("a refused connection took %s: something retries", took[i])
				}
			}
			time.Sleep(5 * time.Second)
		}
		if h := s.Health(); h.OK || h.LastOK != lastOK || !strings.Contains(h.Error, "connection refused") {
			t.Errorf("health in the outage %+v", h)
		}
		mu.Lock()
		down = false
		mu.Unlock()
		all, _ := round()
		if all[0].Invalid == control.QueryError || !s.Groups()[0].Health().OK {
			t.Errorf("the first tick after the outage: %s %s", all[0].Invalid, all[0].Detail)
		}
	})
}

func TestAtMostOneQueryInFlight(t *testing.T) {
	body := healthy(t).body()
	synctest.Test(t, func(t *testing.T) {
		var asked int
		w := wire(func(r *http.Request) (*http.Response, error) {
			if ofBurnRates(query(t, r)) {
				return ok(empty), nil
			}
			asked++
			return ok(body), after(r, 500*time.Millisecond)
		})
		g := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, checkout()).Groups()[0]
		done := make(chan control.Measurement)
		go func() { done <- g.Measure(t.Context(), evaluated)[0] }()
		synctest.Wait()
		start := time.Now()
		isInvalid(t, g.Measure(t.Context(), evaluated)[0], control.Timeout, "still running")
		if time.Since(start) != 0 {
			t.Error("the second call waited")
		}
		if m := <-done; m.Invalid != "" || asked != 1 {
			t.Errorf("the first call: %s; %d queries", m.Invalid, asked)
		}
	})
}

func TestEarlierDeadlineOfTheCallerCounts(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := wire(func(r *http.Request) (*http.Response, error) { return nil, after(r, time.Hour) })
		g := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, checkout()).Groups()[0]
		ctx, cancel := context.WithTimeout(t.Context(), 750*time.Millisecond)
		defer cancel()
		m := g.Measure(ctx, evaluated)[0]
		isInvalid(t, m, control.Timeout, "within 750ms")
		if m.Took != 750*time.Millisecond {
			t.Errorf("took %s", m.Took)
		}
	})
}

func TestDeadlineIsShorterThanThePeriod(t *testing.T) {
	for _, tc := range []struct{ timeout, period, want time.Duration }{
		{0, 5 * time.Second, 4 * time.Second},
		{0, time.Minute, 10 * time.Second},
		{2 * time.Second, 5 * time.Second, 2 * time.Second},
		{30 * time.Second, 5 * time.Second, 4 * time.Second},
	} {
		s := checkout()
		s.Timing.Period = tc.period
		g := sensor(t, Options{URL: "http://prometheus", Timeout: tc.timeout}, s).Groups()[0]
		if g.Deadline() != tc.want {
			t.Errorf("timeout %s, period %s: deadline %s, want %s", tc.timeout, tc.period, g.Deadline(), tc.want)
		}
	}
}

// The server reads durations such as 800ms or 2s, and refuses 1.6s.
func TestServerIsToldTheDeadline(t *testing.T) {
	for _, tc := range []struct {
		deadline time.Duration
		want     string
	}{
		{800 * time.Millisecond, "800ms"},
		{1600 * time.Millisecond, "2s"},
		{4 * time.Second, "4s"},
		{72 * time.Second, "1m12s"},
		{-time.Second, "1ms"},
	} {
		if got := serverTimeout(tc.deadline).String(); got != tc.want {
			t.Errorf("%s: told %s, want %s", tc.deadline, got, tc.want)
		}
	}
	f := newFake(t, func(_ http.ResponseWriter, r *http.Request) {
		if got := r.FormValue("timeout"); got != "2s" {
			t.Errorf("timeout=%s", got)
		}
		if got := r.FormValue("time"); got != "1795568820.804" {
			t.Errorf("time=%s, want the instant that was passed, to the millisecond", got)
		}
	})
	s := checkout()
	s.Timing.Period = 2 * time.Second
	sensor(t, Options{URL: f.URL}, s).Groups()[0].Measure(t.Context(), evaluated.Add(300*time.Microsecond))
}

// A11, prometheus/client_golang#1619, grafana/mcp-grafana#632: a proxy that forbids POST.
func TestPOSTForbidden(t *testing.T) {
	body := healthy(t).body()
	for _, status := range []int{403, 405, 501, 500, 404, 400, 411} {
		f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
			if r.Method != http.MethodGet {
				http.Error(w, "read-only", status)
				return
			}
			if r.FormValue("query") == "" || r.FormValue("time") == "" {
				t.Errorf("GET without the query: %s", r.URL)
			}
			fmt.Fprint(w, body)
		})
		byDefault := sensor(t, Options{URL: f.URL}, slowly(checkout())).Groups()[0].Measure(t.Context(), evaluated)[0]
		switch status {
		case 403, 405, 501: // the API package asks again by GET
			if byDefault.Invalid != "" {
				t.Errorf("POST %d: %s (%s)", status, byDefault.Invalid, byDefault.Detail)
			}
		case 404:
			isInvalid(t, byDefault, control.QueryError, "check the URL")
		default:
			isInvalid(t, byDefault, control.QueryError, "check http_method: GET")
		}
		before := f.queries.Load()
		get := sensor(t, Options{URL: f.URL, Method: "GET"}, slowly(checkout()))
		byGET := get.Groups()[0].Measure(t.Context(), evaluated)[0]
		if byGET.Invalid != "" || text(byGET.Instances[0].Mean) != "0.08" {
			t.Errorf("GET where POST is %d: %s (%s)", status, byGET.Invalid, byGET.Detail)
		}
		if n := f.queries.Load() - before; n != 1 {
			t.Errorf("%d requests by GET, want 1", n)
		}
	}
}

func TestErrorsSayWhatToTry(t *testing.T) {
	for _, tc := range []struct {
		status   int
		body     string
		want     control.Reason
		mentions string
	}{
		{401, "who are you", control.QueryError, "check the credentials"},
		{403, "no", control.QueryError, "to POST and to GET: check the credentials"},
		{502, "bad gateway", control.QueryError, "502"},
		{504, "gateway timeout", control.Timeout, "504"},
		{
			503, `{"status":"error","errorType":"timeout","error":"query timed out in expression evaluation"}`,
			control.Timeout, "query timed out",
		},
		{503, "starting up", control.QueryError, "starting up"},
		{
			422, `{"status":"error","errorType":"execution","error":"too many samples"}`,
			control.QueryError, "too many samples",
		},
		{400, `{"status":"error","errorType":"bad_data","error":"parse error"}`, control.QueryError, "parse error"},
		{200, `{"status":"error","errorType":"timeout","error":"gave up"}`, control.Timeout, "gave up"},
		{200, `<html>login</html>`, control.QueryError, "is this the address of a Prometheus API?"},
		{200, ``, control.QueryError, "is this the address"},
		{200, `{}`, control.QueryError, "not a vector"},
		{200, `{"status":"success","data":{"resultType":"scalar","result":[1,"1"]}}`, control.QueryError, "not a vector"},
		{200, `{"status":"success","data":{"resultType":"matrix","result":[]}}`, control.QueryError, "not a vector"},
	} {
		f := newFake(t, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(tc.status)
			fmt.Fprint(w, tc.body)
		})
		s := sensor(t, Options{URL: f.URL}, slowly(checkout()))
		m := s.Groups()[0].Measure(t.Context(), evaluated)[0]
		isInvalid(t, m, tc.want, tc.mentions)
		if strings.ContainsAny(m.Detail, "\n\r") || len(m.Instances) != 0 {
			t.Errorf("%d %s: %+v", tc.status, tc.body, m)
		}
		if h := s.Health(); h.OK || h.Error != m.Detail || !h.LastOK.IsZero() {
			t.Errorf("health %+v", h)
		}
	}
}

func TestClocksApart(t *testing.T) {
	body := healthy(t).body()
	synctest.Test(t, func(t *testing.T) {
		var ahead atomic.Int64 // the query of the burn rates runs in the background
		w := wire(func(*http.Request) (*http.Response, error) {
			r := ok(body)
			r.Header.Set("Date", time.Now().Add(time.Duration(ahead.Load())).UTC().Format(http.TimeFormat))
			return r, nil
		})
		s := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, checkout())
		for _, tc := range []struct {
			ahead, skew time.Duration
			reason      control.Reason
			mentions    string
		}{
			{0, 0, "", ""},
			{500 * time.Millisecond, 0, "", ""}, // not provable by a header in whole seconds
			{2 * time.Second, 2 * time.Second, "", ""},
			{65 * time.Second, 65 * time.Second, control.Clock, "1m5s ahead of governor's"},
			{-65 * time.Second, -64 * time.Second, control.Clock, "1m4s behind governor's"},
		} {
			ahead.Store(int64(tc.ahead))
			m := s.Groups()[0].Measure(t.Context(), evaluated)[0]
			isInvalid(t, m, tc.reason, tc.mentions)
			if h := s.Health(); h.Skew != tc.skew || !h.OK {
				t.Errorf("clock %s ahead: health %+v, want skew %s", tc.ahead, h, tc.skew)
			}
		}
	})
}

func TestHealth(t *testing.T) {
	s := sensor(t, Options{URL: "http://user:geheim@127.0.0.1:1/prom"}, slowly(checkout()))
	h := s.Health()
	if h.OK || h.Error != "not asked yet" || strings.Contains(h.Address, "geheim") || !strings.Contains(h.Address, "/prom") {
		t.Errorf("before the first query: %+v", h)
	}
	m := s.Groups()[0].Measure(t.Context(), evaluated)[0]
	if strings.Contains(m.Detail, "geheim") {
		t.Errorf("the detail tells the password: %s", m.Detail)
	}

	s = sensor(t, Options{URL: answering(t, healthy(t).body()).URL}, slowly(checkout()))
	before := time.Now()
	s.Groups()[0].Measure(t.Context(), evaluated)
	if h := s.Health(); !h.OK || h.Error != "" || h.Latency <= 0 || h.LastOK.Before(before) {
		t.Errorf("after an answer: %+v", h)
	}
}

func TestClientAuthentication(t *testing.T) {
	body := healthy(t).body()
	f := newFake(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "Bearer let-me-in" {
			http.Error(w, "no", http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, body)
	})
	cfg := config.DefaultHTTPClientConfig
	cfg.Authorization = &config.Authorization{Type: "Bearer", Credentials: "let-me-in"}
	m := sensor(t, Options{URL: f.URL, HTTP: &cfg}, slowly(checkout())).Groups()[0].Measure(t.Context(), evaluated)[0]
	if m.Invalid != "" {
		t.Errorf("%s %s", m.Invalid, m.Detail)
	}
}
