// Package checkconfig is governor check-config. It reports everything that is wrong with a configuration file. For a
// valid file it shows what governor derives, so that a person sees the numbers before a loop uses them.
package checkconfig

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/actuators/little"
	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/signals"
)

// Run checks the file and returns the exit code: 0 if the file is valid, with or without warnings, 1 if it is invalid
// or cannot be read. Problems and warnings go to stderr, one per line; what governor derives goes to stdout.
func Run(stdout, stderr io.Writer, file string) int {
	c, ok := load(stderr, file)
	if !ok {
		return 1
	}
	summary(stdout, c)
	return 0
}

func load(stderr io.Writer, file string) (*configs.Config, bool) {
	c, warnings, err := configs.Load(file)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return nil, false
	}
	for _, w := range warnings {
		fmt.Fprintf(stderr, "%s (warning)\n", w)
	}
	return c, true
}

// heading says that the file is valid.
func heading(w io.Writer, c *configs.Config) {
	routes := ""
	if n := len(c.Names()) - len(c.Services); n > 0 {
		routes = fmt.Sprintf(", routes %d", n)
	}
	fmt.Fprintf(w, "%s is valid: services %d%s, hash %s\n\n", c.File, len(c.Services), routes, c.Hash)
}

// kindOf says what has the name.
func kindOf(name string) string {
	if _, route := actuators.SplitCompartment(name); route != "" {
		return "route"
	}
	return "service"
}

func summary(w io.Writer, c *configs.Config) {
	heading(w, c)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(key, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }

	row("prometheus", "%s by %s, timeout the shorter of %s and 80%% of the period",
		c.Prometheus.URL, c.Prometheus.HTTPMethod, c.Prometheus.Timeout)
	row("consul", "%s, keys %s…, session TTL %s, lease %s",
		consulAddress(c), c.Consul.Prefix, c.Consul.SessionTTL, c.Consul.Lease)

	sensed := c.Signals() // in the same order
	for i, spec := range c.Specs() {
		fmt.Fprintf(t, "\n")
		row(kindOf(spec.Service), "%s: %s", spec.Service, modeText(spec.Mode, control.Mode(c.Compartment(spec.Service).Mode)))
		row("  slo", "%s of requests within %s, at most %s fail",
			configs.Percent(spec.SLO.Objective), configs.Duration(spec.SLO.Latency), configs.Percent(spec.SLO.Errors))
		timing := spec.Timing
		scrape := configs.Duration(timing.Scrape).String()
		if c.Learns(spec.Service) {
			scrape += " until it is learned from the data"
		}
		row("  timing", "scrape %s, window %s, period %s, publish delay %s",
			scrape, configs.Duration(timing.Window), configs.Duration(timing.Period),
			configs.Duration(timing.PublishDelay))
		row("  derived", "dead time θ %s, settle %s", timing.DeadTime(), timing.Settle())
		if k := spec.Concurrency; k != nil {
			row("  concurrency", "%g to %g in flight per instance, fallback %g, law %s", k.Min, k.Max, k.Fallback, k.Law)
		}
		if k := spec.Shed; k != nil {
			row("  shed", "protects %s: the classes below make room from %s to %s full, fallback %s",
				protected(k.Protect), share(k.Min), share(k.Max), share(k.Fallback))
			if limit := spec.Concurrency.Min; limit < control.SmallLimit {
				row("  reserve", "at the minimum of %g, %d to %d slots are kept from the least important; while all are taken, %s "+
					"is refused too", limit, control.Reserve(limit, k.Max), control.Reserve(limit, k.Min), protected(k.Protect))
			}
		}
		if k := spec.Rate; k != nil {
			fallback := configs.PerSecond(k.Fallback).String()
			if k.Fallback == k.Max {
				fallback = "off"
			}
			row("  rate", "%s to %s (off) for all instances together, fallback %s",
				configs.PerSecond(k.Min), configs.PerSecond(k.Max), fallback)
		}
		if k := spec.Retry; k != nil {
			row("  retry", "a constant %s per call to a dependency; people override it, with 0 to stop all retries", format.Ratio(k.Budget))
		}
		for _, k := range spec.Calls {
			bounds := "within the bounds of guard"
			if k.Min > 1 || k.Max < control.MostCalls {
				bounds = fmt.Sprintf("%g to %g in flight per instance", k.Min, k.Max)
			}
			row("  calls", "to %s, %s: target three times its own latency, at most %s", k.To, bounds,
				format.Latency(spec.Bounds(control.KnobCall(k.To)).Fallback))
		}
		tuning(row, spec)
		metrics(row, c.Compartment(spec.Service).Metrics, sensed[i].Queries)
	}
}

