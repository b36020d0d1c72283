package configs

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"
)

// Duration is a span of time, written as in Prometheus: 300ms, 5s, 1m30s, 2h, 1d. A bare number is refused, because it
// may mean 400 ms or 400 s.
type Duration time.Duration

var bareNumber = regexp.MustCompile(`^[-+]?[0-9]*\.?[0-9]+$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	s := string(text)
	v, err := model.ParseDuration(s)
	switch {
	case bareNumber.MatchString(s):
		return fmt.Errorf("%s has no unit; expected a duration with one, like %[1]sms or %[1]ss", s)
	case err == nil:
		*d = Duration(v)
		return nil
	}
	// 1.5s is a duration in Go but not in Prometheus, so say how to write it.
	if v, err := time.ParseDuration(s); err == nil && v > 0 && v%time.Millisecond == 0 {
		return fmt.Errorf("%q has a fraction or units out of order; write %s", s, Duration(v))
	}
	return fmt.Errorf("%q; expected %s", s, d.Expected())
}

// Expected describes a valid Duration.
func (Duration) Expected() string { return "a duration with a unit, like 300ms, 5s or 1m" }

func (d Duration) String() string { return model.Duration(d).String() }

func (d Duration) std() time.Duration { return time.Duration(d) }

// Percent is a share, written with a percent sign: 99%, 0.1%. Its value is the fraction: 99% is 0.99. A number without
// the sign is refused, because 0.99 may mean 99% or 0.99%.
type Percent float64

var percentText = regexp.MustCompile(`^[0-9]+(\.[0-9]+)?%$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (p *Percent) UnmarshalText(text []byte) error {
	s := string(text)
	if percentText.MatchString(s) {
		// Shifting the decimal point in the text keeps 99.9% the float64 nearest to 0.999.
		v, err := strconv.ParseFloat(strings.TrimSuffix(s, "%")+"e-2", 64)
		*p = Percent(v)
		return err
	}
	v, err := strconv.ParseFloat(s, 64)
	switch {
	case err != nil || !bareNumber.MatchString(s) || v < 0:
		return fmt.Errorf("%q; expected %s", s, p.Expected())
	case v > 0 && v <= 1:
		return fmt.Errorf("%s has no percent sign; write %s for the fraction %s, or %s%%", s, Percent(v), s, s)
	}
	return fmt.Errorf("%s has no percent sign; write %s%%", s, s)
}

// Expected describes a valid Percent.
func (Percent) Expected() string { return "a percentage with its sign, like 99% or 0.1%" }

// String writes the percentage with as few digits as distinguish it from its neighbors.
func (p Percent) String() string {
	s := strconv.FormatFloat(float64(p), 'f', -1, 64)
	whole, fraction, _ := strings.Cut(s, ".")
	fraction += strings.Repeat("0", max(0, 2-len(fraction)))
	whole = strings.TrimLeft(whole+fraction[:2], "0")
	if whole == "" {
		whole = "0"
	}
	if fraction = strings.TrimRight(fraction[2:], "0"); fraction != "" {
		whole += "." + fraction
	}
	return whole + "%"
}

// PerSecond is a rate, written with its unit: 100/s, 0.5/s, 6000/m. Its value is in events per second. A bare number is
// refused, because it may mean 100 per second or 100 per minute.
type PerSecond float64

var rateText = regexp.MustCompile(`^([0-9]+(?:\.[0-9]+)?)/([sm])$`)

// UnmarshalText implements encoding.TextUnmarshaler.
func (r *PerSecond) UnmarshalText(text []byte) error {
	s := string(text)
	m := rateText.FindStringSubmatch(s)
	switch {
	case m == nil && bareNumber.MatchString(s) && s[0] != '-':
		return fmt.Errorf("%s has no unit; write %[1]s/s or %[1]s/m", s)
	case m == nil:
		return fmt.Errorf("%q; expected %s", s, r.Expected())
	}
	v, err := strconv.ParseFloat(m[1], 64)
	if err != nil {
		return fmt.Errorf("%q; expected %s", s, r.Expected())
	}
	if m[2] == "m" {
		v /= 60
	}
	*r = PerSecond(v)
	return nil
}

// Expected describes a valid PerSecond.
func (PerSecond) Expected() string { return "a rate with its unit, like 100/s or 6000/m" }

// String writes the rate per second, or per minute if it is below one per second and shorter that way.
func (r PerSecond) String() string {
	second := strconv.FormatFloat(float64(r), 'f', -1, 64)
	minute := strconv.FormatFloat(float64(r)*60, 'f', -1, 64)
	var back PerSecond
	if r < 1 && len(minute) < len(second) && back.UnmarshalText([]byte(minute+"/m")) == nil && back == r {
		return minute + "/m"
	}
	return second + "/s"
}
