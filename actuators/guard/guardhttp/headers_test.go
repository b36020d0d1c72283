package guardhttp

import (
	"net/http"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

var noon = time.Date(2025, 6, 1, 12, 0, 0, 0, time.UTC)

func TestRetryAfter(t *testing.T) {
	in := func(d time.Duration) string { return noon.Add(d).Format(http.TimeFormat) }
	for _, tc := range []struct {
		name   string
		values []string
		date   string
		want   time.Duration
	}{
		{"none", nil, "", 0},
		{"seconds", []string{"7"}, "", 7 * time.Second},
		{"with spaces", []string{" 7 "}, "", 7 * time.Second},
		{"zero", []string{"0"}, "", 0},
		{"negative", []string{"-7"}, "", 0},
		{"a plus", []string{"+7"}, "", 0},
		{"a fraction", []string{"1.5"}, "", 0},
		{"an hour and more", []string{"86400"}, "", time.Hour},
		{"more than 64 bits", []string{"184467440737095516160"}, "", time.Hour},
		{"empty", []string{""}, "", 0},
		{"garbage", []string{"soon"}, "", 0},
		{"infinity", []string{"Inf"}, "", 0},
		{"a date", []string{in(90 * time.Second)}, "", 90 * time.Second},
		{"a date in the old form", []string{noon.Add(time.Minute).Format(time.ANSIC)}, "", time.Minute},
		{"a date by the callee's clock", []string{in(90 * time.Second)}, in(80 * time.Second), 10 * time.Second},
		{"a date beside a damaged Date", []string{in(90 * time.Second)}, "yesterday", 90 * time.Second},
		{"now", []string{in(0)}, "", 0},
		{"a past date", []string{in(-time.Hour)}, "", 0},
		{"in a century", []string{"Fri, 01 Jun 2125 12:00:00 GMT"}, "", time.Hour},
		{"the year 0", []string{"Sat, 01 Jan 0000 00:00:00 GMT"}, "", 0},
		{"two, the longer counts", []string{"2", "9"}, "", 9 * time.Second},
		{"two, one damaged", []string{"x", "9"}, "", 9 * time.Second},
	} {
		h := http.Header{"Retry-After": tc.values}
		if tc.date != "" {
			h.Set("Date", tc.date)
		}
		if got := retryAfterIn(h, noon); got != tc.want {
			t.Errorf("%s: %v, expected %v", tc.name, got, tc.want)
		}
	}
}

// Whatever Retry-After and Date contain, the wait is in range.
func FuzzRetryAfter(f *testing.F) {
	for _, seed := range []string{
		"", "0", "120", "-1", "99999999999999999999", "1.5", "soon", "Sun, 01 Jun 2025 12:00:05 GMT",
		"Sunday, 01-Jun-25 12:00:05 GMT", "Sun Jun  1 12:00:05 2025", "Sat, 01 Jan 0000 00:00:00 GMT", "\x00", "½",
	} {
		f.Add(seed, "Sun, 01 Jun 2025 12:00:00 GMT")
		f.Add(seed, "")
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		h := http.Header{"Retry-After": {value}, "Date": {date}}
		if got := retryAfterIn(h, noon); got < 0 || got > longestRetryAfter {
			t.Errorf("Retry-After %q, Date %q: %v", value, date, got)
		}
	})
}

// Whatever a request claims, its criticality is one of those there are.
func FuzzCriticality(f *testing.F) {
	for _, seed := range []string{"", "critical", "CRITICAL", "default", "sheddable", "background", "critical ", "\x00"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, value string) {
		c := CriticalityOf(&http.Request{Header: http.Header{CriticalityHeader: {value}}})
		if c.String() != value && c != guard.Default {
			t.Errorf("%q became %v", value, c)
		}
	})
}

// Whatever an answer contains, judging it neither panics nor makes a refusal of a good answer.
func FuzzAnswer(f *testing.F) {
	f.Add(200, "concurrency", "1", "5", "text/event-stream")
	f.Add(503, "", "", "-1", "text/html; charset")
	f.Add(429, "rate", "0", "x", "; =")
	f.Add(-1, "\x00", "\x00", "\x00", "\x00")
	f.Fuzz(func(t *testing.T, status int, refused, hint, after, kind string) {
		h := http.Header{
			RefusedHeader: {refused}, NoRetryHeader: {hint}, "Retry-After": {after}, "Content-Type": {kind},
		}
		IsEventStream(h)
		r := answer{response: &http.Response{StatusCode: status, Header: h}}.result(t.Context())
		if status < 400 && (r.Refused || r.Outcome != guard.Success) {
			t.Errorf("status %d: %+v", status, r)
		}
		if !r.Advice.NoRetry || r.RetryAfter < 0 || r.RetryAfter > longestRetryAfter || r.Elsewhere && refused == "" {
			t.Errorf("status %d: %+v", status, r)
		}
	})
}
