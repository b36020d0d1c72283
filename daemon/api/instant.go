package api

import (
	"errors"
	"math"
	"strconv"
	"time"
)

// ParseInstant reads a point in time: an RFC 3339 time, a Unix time in seconds with or without a fraction, or a duration
// before now. A Unix time may be written as a template of an alert prints it, 1.7e+09.
func ParseInstant(text string, now time.Time) (time.Time, error) {
	if ago, err := time.ParseDuration(text); err == nil && ago >= 0 {
		return now.Add(-ago), nil
	}
	if unix, err := strconv.ParseFloat(text, 64); err == nil && unix > 0 && unix < 1e11 {
		seconds, fraction := math.Modf(unix)
		return time.Unix(int64(seconds), int64(fraction*1e9)).UTC(), nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return at, errors.New("expected a time like 2026-11-24T14:03:27Z, a Unix time in seconds like 1795529007, or a " +
			"duration before now like 5m")
	}
	return at, nil
}
