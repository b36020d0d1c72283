package guardhttp_test

import (
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

func TestLoadReport(t *testing.T) { synctest.Test(t, testLoadReport) } // all of it in the first second

func testLoadReport(t *testing.T) {
	g := newGuard(t, 4)
	h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/silent":
		case "/own":
			w.Header().Set(guardhttp.LoadReportHeader, "TEXT cpu_utilization=0.1")
			w.Header().Set(guardhttp.LoadReportBinHeader, "CQ")
			w.WriteHeader(http.StatusNotFound)
		default:
			w.WriteHeader(http.StatusEarlyHints)
			io.WriteString(w, "hello")
		}
	}), guardhttp.WithLoadReport(), guardhttp.WithBypass(func(r *http.Request) bool { return r.URL.Path == "/healthz" }))
	report := func(path string) []string {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		if w.Header().Get(guardhttp.LoadReportBinHeader) != "" {
			t.Errorf("%s: a report in binary, too", path)
		}
		return w.Header()[guardhttp.LoadReportHeader]
	}
	check := func(path, want string) {
		t.Helper()
		if got := report(path); len(got) != 1 || got[0] != "TEXT application_utilization="+want {
			t.Errorf("%s: %q, want %s", path, got, want)
		}
	}
	for _, path := range []string{"/", "/silent", "/own"} {
		check(path, "0.25")
	}
	if got := report("/healthz"); got != nil {
		t.Errorf("a request that is not counted: %q", got)
	}
	for range 3 {
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Release(guard.Ignored)
	}
	check("/", "1")
	p, err := g.Acquire(t.Context(), guard.Default)
	if err != nil {
		t.Fatal(err)
	}
	defer p.Release(guard.Ignored)
	check("/refused", "1")
}

// The rate and the utilization are means over the last second, so that their ratio is the limit divided by the latency however
// little traffic there is.
func TestLoadReportIsAMean(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGuard(t, 4)
		h := guardhttp.New(g, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/hang", "/live":
				<-r.Context().Done()
			default:
				time.Sleep(20 * time.Millisecond)
			}
		}), guardhttp.WithLoadReport(), guardhttp.WithEndless(func(r *http.Request) bool { return r.URL.Path == "/live" }))
		ask := func(path string) string {
			w := httptest.NewRecorder()
			h.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, path, nil))
			return w.Header().Get(guardhttp.LoadReportHeader)
		}
		check := func(what, got, want string) {
			t.Helper()
			if want = "TEXT application_utilization=" + want; got != want {
				t.Errorf("%s: %q, want %q", what, got, want)
			}
		}
		check("in the first second", ask("/"), "0.25")
		go ask("/live") // holds no slot
		for range 19 {
			time.Sleep(80 * time.Millisecond)
			ask("/")
		}
		time.Sleep(80 * time.Millisecond)
		check("ten a second, each for 20 ms", ask("/"), "0.05, rps_fractional=10")
		time.Sleep(time.Minute)
		var utilization, perSecond float64
		after := ask("/")
		fmt.Sscanf(after, "TEXT application_utilization=%g, rps_fractional=%g", &utilization, &perSecond)
		if perSecond > 1 || math.Abs(perSecond/utilization*0.02/4-1) > 1e-3 {
			t.Errorf("after a pause: %q", after)
		}
		for range 4 {
			go ask("/hang")
		}
		synctest.Wait()
		time.Sleep(2 * time.Second)
		ask("/refused") // the window before ends here
		time.Sleep(time.Second)
		check("all slots hang", ask("/refused"), "1")
	})
}

