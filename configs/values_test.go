package configs

import (
	"testing"

	"pgregory.net/rapid"
)

// 99.9/100 is not the float64 nearest to 0.999; an error budget of 1 − 0.9990000000000001 would show.
func TestPercentIsExact(t *testing.T) {
	for text, want := range map[string]Percent{
		"99%": 0.99, "99.9%": 0.999, "99.99%": 0.9999, "0.1%": 0.001, "0.001%": 0.00001,
		"100%": 1, "0%": 0, "007.50%": 0.075, "250%": 2.5,
	} {
		var p Percent
		if err := p.UnmarshalText([]byte(text)); err != nil || p != want {
			t.Errorf("%s: got %v, %v, want %v", text, float64(p), err, float64(want))
		}
	}
	for _, text := range []string{
		"", "%", "99", "99 %", ".5%", "5.%", "-5%", "+5%", "1e2%", "NaN%", "0x10%", "99%%", "inf",
	} {
		var p Percent
		if err := p.UnmarshalText([]byte(text)); err == nil {
			t.Errorf("%q: accepted as %v", text, float64(p))
		}
	}
}

// What String writes, UnmarshalText reads, to the last bit.
func TestValuesSurviveARoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Percent(rapid.Float64Range(0, 10).Draw(t, "percent"))
		var q Percent
		if err := q.UnmarshalText([]byte(p.String())); err != nil || q != p {
			t.Errorf("%v → %s → %v, %v", float64(p), p, float64(q), err)
		}
		r := PerSecond(rapid.Float64Range(0, 1e9).Draw(t, "rate"))
		if rapid.Bool().Draw(t, "by the minute") {
			r = PerSecond(float64(rapid.IntRange(0, 600).Draw(t, "per minute")) / 60)
		}
		var u PerSecond
		if err := u.UnmarshalText([]byte(r.String())); err != nil || u != r {
			t.Errorf("%v → %s → %v, %v", float64(r), r, float64(u), err)
		}
		d := Duration(rapid.Int64Range(1, 1e12).Draw(t, "milliseconds")) * 1e6
		var e Duration
		if err := e.UnmarshalText([]byte(d.String())); err != nil || e != d {
			t.Errorf("%d → %s → %d, %v", d, d, e, err)
		}
	})
}

func TestPercentText(t *testing.T) {
	for p, want := range map[Percent]string{
		0.99: "99%", 0.999: "99.9%", 0.001: "0.1%", 0.5: "50%", 1: "100%", 0: "0%", 0.00001: "0.001%", 2.5: "250%",
	} {
		if got := p.String(); got != want {
			t.Errorf("%v: got %s, want %s", float64(p), got, want)
		}
	}
}

func TestRateText(t *testing.T) {
	for text, want := range map[string]PerSecond{
		"100/s": 100, "6000/m": 100, "0.5/s": 0.5, "1/m": 1.0 / 60, "1000000/s": 1e6,
	} {
		var r PerSecond
		if err := r.UnmarshalText([]byte(text)); err != nil || r != want {
			t.Errorf("%s: got %v, %v, want %v", text, float64(r), err, float64(want))
		}
	}
	for r, want := range map[PerSecond]string{100: "100/s", 0.5: "30/m", 0.75: "45/m", 1.5: "1.5/s", 1.0 / 60: "1/m", 1e6: "1000000/s", 0: "0/s"} {
		if got := r.String(); got != want {
			t.Errorf("%v: got %s, want %s", float64(r), got, want)
		}
	}
}
