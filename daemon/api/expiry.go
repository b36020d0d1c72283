package api

import (
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

// expiryUnits are the units of an expiry, in the order in which they may follow each other.
var expiryUnits = [...]time.Duration{
	7 * 24 * time.Hour, 24 * time.Hour, time.Hour, time.Minute, time.Second, time.Millisecond,
}

var expirySyntax = func() *regexp.Regexp {
	const number = `(\d*\.?\d+)`
	var terms strings.Builder
	for _, unit := range []string{"w", "d", "h", "m", "s", "ms"} {
		terms.WriteString("(?:" + number + unit + ")?")
	}
	return regexp.MustCompile("^" + terms.String() + "$")
}()

// ParseExpiry reads the duration of an order, as people type it at the command line and in govtop:
//
//	expiry = term { term }, larger units before smaller ones, each at most once
//	term   = number unit
//	number = digits, with or without a decimal fraction
//	unit   = "w" | "d" | "h" | "m" | "s" | "ms", where a day has 24 hours
//
// So 90s, 2h30m, 1d1.5h and 1w are valid. An expiry is more than 0 and at most actuators.MaxOrder. Surrounding space is
// ignored.
func ParseExpiry(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, errors.New("required")
	}
	numbers := expirySyntax.FindStringSubmatch(text)
	if numbers == nil {
		return 0, errors.New("not a duration like 90s, 15m, 2h30m or 1d")
	}
	lasts := 0.0 // nanoseconds; up to MaxOrder they are exact in a float64
	for i, unit := range expiryUnits {
		if number := numbers[1+i]; number != "" {
			n, _ := strconv.ParseFloat(number, 64) // +Inf if it is out of range
			lasts += n * float64(unit)
		}
	}
	switch lasts = math.Round(lasts); {
	case lasts <= 0:
		return 0, errors.New("must be more than 0")
	case lasts > float64(actuators.MaxOrder):
		return 0, errors.New("at most 7d")
	}
	return time.Duration(lasts), nil
}