// modeText describes a mode, and says if it is not the configured one because the metrics do not allow that.
func modeText(mode, configured control.Mode) string {
	text := fmt.Sprintf("%s, %s", mode, modeWords[mode])
	if mode != configured {
		text += fmt.Sprintf(" (configured %s, capped: nothing shows whether a limit binds)", configured)
	}
	return text
}

// protected lists the classes down to the least important protected one.
func protected(least control.Criticality) string {
	var names []string
	for c := control.Critical; c <= least; c++ {
		names = append(names, c.String())
	}
	return strings.Join(names, ", ")
}

// metrics shows where the signals come from.
func metrics(row func(key, format string, args ...any), m configs.Metrics, queries map[signals.Signal]string) {
	row("  metrics", "preset %s%s", m.Preset, labels(m.Labels))
	show := func(key, text string) {
		if text != "" {
			row("    "+key, "%s", oneLine(text))
		}
	}
	show("instances", m.InstanceLabel)
	if h := m.Histogram; h != nil {
		unit := ""
		if h.Unit != "" {
			unit = " in " + h.Unit
		}
		show("histogram", h.Metric+unit)
		show("selector", h.Selector)
		show("admitted", h.Admitted)
		show("refused", h.Refused)
		show("failed", h.Failed)
		show("inflight", h.InFlight)
	}
	for _, signal := range signals.Signals() {
		show("query "+string(signal), queries[signal])
	}
}

func consulAddress(c *configs.Config) string {
	client := c.Consul.ClientConfig()
	address, err := consul.ParseAddress(client.Address)
	switch text := address.String(); {
	case err != nil:
		return err.Error()
	case !strings.Contains(text, "://"):
		return client.Scheme + "://" + text
	default:
		return text
	}
}

var modeWords = map[control.Mode]string{
	control.Observe: "reads the signals, decides nothing",
	control.Shadow:  "decides and shows what it would do, publishes nothing",
	control.Enforce: "decides and publishes",
}

// tuning shows the gains and gates in force, whether set or derived.
func tuning(row func(key, format string, args ...any), spec control.Spec) {
	in := spec.Tuning.WithDefaults(spec.Timing)
	row("  gains", "integral %g, proportional %g, derivative %g", in.Gain, *in.ProportionalGain, *in.DerivativeGain)
	row("  steps", "per period at most %s down and %s up, at least %s; aimd adds %s",
		change(-in.CutMax), change(in.RaiseMax), change(in.Deadband), share(in.AIMDIncrease))
	row("  gates", "a limit binds from %s occupancy or %s refused, cut from %s refused, "+
		"judged from %g requests a window, stale after %s",
		share(little.BindingAt), share(in.RefusingAt), share(in.RefusedCut), in.MinRequests, configs.Duration(in.StaleAfter))
	row("  target", "weight of a period %.3g; a floor test is valid for %s",
		in.TargetWeight, in.FloorTestHold.Round(time.Second))
}

// change formats a step in ln units as a relative change.
func change(ln float64) string { return fmt.Sprintf("%+.0f%%", 100*math.Expm1(ln)) }

func share(x float64) string { return configs.Percent(x).String() }

func labels(m map[string]string) string {
	var pairs []string
	for k, v := range m {
		pairs = append(pairs, fmt.Sprintf("%s=%q", k, v))
	}
	slices.Sort(pairs)
	if len(pairs) == 0 {
		return ""
	}
	return ", " + strings.Join(pairs, ", ")
}
