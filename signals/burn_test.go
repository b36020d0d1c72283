package signals

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/control"
)

// burning returns the burn rates of the service by fixed replies.
func burning(t *testing.T, s Service, all replies) [len(control.BurnRates)]control.Burn {
	t.Helper()
	sens := sensor(t, Options{URL: "http://prometheus", RoundTripper: all}, s)
	g := sens.Groups()[0]
	g.Measure(t.Context(), later)
	g.burn.running.Wait()
	return g.Measure(t.Context(), later.Add(s.Timing.Period))[0].Burn
}

func TestBurnRates(t *testing.T) {
	judged := slowly(checkout())
	judged.SLO.Errors = 0.001
	of := func(s Service, rec *recording) [len(control.BurnRates)]control.Burn {
		return burning(t, s, replies{{"burn_completed", rec.body()}})
	}
	rec := func() *recording { return recorded(t, "burn") }

	t.Run("the worse ratio", func(t *testing.T) {
		for _, b := range of(slowly(checkout()), rec()) {
			if text(b.Long) != "5" || text(b.Short) != "5" { // 5% slow of 1%
				t.Errorf("%s, %s: want 5 times the budget", text(b.Long), text(b.Short))
			}
		}
		for _, b := range of(judged, rec()) {
			if text(b.Long) != "25" { // 2.5% failed of 0.1%
				t.Errorf("%s: want 25 times the budget", text(b.Long))
			}
		}
	})
	t.Run("little traffic", func(t *testing.T) {
		b := of(judged, rec().set("burn_completed_5m", "", "99"))
		isMissing(t, "short", b[0].Short, control.TooLittleTraffic, "99 requests in 5m, needs 100")
		if text(b[0].Long) != "25" {
			t.Errorf("long %s", text(b[0].Long))
		}
	})
	t.Run("a minute of life is not a bad hour", func(t *testing.T) {
		b := of(judged, rec().set("burn_completed_5m", "", "1727").set("burn_bucket_5m", "", "1641").set("burn_failed_5m", "", "43"))
		isMissing(t, "long", b[0].Long, control.Starting, "does not cover its time yet")
		if _, ok := b[0].Short.Value(); !ok {
			t.Errorf("short %s", text(b[0].Short))
		}
	})
	t.Run("nothing found is not nothing burnt", func(t *testing.T) {
		for _, b := range of(judged, &recording{}) {
			isMissing(t, "long", b.Long, control.NoData, "guard_latency_seconds_count")
		}
		b := of(slowly(checkout()), rec().drop("burn_bucket_1h", ""))
		isMissing(t, "long", b[0].Long, control.NoData, "no bucket edge at the SLO")
	})
	// A9: one of the two ratios is missing.
	t.Run("a known breach counts, a known rest does not", func(t *testing.T) {
		b := of(judged, rec().drop("burn_bucket_1h", "").drop("burn_failed_6h", ""))
		if text(b[0].Long) != "25" { // 25 is above 14.4, and the truth is no better
			t.Errorf("long %s", text(b[0].Long))
		}
		isMissing(t, "long", b[1].Long, control.NoData, "guard_failed_total") // 5 is below 6, and the truth may be worse
	})
	t.Run("NaN", func(t *testing.T) {
		b := of(slowly(checkout()), rec().set("burn_completed_1h", "", "NaN"))
		isMissing(t, "long", b[0].Long, control.NaN, "guard_latency_seconds_count")
	})
	t.Run("an outcome that never happened", func(t *testing.T) {
		r := rec()
		for _, row := range r.rows {
			delete(row.Metric, "service")
			row.Metric["job"] = "shop"
		}
		s := web()
		for _, w := range burnWindows() {
			r.drop(burnSignal(sigFailed, w), "")
		}
		isMissing(t, "without the label", of(s, r)[1].Long, control.NoData, `code=~"5.."`)
		r.rows = append(r.rows, row{map[string]string{signalLabel: hasLabels(sigFailed), "job": "shop"}, [2]any{0, "3"}})
		if b := of(s, r); text(b[0].Long) != "5" {
			t.Errorf("long %s, want that of the slow ones", text(b[0].Long))
		}
	})
}

func TestBurnRatesOfOwnQueries(t *testing.T) {
	s := own()
	s.SLO.Errors = 0.01
	b := burning(t, s, nil)
	isMissing(t, "nothing found", b[0].Long, control.NoData, "the query of completed")

	s.Queries[Slow], s.Queries[Failed] = "rate(slow_total[$window])", "rate(failed_total[$window])"
	g := sensor(t, Options{URL: "http://prometheus"}, s).Groups()[0]
	want := `label_replace((sum(rate(slow_total[6h]))) * 21600, "governor_signal", "burn_slow_6h"`
	if !strings.Contains(g.burn.query, want) {
		t.Errorf("query\n%s", g.burn.query)
	}
	var rows []row
	for _, w := range burnWindows() {
		for signal, v := range map[string]int{sigCompleted: 1000, string(Slow): 100, sigFailed: 150} {
			if w >= time.Hour {
				v *= 12
			}
			rows = append(rows, row{map[string]string{signalLabel: burnSignal(signal, w)}, [2]any{0, fmt.Sprint(v)}})
		}
	}
	b = burning(t, s, replies{{"burn_completed", (&recording{rows: rows}).body()}})
	if text(b[0].Long) != "15" { // 15% failed of 1%
		t.Errorf("long %s", text(b[0].Long))
	}

	s.Queries[Slow] = "rate(slow_total[1m])"
	isMissing(t, "with a fixed window", burning(t, s, nil)[0].Long, control.NoData, "$window")
}

// The query of the burn rates is expensive and slow. It has a pace of its own, and no tick waits for it.
func TestBurnRatesAreAskedAtTheirOwnPace(t *testing.T) {
	body, tick := recorded(t, "burn").body(), recorded(t, "classes").body()
	synctest.Test(t, func(t *testing.T) {
		asked, down := 0, false
		w := wire(func(r *http.Request) (*http.Response, error) {
			if !ofBurnRates(query(t, r)) {
				return ok(tick), nil
			}
			asked++
			if down {
				return nil, fmt.Errorf("connection refused")
			}
			return ok(body), after(r, 7*time.Second)
		})
		s := checkout()
		s.Timing.Period = 5 * time.Second
		sens := sensor(t, Options{URL: "http://prometheus", RoundTripper: w}, s)
		g := sens.Groups()[0]
		measure := func() control.Reading {
			t.Helper()
			start := time.Now()
			m := g.Measure(t.Context(), time.Now())[0]
			if time.Since(start) != 0 || m.Took != 0 {
				t.Errorf("the tick took %s", time.Since(start))
			}
			time.Sleep(5*time.Second - time.Since(start))
			return m.Burn[0].Long
		}
		isMissing(t, "at first", measure(), control.Starting, "asked every 30s, no answer yet")
		isMissing(t, "while the first is running", measure(), control.Starting, "")
		for range 10 {
			if got := measure(); text(got) != "5" {
				t.Errorf("burn rate %s", text(got))
			}
		}
		if asked != 2 {
			t.Errorf("asked %d times in a minute, want every 30 s", asked)
		}
		down = true
		for range 13 { // the answer of half a minute ago counts, but not for ever
			if got := measure(); text(got) != "5" {
				t.Errorf("burn rate %s", text(got))
			}
		}
		for range 5 {
			measure()
		}
		isMissing(t, "after an outage", measure(), control.QueryError, "connection refused")
		if !g.Health().OK {
			t.Error("the health of the group is that of its ticks")
		}
		sens.Close()
	})
}
