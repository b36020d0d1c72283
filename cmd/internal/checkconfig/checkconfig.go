// Package checkconfig is governor check-config: it says everything that is wrong with a configuration file, and for a
// valid one what governor makes of it, so that a person sees the derived numbers before a loop runs on them.
package checkconfig

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/control"
)

// Run checks the file and returns the exit code: 0 where the file is valid, with or without warnings, 1 where it is not
// or cannot be read. Problems and warnings go to stderr, one a line, what governor derives from the file to stdout.
func Run(stdout, stderr io.Writer, file string) int {
	c, warnings, err := configs.Load(file)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	for _, w := range warnings {
		fmt.Fprintf(stderr, "%s (warning)\n", w)
	}
	summary(stdout, c)
	return 0
}

func summary(w io.Writer, c *configs.Config) {
	fmt.Fprintf(w, "%s is valid: services %d, hash %s\n\n", c.File, len(c.Services), c.Hash)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	row := func(key, format string, args ...any) { fmt.Fprintf(t, "%s\t%s\n", key, fmt.Sprintf(format, args...)) }

	row("prometheus", "%s by %s, timeout the shorter of %s and 80%% of the period",
		c.Prometheus.URL, c.Prometheus.HTTPMethod, c.Prometheus.Timeout)
	client := c.Consul.ClientConfig()
	address := client.Address
	if !strings.Contains(address, "://") {
		address = client.Scheme + "://" + address
	}
	row("consul", "%s, keys %s…, session TTL %s, lease %s",
		withoutCredentials(address), c.Consul.Prefix, c.Consul.SessionTTL, c.Consul.Lease)

	for _, spec := range c.Specs() {
		fmt.Fprintf(t, "\n")
		row("service", "%s: %s, %s", spec.Service, spec.Mode, explain[spec.Mode])
		row("  slo", "%s of the requests within %s, at most %s fail",
			configs.Percent(spec.SLO.Objective), configs.Duration(spec.SLO.Latency), configs.Percent(spec.SLO.Errors))
		timing := spec.Timing
		row("  timing", "scrape %s, window %s, period %s, publish delay %s",
			configs.Duration(timing.Scrape), configs.Duration(timing.Window), configs.Duration(timing.Period),
			configs.Duration(timing.PublishDelay))
		row("  derived", "dead time θ %s, settle %s", timing.DeadTime(), timing.Settle())
		if k := spec.Concurrency; k != nil {
			row("  concurrency", "%g to %g in flight per instance, fallback %g, law %s", k.Min, k.Max, k.Fallback, k.Law)
		}
		tuning(row, spec)
		metrics := c.Services[spec.Service].Metrics
		row("  metrics", "preset %s%s", metrics.Preset, labels(metrics.Labels))
	}
}

var explain = map[control.Mode]string{
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
	row("  gates", "overloaded from %s occupancy or %s refused, cut from %s refused, "+
		"judged from %g requests a window, stale after %s",
		share(in.OverloadAt), share(in.RefusingAt), share(in.RefusedCut), in.MinRequests, configs.Duration(in.StaleAfter))
	row("  target", "weight of a period %.3g; a floor test stands for %s",
		in.TargetWeight, in.FloorTestHold.Round(time.Second))
}

// change writes a step in ln units as the relative change it is.
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

// withoutCredentials cuts what stands before an @: an address from the environment may carry a password.
func withoutCredentials(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	if _, host, ok := strings.Cut(rest, "@"); ok {
		rest = host
	}
	return scheme + "://" + rest
}