// In gRPC, the report is in the trailer; an answer without a body has no other than its header.
func TestLoadReportOfGRPC(t *testing.T) {
	g := newGuard(t, 4)
	h := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/grpc")
		if r.Header.Get("Fail") != "" {
			w.Header().Set("Grpc-Status", "5")
			w.WriteHeader(http.StatusOK)
			return
		}
		w.Write(make([]byte, 5))
		w.Header().Set(http.TrailerPrefix+"Grpc-Status", "0")
	}), guardhttp.WithLoadReport())
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	defer s.Close()
	transport := &http.Transport{Protocols: s.Config.Protocols}
	defer transport.CloseIdleConnections()
	call := func(fail string) (header, trailer http.Header) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/grpc")
		if fail != "" {
			r.Header.Set("Fail", fail)
		}
		a, err := transport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer a.Body.Close()
		if _, err := io.Copy(io.Discard, a.Body); err != nil {
			t.Fatal(err)
		}
		drains(t, g, 0)
		return a.Header, a.Trailer
	}
	check := func(what string, with, without http.Header, status string) {
		t.Helper()
		if with.Get("Grpc-Status") != status || without.Get(guardhttp.LoadReportBinHeader) != "" || with.Get(guardhttp.LoadReportHeader) != "" {
			t.Errorf("%s: %v and %v", what, with, without)
		}
		message, err := base64.RawStdEncoding.DecodeString(with.Get(guardhttp.LoadReportBinHeader))
		if err != nil || len(message)%9 != 0 || len(message) == 0 {
			t.Fatalf("%s: the report is %x, %v", what, message, err)
		}
		last := message[len(message)-9:]
		// On a busy machine more than a second may have passed, with a mean of less than this request.
		if u := math.Float64frombits(binary.LittleEndian.Uint64(last[1:])); last[0] != 0x49 || u < 0 || u > 0.25 {
			t.Errorf("%s: the report is %x", what, message)
		}
	}
	header, trailer := call("")
	check("an answer", trailer, header, "0")
	header, trailer = call("yes")
	check("an error", header, trailer, "5")
}

// Whatever the status, a caller that is a guard knows a refusal: nothing has failed, and the breaker stays closed.
func TestRefusalStatus(t *testing.T) {
	for _, chosen := range []int{0, http.StatusTooManyRequests, http.StatusServiceUnavailable} {
		for reason, usual := range map[string]int{
			"concurrency": http.StatusServiceUnavailable, "shed": http.StatusServiceUnavailable, "rate": http.StatusTooManyRequests,
		} {
			start := time.Now()
			g, err := guard.New(guard.Config{
				Service: "checkout", SLO: 300 * time.Millisecond, Min: 100, Max: 100,
				Now: func() time.Time { return start }, // no token comes, and each class keeps its quarter of the ranks
			})
			if err != nil {
				t.Fatal(err)
			}
			inFlight := 100
			switch reason {
			case "rate":
				apply(t, g, actuators.Rate{PerSecond: 0.1, Burst: 1}, 1)
				inFlight = 1
			case "shed":
				apply(t, g, actuators.Rate{PerSecond: 1e6, Burst: 1000}, 0.6)
				inFlight = 85
			}
			for range inFlight {
				if _, err := g.Acquire(t.Context(), guard.Critical); err != nil {
					t.Fatal(reason, err)
				}
			}
			want := usual
			var options []guardhttp.Option
			if chosen != 0 {
				options, want = append(options, guardhttp.WithRefusalStatus(chosen)), chosen
			}
			url := serve(t, g, answer, options...)
			caller := newGuard(t, 10)
			client := &http.Client{Transport: guardhttp.Transport(caller.Dependency("checkout"), nil)}
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set(guardhttp.CriticalityHeader, "background")
			r.Header.Set(guardhttp.AttemptHeader, "0") // somebody else retries
			resp, err := client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			resp.Body.Close()
			if got := resp.Header.Get(guardhttp.RefusedHeader); resp.StatusCode != want || got != reason {
				t.Errorf("%d, %s: %d for %q", chosen, reason, resp.StatusCode, got)
			}
			if c := caller.Snapshot().Calls[0]; c.CalleeRefusals != 1 || c.Failures != 0 {
				t.Errorf("%d, %s: the caller counts %d refusals and %d failures", chosen, reason, c.CalleeRefusals, c.Failures)
			}
		}
	}
	defer func() {
		if recover() == nil {
			t.Error("any status is accepted")
		}
	}()
	guardhttp.WithRefusalStatus(http.StatusInternalServerError)
}
