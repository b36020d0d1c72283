// Package format writes numbers, spans and instants the way governor shows them everywhere: in a decision's sentence,
// in explain, in govtop and in the demo. A quantity has at most three significant digits and, below 1e15, no exponent,
// because a person on call compares quantities at a glance. An unknown quantity reads as a word, never as zero.
//
//	148 ms   1.23 s   9.1%   < 0.01%   644/s   p99.9   12 min   14:03:27 UTC   unknown
//
// The functions are pure, and safe for concurrent use.
package format

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Unknown is written in place of a missing number.
const Unknown = "unknown"

// Number writes a quantity with at most three significant digits; above 99.95 it writes a whole number.
func Number(v float64) string {
	switch abs := math.Abs(v); {
	case math.IsNaN(v) || math.IsInf(v, 0):
		return Unknown
	case abs >= 1e15: // nothing that governor measures: only that it is huge matters
		return strconv.FormatFloat(v, 'g', 3, 64)
	case abs >= 99.95 || v == math.Trunc(v):
		return decimal(v, 0)
	default:
		return decimal(v, min(max(2-int(math.Floor(math.Log10(abs)+log10Of9995)), 0), 6))
	}
}

// Count writes a number of requests, rounded to a whole one.
func Count(v float64) string { return Number(math.RoundToEven(v)) }

// log10Of9995 makes 9.996, which reads as 10.0, count as having two digits before the point.
var log10Of9995 = math.Log10(10 / 9.995)

// decimal writes v with at most that many digits after the point, without trailing zeros or a negative zero.
func decimal(v float64, digits int) string {
	text := strconv.FormatFloat(v, 'f', digits, 64)
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	if text == "-0" {
		return "0"
	}
	return text
}

// Latency writes seconds: 0.4 ms, 148 ms, 1.23 s, 123 s.
func Latency(seconds float64) string {
	switch {
	case math.IsNaN(seconds) || math.IsInf(seconds, 0):
		return Unknown
	case math.Abs(seconds) < 0.9995:
		return Number(math.Round(seconds*1e5)/100) + " ms"
	}
	return Number(seconds) + " s"
}

// Percent writes a ratio: 0%, 0.04%, 9.1%, 31%. A ratio other than zero never reads as zero.
func Percent(ratio float64) string {
	switch {
	case math.IsNaN(ratio) || math.IsInf(ratio, 0):
		return Unknown
	case ratio > 0 && ratio < 0.00005:
		return "< 0.01%"
	}
	return Number(math.Round(ratio*1e4)/100) + "%"
}

// Rate writes a number of requests per second: 644/s.
func Rate(perSecond float64) string {
	if text := Number(perSecond); text != Unknown {
		return text + "/s"
	}
	return Unknown
}

// Ratio writes a number between 0 and 1 that is not a share of anything counted, like a shed threshold, with two
// digits.
func Ratio(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Unknown
	}
	if math.Abs(v) >= 1000 {
		return Number(v)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// Signed writes a controller's term: +0.13, -1.07, 0.00.
func Signed(v float64) string {
	if math.IsNaN(v) || math.IsInf(v, 0) {
		return Unknown
	}
	if math.Abs(v) >= 1e15 {
		return fmt.Sprintf("%+.3g", v)
	}
	text := fmt.Sprintf("%+.2f", v)
	if text == "-0.00" || text == "+0.00" {
		return "0.00"
	}
	return text
}

// Quantile names the quantile of an objective with all its digits: p99.95 is not p100.
func Quantile(objective float64) string {
	return "p" + strconv.FormatFloat(math.Round(objective*1e8)/1e6, 'f', -1, 64)
}

// Span writes a duration in its largest fitting unit, short ones to a tenth of a second: 3.2 s, 90 s, 12 min, 5 h.
func Span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return decimal(math.Round(10*d.Seconds())/10, 1) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// Age writes how long ago something was, in one unit and rounded down, for a column: 36s, 12m, 5h, 3d.
func Age(d time.Duration) string {
	switch d = max(d, 0); {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	}
	return fmt.Sprintf("%dd", int(d.Hours()/24))
}

// Clock writes an instant in UTC, with its date if it is more than twelve hours before or after now.
func Clock(at, now time.Time) string {
	if now.Sub(at).Abs() > 12*time.Hour {
		return Instant(at)
	}
	return TimeOfDay(at) + " UTC"
}

// TimeOfDay writes an instant in UTC without the suffix UTC, for screens that say it elsewhere.
func TimeOfDay(at time.Time) string { return at.UTC().Format(time.TimeOnly) }

// Instant writes an instant in UTC with its date.
func Instant(at time.Time) string { return at.UTC().Format("2006-01-02 15:04:05 UTC") }

// Column shortens a text of this package for a table: 148ms, <0.01%, and -- for unknown.
func Column(text string) string {
	if text == Unknown {
		return "--"
	}
	return strings.ReplaceAll(text, " ", "")
}
