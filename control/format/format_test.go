package format

import (
	"math"
	"strings"
	"testing"
	"time"
)

func TestTexts(t *testing.T) {
	nan, inf := math.NaN(), math.Inf(1)
	for _, tc := range []struct{ got, want string }{
		{Number(0), "0"},
		{Number(72), "72"},
		{Number(41820), "41820"},
		{Number(43.94), "43.9"},
		{Number(9.996), "10"},
		{Number(9.994), "9.99"},
		{Number(99.96), "100"},
		{Number(0.25), "0.25"},
		{Number(0.00123456), "0.00123"},
		{Number(-0.00000001), "0"},
		{Number(-1.5), "-1.5"},
		{Number(14.25), "14.2"},
		{Number(41820.4), "41820"},
		{Number(0.0412), "0.0412"},
		{Number(nan), "unknown"},
		{Number(inf), "unknown"},
		{Latency(0.0004), "0.4 ms"},
		{Latency(0.0398), "39.8 ms"},
		{Latency(0.1484), "148 ms"},
		{Latency(0.9996), "1 s"},
		{Latency(1.234), "1.23 s"},
		{Latency(123.4), "123 s"},
		{Latency(nan), "unknown"},
		{Percent(0), "0%"},
		{Percent(0.00004), "< 0.01%"},
		{Percent(0.0004), "0.04%"},
		{Percent(0.091), "9.1%"},
		{Percent(0.0213), "2.13%"},
		{Percent(0.3891), "38.9%"},
		{Percent(1), "100%"},
		{Percent(inf), "unknown"},
		{Rate(644), "644/s"},
		{Rate(nan), "unknown"},
		{Ratio(0.6), "0.60"},
		{Ratio(nan), "unknown"},
		{Signed(-1.071), "-1.07"},
		{Signed(-0.001), "0.00"},
		{Signed(0.13), "+0.13"},
		{Signed(nan), "unknown"},
		{Quantile(0.99), "p99"},
		{Quantile(0.5), "p50"},
		{Quantile(0.9995), "p99.95"},
		{Quantile(0.99999), "p99.999"},
		{Span(3200 * time.Millisecond), "3.2 s"},
		{Span(3250 * time.Millisecond), "3.3 s"},
		{Span(31 * time.Second), "31 s"},
		{Span(14*time.Minute + 59*time.Second), "15 min"},
		{Span(50 * time.Hour), "2 days"},
		{Span(90 * time.Second), "90 s"},
		{Span(12 * time.Minute), "12 min"},
		{Span(5 * time.Hour), "5 h"},
		{Span(72 * time.Hour), "3 days"},
		{Span(-time.Hour), "0 s"},
		{Age(59 * time.Second), "59s"},
		{Age(49 * time.Hour), "2d"},
		{Column(Latency(0.148)), "148ms"},
		{Column(Percent(0.00004)), "<0.01%"},
		{Column(Number(nan)), "--"},
	} {
		if tc.got != tc.want {
			t.Errorf("got %q, want %q", tc.got, tc.want)
		}
	}
	now := time.Date(2026, 11, 24, 14, 3, 27, 0, time.UTC)
	if got := Clock(now.Add(-time.Minute), now); got != "14:02:27 UTC" {
		t.Error(got)
	}
	if got := Clock(now.Add(-24*time.Hour), now); got != "2026-11-23 14:03:27 UTC" {
		t.Error(got)
	}
}

// Every number has at most three significant digits before it is whole, and no exponent.
func TestNumbersStayShort(t *testing.T) {
	for exponent := -6.0; exponent < 12; exponent += 0.01 {
		v := math.Pow(10, exponent)
		text := Number(v)
		digits := strings.TrimLeft(strings.ReplaceAll(text, ".", ""), "0")
		if strings.ContainsAny(text, "eE") || strings.Contains(text, ".") && len(digits) > 3 {
			t.Fatalf("%v reads %q", v, text)
		}
	}
}
