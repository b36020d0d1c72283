package daemon

import (
	"math"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestHoldIsAHoldEverywhere: A1 to A7, A9 and A10 end in a hold, and a hold looks the same everywhere. The key is not
// written (not even to renew its lease), the value stays, the journal, the log, the API and the metrics name the
// reason, and the first good tick decides as if the bad ones had not happened.
func TestHoldIsAHoldEverywhere(t *testing.T) {
	missing := func(reason control.Reason) func(*control.Measurement) {
		return func(m *control.Measurement) { m.Instances, m.Invalid, m.Detail = nil, reason, "as the sensor says" }
	}
	first := func(change func(*control.Instance)) func(*control.Measurement) {
		return func(m *control.Measurement) { change(&m.Instances[0]) }
	}
	// fast is a service behind a full limit that would get a raise if everything were known.
	fast := func(in *control.Instance) { in.Mean = control.Read(0.02) }
	for _, tc := range []struct {
		name   string
		spoil  func(*control.Measurement)
		reason control.Reason
	}{
		{
			"0/0 (A1, kedacore/keda#7475)",
			first(func(in *control.Instance) { in.Mean = control.Read(math.NaN()) }), control.NaN,
		},
		{"nobody asks for anything (A1)", first(func(in *control.Instance) {
			zero := control.Read(0)
			in.Offered, in.Admitted, in.Refused, in.Completed, in.Mean = zero, zero, zero, zero, control.Read(math.NaN())
		}), control.Idle},
		{
			"infinity (A2, kedacore/keda PR 3762)",
			first(func(in *control.Instance) { in.Mean = control.Read(math.Inf(1)) }), control.NotFinite,
		},
		{"an empty result (A3, kedacore/keda#3065)", missing(control.NoData), control.NoData},
		{"two series for one (A4, hyperdxio/hyperdx PR 3114)", first(func(in *control.Instance) {
			in.Mean = control.Missing(control.ManySeries, "2 series where one was expected; they differ in pod (a, b)")
		}), control.ManySeries},
		{"a part of the truth that would raise (A5, thanos-io/thanos#622)", func(m *control.Measurement) {
			fast(&m.Instances[0])
			m.Partial = "No StoreAPIs matched for this query"
		}, control.Partial},
		{"three failures of three (A6, envoyproxy/envoy#33739)", first(func(in *control.Instance) {
			three := control.Read(3)
			in.Offered, in.Admitted, in.Completed, in.Failed = three, three, three, three
			in.Refused, in.Mean = control.Read(0), control.Read(2)
		}), control.TooLittleTraffic},
		{
			"a sample of four minutes ago (A7, prometheus/prometheus#1557)",
			first(func(in *control.Instance) { in.Age = control.Read(240) }), control.Stale,
		},
		{"one SLO unknown, the other well (A9, kubernetes/kubernetes#99394)", first(func(in *control.Instance) {
			fast(in)
			in.Failed = control.Missing(control.NoData, "nothing found")
		}), control.NoData},
		{"a query that takes too long (A10, kedacore/keda#5118)", missing(control.Timeout), control.Timeout},
		{"a server that refuses (A10, kedacore/keda#3272)", missing(control.QueryError), control.QueryError},
		{"clocks apart", missing(control.Clock), control.Clock},
		{
			"a rate that no limit allows",
			first(func(in *control.Instance) { in.Completed = control.Read(1e6) }), control.Implausible,
		},
	} {
		t.Run(tc.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				start := func(w *world) *governor {
					g := w.governor(t, control.Enforce)
					g.win(1)
					g.start(t)
					w.overload()
					return g
				}
				w, twin := newWorld("checkout"), newWorld("checkout")
				g := start(w)
				start(twin)
				pass(3*time.Minute + 50*time.Second) // a renewal of the lease falls due in the hold
				before, writes := w.kv.stored("checkout"), len(w.kv.writes())
				limit := float64(before.Concurrency.Limit)

				w.sensor.set(func(p *plants) { p.services["checkout"].spoil = tc.spoil })
				const ticks = 6
				pass(ticks * period)

				if n := len(w.kv.writes()) - writes; n != 0 {
					t.Errorf("the key was written %d times", n)
				}
				if n := len(twin.kv.writes()) - writes; n == 0 {
					t.Error("the twin did not renew its lease in that time: the hold proves nothing")
				}
				if got := w.kv.stored("checkout"); got.Revision != before.Revision || got.Concurrency.Limit != int(limit) {
					t.Errorf("in the store: revision %d limit %d, before %d and %v",
						got.Revision, got.Concurrency.Limit, before.Revision, limit)
				}
				records := g.records("checkout")
				for _, r := range records[len(records)-ticks:] {
					d := r.Decision
					if d.State != control.Hold || d.HoldReason != tc.reason || !strings.Contains(d.Reason, string(tc.reason)) {
						t.Errorf("journal: %s %q (%s), want hold %q", d.State, d.HoldReason, d.Reason, tc.reason)
					}
					if float64(d.Value) != limit || d.Publish || d.Renew || r.Wrote {
						t.Errorf("journal: value %v, publish %v, renew %v, wrote %v; the value in force is %v",
							d.Value, d.Publish, d.Renew, r.Wrote, limit)
					}
				}
				lines := regexp.MustCompile(`msg=hold .*`).FindAllString(w.log.String(), -1)
				last := lines[len(lines)-1]
				_, detail, _ := strings.Cut(last, "detail=")
				if !strings.Contains(last, "reason="+string(tc.reason)) || strings.Contains(detail, "hold ") ||
					strings.HasPrefix(strings.Trim(detail, `"`), string(tc.reason)+" ") {
					t.Errorf("log: %s, want the reason, and once", last)
				}
				_, body := get(t, g, "GET", api.Prefix+"/loops/checkout/concurrency")
				if !strings.Contains(body, `"state":"hold","hold_reason":"`+string(tc.reason)+`"`) {
					t.Errorf("API: %.300s", body)
				}
				if n := strings.Count(w.log.String(), " reason="+string(tc.reason)+" detail="); n != 1 {
					t.Errorf("logged %d times, want once:\n%s", n, &w.log)
				}
				holds := g.recorder.metrics.holds.WithLabelValues("checkout", "concurrency", string(tc.reason))
				if n := testutil.ToFloat64(holds); n != ticks {
					t.Errorf("%v holds counted, want %d", n, ticks)
				}
				if v := testutil.ToFloat64(g.recorder.metrics.published); v != limit {
					t.Errorf("the published value's metric reads %v, want %v", v, limit)
				}

				// Half of the capacity is gone meanwhile: the cut equals that of a governor that never held.
				for _, world := range []*world{w, twin} {
					world.sensor.set(func(p *plants) {
						p.services["checkout"].spoil, p.services["checkout"].capacity = nil, 200
					})
				}
				pass(period)
				got, want := w.kv.stored("checkout").Concurrency.Limit, twin.kv.stored("checkout").Concurrency.Limit
				if got != want || float64(got) >= limit {
					t.Errorf("the first good tick went from %v to %d, a governor that never held to %d", limit, got, want)
				}
			})
		})
	}
}
