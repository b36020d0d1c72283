package api

import (
	"testing"
	"time"
)

func TestInstantsAsPeopleAndTemplatesWriteThem(t *testing.T) {
	now := time.Date(2026, time.November, 24, 14, 3, 27, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"2026-11-24T14:03:27Z":      now,
		"2026-11-24T15:03:27+01:00": now,
		"2026-11-24T14:03:27.5Z":    now.Add(500 * time.Millisecond),
		"1795529007":                now,
		"1795529007.5":              now.Add(500 * time.Millisecond),
		"1.795529007e+09":           now,
		"5m":                        now.Add(-5 * time.Minute),
		"0s":                        now,
	} {
		if got, err := ParseInstant(text, now); err != nil || !got.Equal(want) {
			t.Errorf("%s: %v, %v, want %v", text, got, err, want)
		}
	}
	for _, text := range []string{
		"", "now", "-5m", "14:03:27", "2026-11-24", "NaN", "+Inf", "-1", "1795529007000", "1795529007s ",
	} {
		if got, err := ParseInstant(text, now); err == nil {
			t.Errorf("%q reads as %v", text, got)
		}
	}
}
