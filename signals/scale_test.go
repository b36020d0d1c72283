package signals

import (
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/api"
	v1 "github.com/prometheus/client_golang/api/prometheus/v1"

	"github.com/seed-de83e32b/governor/control"
)

// fleet returns a group of n services, each as in the recorded replies, and the reply of Prometheus to its query.
func fleet(t testing.TB, n int) (g *Group, tick string) {
	var services []Service
	rows, one := map[string][]row{}, map[string]*recording{"healthy": healthy(t), "burn": recorded(t, "burn")}
	for i := range n {
		s := slowly(checkout())
		s.Name = fmt.Sprintf("service-%d", i)
		services = append(services, s)
		for name, found := range one {
			for _, r := range found.rows {
				r.Metric = maps.Clone(r.Metric)
				r.Metric["service"] = s.Name
				rows[name] = append(rows[name], r)
			}
		}
	}
	tick = (&recording{rows: rows["healthy"]}).body()
	burn := (&recording{rows: rows["burn"]}).body()
	w := wire(func(r *http.Request) (*http.Response, error) {
		if ofBurnRates(r.FormValue("query")) {
			return ok(burn), nil
		}
		return ok(tick), nil
	})
	return sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, services...).Groups()[0], tick
}

// BenchmarkFleet measures what one tick of many services costs after Prometheus has answered: decode the reply, arrange
// it, read every service, burn rates included.
func BenchmarkFleet(b *testing.B) {
	for _, n := range []int{100, 1000, 3000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			g, _ := fleet(b, n)
			g.burn.pace, g.burn.asked = 1<<60, evaluated // asked here, not in the background
			g.burn.take(g, evaluated, g.ask(b.Context(), g.burn.query, evaluated, g.deadline))
			b.ReportAllocs()
			for b.Loop() {
				if m := g.Measure(b.Context(), evaluated); m[n-1].Invalid != "" {
					b.Fatal(m[n-1].Invalid, m[n-1].Detail)
				}
			}
		})
	}
}

// A tick of three thousand services must fit its period: what is looked at for one service does not grow with the
// number of the others.
func TestWorkPerServiceIsTheSameHoweverManyServices(t *testing.T) {
	work := func(n int) (tick, burn float64) {
		g, _ := fleet(t, n)
		r, a, _ := g.snapshot(t.Context(), evaluated)
		if a.reason != "" {
			t.Fatal(a.detail)
		}
		g.burn.take(g, evaluated, g.ask(t.Context(), g.burn.query, evaluated, g.deadline))
		for _, s := range g.services {
			m := control.Measurement{Service: s.Name}
			r.fill(&m, s, evaluated, nil)
			if m.Invalid != "" || len(m.Instances) != 2 {
				t.Fatalf("%s: %s %s", s.Name, m.Invalid, m.Detail)
			}
			g.burn.of(s, evaluated)
		}
		return float64(r.read) / float64(n), float64(g.burn.reply.read) / float64(n)
	}
	tick, burn := work(20)
	tenfold, tenfoldBurn := work(200)
	t.Logf("%.1f samples a service in a tick, %.1f in the burn rates", tick, burn)
	if tick == 0 || burn == 0 || tenfold != tick || tenfoldBurn != burn {
		t.Errorf("of 20 services %.1f and %.1f samples each, of 200 %.1f and %.1f", tick, burn, tenfold, tenfoldBurn)
	}
}

// Readings that no service has are refused in a few words.
func TestSentencesAboutHugeReadingsAreShort(t *testing.T) {
	for _, value := range []string{"1e308", "-1e308", "1e300"} {
		rec := healthy(t)
		for i := range rec.rows {
			if signal := rec.rows[i].Metric[signalLabel]; signal != sigSeen && signal != sigSamples && signal != sigBefore {
				rec.rows[i].Value[1] = value
			}
		}
		m := measure(t, rec.body())
		details := []string{m.Detail}
		add := func(r control.Reading) { _, why := r.Why(); details = append(details, why) }
		add(m.Quantile)
		for i := range m.Instances {
			for _, r := range m.Instances[i].Windowed() {
				add(*r)
			}
		}
		s, err := control.NewLoopSet(control.Spec{
			Service: "checkout", Mode: control.Enforce, SLO: checkout().SLO, Timing: checkout().Timing,
			Concurrency: &control.ConcurrencySpec{Min: 20, Max: 400},
		})
		if err != nil {
			t.Fatal(err)
		}
		m.Window = checkout().Timing.Window
		for i := range 3 {
			for _, d := range s.Step(evaluated.Add(time.Duration(i)*time.Second), m) {
				details = append(details, d.Reason)
			}
		}
		for _, text := range details {
			if len(text) > 300 {
				t.Errorf("%s: %d characters: %s", value, len(text), text)
			}
		}
	}
}

