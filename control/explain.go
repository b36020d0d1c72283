package control

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// explain says the whole decision in one line of plain words.
func explain(d Decision, slo SLO) string {
	if d.State == Hold {
		s := "hold " + num(float64(d.Value)) + ": " + string(d.HoldReason)
		if d.Detail != "" {
			s += ", " + d.Detail
		}
		return s
	}
	from, value := float64(d.From), float64(d.Value)
	var b strings.Builder
	switch {
	case value < from:
		fmt.Fprintf(&b, "cut %s->%s: ", num(from), num(value))
	case value > from:
		fmt.Fprintf(&b, "raise %s->%s: ", num(from), num(value))
	default:
		fmt.Fprintf(&b, "keep %s: ", num(value))
	}
	relation := "<="
	if d.Measured > d.Setpoint {
		relation = ">"
	}
	fmt.Fprintf(&b, "mean %s %s setpoint %s", millis(d.Measured), relation, millis(d.Setpoint))
	if d.Gates.FloorTest == "halved" {
		b.WriteString("; floor test: limit cut on purpose to see whether throughput follows")
	} else if !d.Gates.Overloaded {
		fmt.Fprintf(&b, "; the limit does not bind (occupancy %s)", percent(d.Gates.Occupancy))
	} else {
		fmt.Fprintf(&b, "; Little %s/s x %s = %s", num(float64(d.Inputs.Throughput)), millis(d.Setpoint),
			num(float64(d.Inputs.Throughput*d.Setpoint)))
		fmt.Fprintf(&b, "; refused %s", percent(d.Inputs.RefusedShare))
	}
	if d.Terms.Event != "" {
		b.WriteString("; " + d.Terms.Event)
	}
	if d.Bound != "" {
		b.WriteString("; bound by " + d.Bound)
	}
	if d.HoldReason != "" {
		fmt.Fprintf(&b, "; %s (%s): may tighten only", d.HoldReason, d.Detail)
	}
	if d.Inputs.Censored {
		fmt.Fprintf(&b, "; p%s is censored (>= %s, top bucket)", num(100*slo.Objective), millis(d.Inputs.Quantile))
	}
	if d.State == Ineffective {
		fmt.Fprintf(&b, "; limiting cannot help: the service itself needs %s", millis(d.Gates.ServiceTimeSeconds))
	}
	if d.Gates.Infeasible {
		fmt.Fprintf(&b, "; SLO infeasible: own latency %s leaves no room below %s",
			millis(d.Gates.OwnLatencySeconds), millis(Number(slo.Latency.Seconds())))
	}
	if len(d.Inputs.Outliers) > 0 {
		b.WriteString("; outliers: " + strings.Join(d.Inputs.Outliers, ", "))
	}
	return b.String()
}

// num prints a quantity with at most three significant digits, and whole numbers whole.
func num(v float64) string {
	switch {
	case math.IsNaN(v):
		return "--"
	case math.Abs(v) >= 100 || v == math.Trunc(v):
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(v, 'g', 3, 64)
}

func millis(seconds Number) string {
	if math.IsNaN(float64(seconds)) {
		return "--"
	}
	return num(math.Round(float64(seconds)*1000)) + " ms"
}

func percent(share Number) string {
	if math.IsNaN(float64(share)) {
		return "--"
	}
	return num(math.Round(float64(share)*1000)/10) + " %"
}
