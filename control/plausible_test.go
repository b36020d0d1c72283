package control

import (
	"strings"
	"testing"
	"time"
)

// honest is an instance whose numbers belong together: 180/s of 200/s admitted, 50 ms, 5% of them slow.
func honest() Instance {
	const w = 20
	return Instance{
		Name: "a", Age: Read(1), Offered: Read(200 * w), Admitted: Read(180 * w), Refused: Read(20 * w),
		Completed: Read(180 * w), Failed: Read(w), Slow: Read(9 * w), Fast: Read(171 * w), Mean: Read(0.05),
		InFlight: Read(9), Limit: Read(32), Resets: Read(0),
		Classes: [Criticalities]Class{
			{Read(50 * w), Read(0)}, {Read(150 * w), Read(20 * w)}, {Missing(NoData, ""), Missing(NoData, "")},
		},
	}
}

func snapshotOf(ins ...Instance) Measurement {
	return Measurement{Service: "checkout", Window: 20 * time.Second, Quantile: Read(0.4), Instances: ins}
}

// judge says what the loops of checkout make of one instance, edited.
func judge(t *testing.T, edit func(m *Measurement, in *Instance)) Verdict {
	t.Helper()
	m := snapshotOf(honest())
	edit(&m, &m.Instances[0])
	v, err := Judge(checkout(), m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// What no service can do is told, with the numbers and with what to try.
func TestContradictions(t *testing.T) {
	for _, tc := range []struct {
		name string
		edit func(m *Measurement, in *Instance)
		says []string
	}{
		{"C8: a sum that never moves", func(_ *Measurement, in *Instance) { in.Mean = Read(0) }, []string{"0 ms over 3600", "sum"}},
		{"C8: it moves too little", func(_ *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast = Read(0.001), Read(3000), Read(600)
		}, []string{"1 ms", "83.3%", "250 ms"}},
		{"C8: it counts more than the buckets", func(m *Measurement, in *Instance) {
			in.Mean, in.Slow, in.InFlight = Read(0.9), Read(0), Read(160)
			m.Quantile = Missing(NoData, "")
		}, []string{"900 ms", "no request takes more than 250 ms"}},
		{"C9: milliseconds read as seconds", func(m *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast = Read(50), Read(3590), Read(10)
			m.Quantile = Read(400)
		}, []string{"180/s x 50 s = 9000 requests in flight", "9 were seen", "limit is 32", "unit: milliseconds"}},
		{"C9: without a limit", func(m *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast, in.Limit = Read(50), Read(3590), Read(10), Missing(NoData, "")
			m.Quantile = Read(400)
		}, []string{"9 were seen", "unit: milliseconds"}},
		{"C9: nothing seen in flight", func(m *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast = Read(50), Read(3590), Read(10)
			in.Limit, in.InFlight = Missing(NoData, ""), Read(0)
			m.Quantile = Read(400)
		}, []string{"0 were seen", "unit: milliseconds"}},
		{"a rate through two replicas", func(_ *Measurement, in *Instance) {
			in.Offered, in.Admitted, in.Completed = Read(560000), Read(560000), Read(560000)
		}, []string{"28000/s x 50 ms = 1400", "one replica"}},
		{"C10: nobody's series", func(_ *Measurement, in *Instance) { in.Resets = Read(4) }, []string{"fall 4 times", "instance, pod"}},
		{"C15: streams among calls", func(m *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast, in.InFlight, in.Limit = Read(3.4), Read(36), Read(3564), Read(620), Missing(NoData, "")
			m.Quantile = Read(0.34)
		}, []string{"3.4 s, 10 times the p99 of 340 ms", "streams"}},
		{"C18: more failed than finished", func(_ *Measurement, in *Instance) { in.Failed = Read(6660) }, []string{"6660 requests failed of 3600"}},
		{"C18: a bucket above the count", func(_ *Measurement, in *Instance) {
			in.Fast, in.Slow = Read(7000), Read(0)
		}, []string{"7000 requests finished within the SLO of 3600 finished"}},
		{"more slow than finished", func(_ *Measurement, in *Instance) { in.Slow = Read(7000) }, []string{"7000 requests slow"}},
		{"more refused than offered", func(_ *Measurement, in *Instance) { in.Refused = Read(9000) }, []string{"9000 requests refused of 4000"}},
		{"more admitted than offered", func(_ *Measurement, in *Instance) { in.Admitted = Read(9000) }, []string{"9000 requests admitted"}},
		{"admitted and refused at once", func(_ *Measurement, in *Instance) {
			in.Admitted, in.Refused = Read(4000), Read(3000)
		}, []string{"7000 requests admitted and refused of 4000"}},
		{"a policy refuses more than all", func(_ *Measurement, in *Instance) { in.RefusedByRate = Read(900) }, []string{"900 requests refused by the rate"}},
		{"classes above the total", func(_ *Measurement, in *Instance) { in.Classes[2].Offered = Read(4000) }, []string{"8000 requests offered by class"}},
		{"refused classes above the total", func(_ *Measurement, in *Instance) { in.Classes[2].Refused = Read(4000) }, []string{"4400 requests refused by class"}},
		{"a quantile far below the slow share", func(m *Measurement, in *Instance) {
			in.Slow, in.Fast, in.Mean, in.InFlight = Read(1800), Read(1800), Read(0.3), Read(54)
			m.Quantile = Read(0.1)
		}, []string{"p99 of 100 ms, where 50%"}},
		{"a quantile far above it", func(m *Measurement, in *Instance) {
			in.Slow, in.Fast = Read(0), Read(3600)
			m.Quantile = Read(5)
		}, []string{"p99 of 5 s, where 0%"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			v := judge(t, tc.edit)
			if v.Hold != Implausible {
				t.Fatalf("%+v, want a hold", v)
			}
			for _, part := range tc.says {
				if !strings.Contains(v.Detail, part) {
					t.Errorf("%q does not say %q", v.Detail, part)
				}
			}
		})
	}
}

// What is odd and possible is not refused.
func TestPlausible(t *testing.T) {
	for _, tc := range []struct {
		name  string
		edit  func(m *Measurement, in *Instance)
		doubt Reason
	}{
		{"as it should be", func(*Measurement, *Instance) {}, ""},
		{"a restart", func(_ *Measurement, in *Instance) { in.Resets = Read(1) }, ""},
		{"extrapolated a little apart", func(_ *Measurement, in *Instance) {
			in.Offered, in.Admitted, in.Refused = Read(3900), Read(3700), Read(400)
			in.Fast, in.Slow, in.Completed = Read(3600), Read(0), Read(3500)
		}, ""},
		{"after a hang: what finishes has waited for a minute", func(m *Measurement, in *Instance) {
			in.Completed, in.Slow, in.Fast, in.Mean, in.InFlight = Read(132), Read(32), Read(100), Read(14.6), Read(9)
			in.Limit = Missing(NoData, "")
			m.Quantile = Read(60)
		}, ""},
		{"in a hang", func(m *Measurement, in *Instance) {
			in.Completed, in.Slow, in.Fast, in.Mean, in.InFlight = Read(1), Read(0), Read(1), Read(0.001), Read(32)
			m.Quantile = Read(0.001)
		}, ""},
		{"idle connections in the gauge", func(_ *Measurement, in *Instance) {
			in.Mean, in.Slow, in.Fast, in.InFlight = Read(0.0005), Read(0), Read(3600), Read(400)
		}, Implausible},
		{"a burst between the samples", func(_ *Measurement, in *Instance) { in.InFlight = Read(0) }, ""},
		{"bursts that no sample sees, with a guard", func(_ *Measurement, in *Instance) {
			in.Mean, in.InFlight, in.Limit, in.ServiceTime = Read(0.33), Read(0.25), Read(200), Read(0)
		}, ""},
		{"a cache that misses seven times in a thousand", func(m *Measurement, in *Instance) {
			in.Mean, in.InFlight, in.Slow, in.Fast = Read(0.023), Read(4), Read(25), Read(3575)
			m.Quantile = Read(0.002)
		}, ""},
		{"a heavy tail", func(m *Measurement, in *Instance) {
			in.Mean, in.InFlight, in.Slow = Read(0.2), Read(36), Read(108)
			m.Quantile = Read(3)
		}, ""},
		{"a tail beyond the last bucket", func(m *Measurement, in *Instance) {
			in.Mean, in.InFlight, in.Limit = Read(3), Read(540), Read(500)
			m.Quantile, m.Censored = Read(0.5), true
		}, ""},
		{"a tail beyond the median", func(m *Measurement, in *Instance) {
			in.Mean, in.InFlight, in.Slow = Read(0.2), Read(36), Read(108)
			m.Quantile = Missing(NoData, "")
		}, ""},
		{"little traffic that failed", func(m *Measurement, in *Instance) {
			in.Completed, in.Failed, in.Slow, in.Fast = Read(4), Read(9), Read(4), Read(0)
		}, ""},
	} {
		t.Run(tc.name, func(t *testing.T) {
			if v := judge(t, tc.edit); v.Hold != "" || v.Doubt != tc.doubt {
				t.Errorf("%+v, want to doubt %q only", v, tc.doubt)
			}
		})
	}
}

// One instance of many that contradicts itself is left out; half of them are a hold.
func TestContradictionOfOneInstance(t *testing.T) {
	broken := honest()
	broken.Failed = Read(9999)
	named := func(in Instance, name string) Instance { in.Name = name; return in }
	m := snapshotOf(named(honest(), "a"), named(broken, "b"), named(honest(), "c"))
	v, err := Judge(checkout(), m)
	if err != nil || v.Hold != "" || v.Doubt != "" || !strings.Contains(v.LeftOut, "b: 9999") {
		t.Errorf("%+v, %v: one of three is an outlier", v, err)
	}
	if d := newRig(t, checkout(), 32).step(m); len(d.Inputs.Outliers) != 1 || d.Inputs.Outliers[0] != "b" {
		t.Errorf("outliers %q, want b: %s", d.Inputs.Outliers, d.Reason)
	}
	if !m.Instances[1].Age.Known() {
		t.Error("the Measurement itself was changed")
	}
	m.Instances[2] = named(broken, "c")
	if v, err = Judge(checkout(), m); err != nil || v.Hold != Implausible || !strings.Contains(v.Detail, "b: 9999") ||
		!strings.Contains(v.Detail, "1 more of 3") {
		t.Errorf("%+v, %v: two of three hold", v, err)
	}
}

// Huge numbers keep a sentence short.
func TestHugeNumbersAreShort(t *testing.T) {
	v := judge(t, func(_ *Measurement, in *Instance) { in.Failed, in.Mean = Read(1e308), Read(1e300) })
	if v.Hold == "" || len(v.Detail) > 300 {
		t.Errorf("%d characters: %s", len(v.Detail), v.Detail)
	}
}

// C10: a service whose instances nobody can tell apart is not enforced; what a person has ordered is.
func TestNoIdentityCapsTheMode(t *testing.T) {
	r := newRig(t, checkout(), 400)
	m := overload(400).measurement()
	m.Capped = "no label tells them apart: the mode is capped at shadow"
	for range 3 {
		d := r.step(m)
		if d.Mode != Shadow || d.Publish || d.Renew || !strings.Contains(d.Reason, "capped at shadow") {
			t.Errorf("%s, publish %v, renew %v: %s", d.Mode, d.Publish, d.Renew, d.Reason)
		}
	}
	m.Capped = ""
	if d := r.step(m); d.Mode != Enforce || !d.Publish {
		t.Errorf("%s, publish %v: %s", d.Mode, d.Publish, d.Reason)
	}
}