// endless answers with a valid beginning and samples for as long as anybody reads, and counts what was read.
type endless struct {
	beginning string
	read      atomic.Int64
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, e.beginning)
	e.beginning = e.beginning[n:]
	for n < len(p) {
		n += copy(p[n:], `{"metric":{"service":"other"},"value":[1,"1"]},`)
	}
	e.read.Add(int64(n))
	return n, nil
}

func TestAnswerWithoutEndIsCutAndHolds(t *testing.T) {
	for _, code := range []int{http.StatusOK, http.StatusBadRequest, http.StatusServiceUnavailable} {
		body := &endless{beginning: `{"status":"success","data":{"resultType":"vector","result":[`}
		w := wire(func(r *http.Request) (*http.Response, error) {
			if ofBurnRates(query(t, r)) {
				return ok(empty), nil
			}
			answer := ok("")
			answer.StatusCode, answer.Body = code, io.NopCloser(body)
			return answer, nil
		})
		g := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, slowly(checkout())).Groups()[0]
		m := g.Measure(t.Context(), evaluated)[0]
		isInvalid(t, m, control.QueryError, "the answer of Prometheus is larger than 8.1 MiB")
		if read := body.read.Load(); read > mostBytes(1)+1 {
			t.Errorf("status %d: %d bytes read, at most %d are allowed", code, read, mostBytes(1))
		}
		if h := g.Health(); h.OK {
			t.Error("the group is well after an answer that was cut")
		}
	}
}

// The largest answer that the services may need is still read.
func TestSizeOfAnAnswerFollowsTheNumberOfServices(t *testing.T) {
	for _, n := range []int{1, 50} {
		g, tick := fleet(t, n)
		padding := strings.Repeat(" ", int(mostBytes(n))-len(tick))
		for _, tc := range []struct {
			body string
			want control.Reason
		}{{tick + padding, ""}, {tick + padding + " ", control.QueryError}} {
			body := tc.body
			w := wire(func(*http.Request) (*http.Response, error) { return ok(body), nil })
			var services []Service
			for _, s := range g.services {
				services = append(services, s.Service)
			}
			of := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, services...).Groups()[0]
			if m := of.Measure(t.Context(), evaluated)[0]; m.Invalid != tc.want {
				t.Errorf("%d services, %d bytes: %q (%s), want %q", n, len(body), m.Invalid, m.Detail, tc.want)
			}
		}
	}
}

// busy is an api.Client that takes its time, as decoding a large answer does: neither a deadline nor a cancellation
// ends it.
type busy struct {
	api.Client
	done chan struct{}
	body string
}

func (b busy) Do(context.Context, *http.Request) (*http.Response, []byte, error) {
	<-b.done
	return &http.Response{StatusCode: http.StatusOK}, []byte(b.body), nil
}

func TestWorkOnAnAnswerEndsWithTheDeadlineToo(t *testing.T) {
	body := healthy(t).body()
	synctest.Test(t, func(t *testing.T) {
		s := sensor(t, Options{URL: "http://prometheus", RoundTripper: replies{}}, checkout())
		g := s.Groups()[0]
		g.burn.query = ""
		b := busy{s.client, make(chan struct{}), body}
		g.api = v1.NewAPI(b)
		start := time.Now()
		isInvalid(t, g.Measure(t.Context(), evaluated)[0], control.Timeout, "is this machine overloaded?")
		if took := time.Since(start); took > g.Deadline()*17/16 {
			t.Errorf("took %s, the deadline is %s", took, g.Deadline())
		}
		isInvalid(t, g.Measure(t.Context(), evaluated)[0], control.Timeout, "still running")
		close(b.done)
		synctest.Wait()
		if m := g.Measure(t.Context(), evaluated)[0]; m.Invalid != "" {
			t.Errorf("afterwards: %s %s", m.Invalid, m.Detail)
		}
	})
}
