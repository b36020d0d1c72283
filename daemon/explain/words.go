package explain

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// unknown stands where there is no number. It is never a zero.
const unknown = "unknown"

// num writes a quantity with at most three significant digits, whole ones whole.
func num(n control.Number) string {
	if !n.Known() {
		return unknown
	}
	v := float64(n)
	if abs := math.Abs(v); abs >= 100 || v == math.Trunc(v) {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return digits(v)
}

// digits writes three significant digits without an exponent.
func digits(v float64) string {
	after := 2 - int(math.Floor(math.Log10(math.Abs(v))))
	text := strconv.FormatFloat(v, 'f', min(max(after, 0), 6), 64)
	if strings.Contains(text, ".") {
		text = strings.TrimSuffix(strings.TrimRight(text, "0"), ".")
	}
	return text
}

func latency(seconds control.Number) string {
	switch {
	case !seconds.Known():
		return unknown
	case math.Abs(float64(seconds)) < 1:
		return num(control.Number(math.Round(float64(seconds)*1e4)/10)) + " ms"
	}
	return num(seconds) + " s"
}

func share(n control.Number) string {
	switch {
	case !n.Known():
		return unknown
	case n > 0 && n < 0.0001:
		return "< 0.01 %" // something is not nothing
	}
	return num(control.Number(math.Round(float64(n)*1e4)/100)) + " %"
}

func rate(n control.Number) string {
	if !n.Known() {
		return unknown
	}
	return num(n) + "/s"
}

// quantileOf names the quantile of an objective with all its digits: p99.95 is not p100.
func quantileOf(objective float64) string {
	return "p" + strconv.FormatFloat(math.Round(objective*1e8)/1e6, 'f', -1, 64)
}

// times writes a burn rate.
func times(n control.Number) string {
	if !n.Known() {
		return unknown
	}
	return num(control.Number(math.Round(float64(n)*100)/100)) + " × its budget"
}

// value writes a value of the loop's knob.
func (s Subject) value(n control.Number) string {
	switch {
	case !n.Known():
		return unknown
	case s.Loop.Knob == control.KnobRate:
		return rate(n)
	case s.Loop.Knob == control.KnobShed, s.Loop.Knob == control.KnobRetry:
		return strconv.FormatFloat(float64(n), 'f', 2, 64)
	}
	return num(n)
}

// setTo is value, with what it means at the end of its range.
func (s Subject) setTo(v float64) string {
	text := s.value(control.Number(v))
	switch {
	case s.Loop.Knob == control.KnobRate && v >= s.Loop.Max:
		text += " (off)"
	case s.Loop.Knob == control.KnobShed && v >= 1:
		text += " (never)"
	}
	return text
}

// amount is a value with what it counts.
func (s Subject) amount(n control.Number) string {
	text := s.setTo(float64(n))
	switch s.Loop.Unit {
	case api.Requests:
		text += " requests in flight per instance"
	case api.PerSecond:
		text += " for the whole service"
	case api.Occupancy:
		text += " of the limit, from where the least important are refused"
	}
	return text
}

// noun is what the value of the loop's knob is.
func (s Subject) noun() string {
	switch s.Loop.Knob {
	case control.KnobRate:
		return "rate"
	case control.KnobShed:
		return "threshold"
	case control.KnobRetry:
		return "budget"
	}
	return "limit"
}

func secondsOf(n control.Number) time.Duration {
	return time.Duration(float64(n) * float64(time.Second))
}

// span writes a duration in its largest fitting unit, and a short one to the tenth of a second.
func span(d time.Duration) string {
	switch d = max(d, 0); {
	case d < 10*time.Second:
		return num(control.Number(math.Round(d.Seconds()*10)/10)) + " s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%.0f s", d.Seconds())
	case d < 2*time.Hour:
		return fmt.Sprintf("%.0f min", d.Minutes())
	case d < 48*time.Hour:
		return fmt.Sprintf("%.0f h", d.Hours())
	}
	return fmt.Sprintf("%.0f days", d.Hours()/24)
}

// clock writes an instant, with its date where it is not within half a day of now.
func clock(at, now time.Time) string {
	if now.Sub(at).Abs() > 12*time.Hour {
		return at.UTC().Format("2006-01-02 15:04:05 UTC")
	}
	return at.UTC().Format("15:04:05 UTC")
}

// join joins what is not empty.
func join(separator, a, b string) string {
	if a == "" || b == "" {
		return a + b
	}
	return a + separator + b
}
