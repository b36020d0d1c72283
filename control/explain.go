package control

import (
	"fmt"
	"math"
	"strconv"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// explain says the whole decision in one line of plain words.
func explain(d Decision, slo SLO, order *Order) string {
	switch d.State {
	case Frozen, Override:
		return explainOrder(d, order.Expires)
	case Hold:
		return "hold " + num(float64(d.Value)) + ": " + whyHeld(d)
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
	switch d.Knob {
	case KnobShed:
		if math.IsNaN(float64(d.Measured)) {
			b.WriteString(d.Detail)
			break
		}
		fmt.Fprintf(&b, "%s of the protected requests refused, setpoint %s", percent(d.Measured), percent(d.Setpoint))
	case KnobRate:
		fmt.Fprintf(&b, "mean %s; ", against(d.Measured, d.Setpoint, millis))
		if d.Gates.Binds {
			b.WriteString("the rate binds")
		} else {
			b.WriteString("the rate does not bind")
		}
	default:
		explainConcurrency(&b, d)
		if value != from && d.Gates.FloorTest == FloorTestGuard {
			fmt.Fprintf(&b, "; the guards' own limit runs at %s", num(float64(d.Inputs.EffectiveLimit)))
		}
	}
	if d.Terms.Event != "" {
		b.WriteString("; " + d.Terms.Event)
		if d.Detail != "" && d.HoldReason == "" {
			b.WriteString(": " + d.Detail)
		}
	}
	if d.Bound != "" {
		b.WriteString("; bound by " + d.Bound)
	}
	if d.HoldReason != "" {
		fmt.Fprintf(&b, "; %s: may tighten only", whyHeld(d))
	}
	if d.Inputs.Censored {
		fmt.Fprintf(&b, "; p%s is censored (>= %s, top bucket)", num(100*slo.Objective), millis(d.Inputs.Quantile))
	}
	if d.Gates.BurnSteps > 0 && d.Knob != KnobShed {
		fmt.Fprintf(&b, "; setpoint tightened %d x 10 %%: the error budget burns fast", d.Gates.BurnSteps)
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

// whyHeld is the reason to hold with its detail, which may begin with the same word.
func whyHeld(d Decision) string {
	why := string(d.HoldReason)
	switch {
	case d.Detail == "":
		return why
	case strings.HasPrefix(d.Detail, why+" "), strings.HasPrefix(d.Detail, why+":"):
		return d.Detail
	}
	return why + ", " + d.Detail
}

func explainConcurrency(b *strings.Builder, d Decision) {
	if d.Terms.Event != EventHang {
		fmt.Fprintf(b, "mean %s", against(d.Measured, d.Setpoint, millis))
	}
	switch {
	case d.Terms.Event == EventHang:
		b.WriteString("nothing to steer by")
	case d.Gates.FloorTest == string(little.Halved):
		b.WriteString("; floor test: limit cut on purpose to see whether throughput follows")
	case !d.Gates.Binds:
		fmt.Fprintf(b, "; the limit does not bind (occupancy %s)", percent(d.Gates.Occupancy))
	default:
		x := float64(d.Inputs.Throughput)
		fmt.Fprintf(b, "; Little %s/s x %s = %s", num(x), millis(d.Setpoint), num(x*float64(d.Setpoint)))
		refused(b, d.Inputs)
	}
}

// refused tells the share that the concurrency limit refused, shedding included, and beside it the rate's, if any.
func refused(b *strings.Builder, in Inputs) {
	fmt.Fprintf(b, "; refused %s", percent(in.RefusedBy.Concurrency+in.RefusedBy.Shed))
	if in.RefusedBy.Rate > 0 {
		fmt.Fprintf(b, ", and %s by the rate", percent(in.RefusedBy.Rate))
	}
}

// against compares a measurement with its setpoint.
func against(measured, setpoint Number, print func(Number) string) string {
	relation := "<="
	if measured > setpoint {
		relation = ">"
	}
	return print(measured) + " " + relation + " setpoint " + print(setpoint)
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
