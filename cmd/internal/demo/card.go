package demo

import (
	"fmt"
	"io"
	"strings"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
)

// write prints the scorecard for people.
func (r Result) write(out io.Writer) error {
	var b strings.Builder
	row := func(name string, of func(Score) string) {
		fmt.Fprintf(&b, "%-47s%11s%11s%11s\n", name, of(r.Static), of(r.Governed), of(r.Optimum))
	}
	percent := func(n control.Number) string {
		if !n.Known() {
			return "-"
		}
		return format.Percent(float64(n))
	}
	switch {
	case r.hand:
		fmt.Fprintf(&b, "\nThis run was driven by hand, for %.0f s.\n", r.DurationSeconds)
	case !r.Complete:
		fmt.Fprintf(&b, "\nThis run was cut short after %.0f s.\n", r.DurationSeconds)
	}
	fmt.Fprintf(&b, "\n%-47s%11s%11s%11s\n", "", "static", "governed", "optimum")
	fmt.Fprintf(&b, "%-47s%11d%11s%11d\n", "concurrency limit", r.StaticLimit, "governor's", r.OptimumLimit)
	row("requests offered", func(s Score) string { return fmt.Sprint(s.Offered) })
	row(fmt.Sprintf("good: answered within %d ms", SLO.Milliseconds()), func(s Score) string { return fmt.Sprint(s.Good) })
	row("good, as a share of what could be served", func(s Score) string { return percent(s.GoodputRatio) })
	row("the same, after the surge", func(s Score) string { return percent(s.AfterRatio) })
	row("critical requests answered in the surge", func(s Score) string { return percent(s.CriticalRatio) })
	row(fmt.Sprintf("  within %d ms", SLO.Milliseconds()), func(s Score) string { return percent(s.CriticalGoodRatio) })
	row("seconds above the SLO", func(s Score) string { return fmt.Sprint(s.SecondsAboveSLO) })
	row("99% of admitted requests within", func(s Score) string {
		if !s.P99Seconds.Known() {
			return "-"
		}
		return format.Latency(float64(s.P99Seconds))
	})
	fmt.Fprintf(&b, "The optimum is the best fixed limit, found in the simulator.\n")
	if !r.Valid {
		fmt.Fprintf(&b, "This machine was too busy for valid figures: requests were sent\n"+
			"up to %.0f ms late.\n", 1000*r.LatenessSeconds)
	}
	again := "To repeat"
	if !r.Complete {
		again = "The whole story"
	}
	fmt.Fprintf(&b, "%s: %s\n", again, r.again)
	_, err := io.WriteString(out, b.String())
	return err
}
