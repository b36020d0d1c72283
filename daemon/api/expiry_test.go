package api

import (
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

func TestParseExpiry(t *testing.T) {
	const day = 24 * time.Hour
	for text, want := range map[string]time.Duration{
		"15m": 15 * time.Minute, "90s": 90 * time.Second, "2h30m": 150 * time.Minute, " 1d ": day, "7d": 7 * day,
		"1w": 7 * day, "1d12h": 36 * time.Hour, "168h": 7 * day, "0d5m": 5 * time.Minute, "1d1.5h": 25*time.Hour + 30*time.Minute,
		"1.5d": 36 * time.Hour, ".5h": 30 * time.Minute, "0w3d": 3 * day, "1h250ms": time.Hour + 250*time.Millisecond,
		"1ms": time.Millisecond, "0.1s": 100 * time.Millisecond,
	} {
		if got, err := ParseExpiry(text); got != want || err != nil {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
	const syntax = "not a duration like 90s, 15m, 2h30m or 1d"
	for text, want := range map[string]string{
		"": "required", " ": "required", "15": syntax, "0": syntax, "m": syntax, "d": syntax, "-1d": syntax, "+1d": syntax,
		"1d-2h": syntax, "1h1d": syntax, "1d1d": syntax, "-5m": syntax, "1week": syntax, "1d 2h": syntax, "1e3s": syntax,
		"1,5h": syntax, "1.h": syntax, "1.2.3h": syntax, "Infh": syntax, "5us": syntax,
		"0s": "must be more than 0", "0d": "must be more than 0", "0.0000001ms": "must be more than 0",
		"7d1s": "at most 7d", "1w1ms": "at most 7d", "99999999999h": "at most 7d", "99999d": "at most 7d",
	} {
		if got, err := ParseExpiry(text); err == nil || err.Error() != want {
			t.Errorf("%q: got %v, %v; want %q", text, got, err, want)
		}
	}
}

// FuzzParseExpiry: what it accepts is a valid duration of an order, and equals Go's reading if Go can read it.
func FuzzParseExpiry(f *testing.F) {
	for _, text := range []string{"", "15m", "1d1.5h", "1w", "7d1ns", "99999999999999999999h", "1.5.5h", "-1s", "0.3ms", "\x00"} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseExpiry(text)
		if err != nil {
			if got != 0 || err.Error() == "" {
				t.Errorf("%q: got %v with the error %q", text, got, err)
			}
			return
		}
		if got <= 0 || got > actuators.MaxOrder {
			t.Errorf("%q: got %v", text, got)
		}
		if want, err := time.ParseDuration(text); err == nil && (got-want).Abs() > 10*time.Nanosecond {
			t.Errorf("%q: got %v, Go reads %v", text, got, want)
		}
		if whole := got.Truncate(time.Millisecond); whole > 0 {
			if again, err := ParseExpiry(whole.String()); again != whole || err != nil {
				t.Errorf("%q: %v is read as %v, %v", text, whole, again, err)
			}
		}
	})
}
