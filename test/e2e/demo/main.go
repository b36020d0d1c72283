// Demo tells the story of the end-to-end test at a glance, on real servers: three governed services and a twin that
// nobody governs, at three times their capacity, then with Prometheus lost, with the leading governor killed, and with
// the load gone. It prints one line a second and a scorecard at the end.
package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/alecthomas/kingpin/v2"

	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/e2e/internal/world"
)

func main() {
	app := kingpin.New("demo", "Overload governed services and a twin without governor, on a real Prometheus and Consul.")
	seed := app.Flag("seed", "Seed of the arrivals.").Default("1").Uint64()
	kingpin.MustParse(app.Parse(os.Args[1:]))

	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *seed); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

// demo is the world and what is printed about it.
type demo struct {
	*world.World
	lead  *world.Governor // whom to ask
	began time.Time
}

func run(ctx context.Context, seed uint64) (err error) {
	dir, err := os.MkdirTemp("", "governor-demo-")
	if err != nil {
		return err
	}
	defer func() {
		if err == nil || errors.Is(err, context.Canceled) {
			os.RemoveAll(dir)
			return
		}
		say("logs and data are kept in %s", dir)
	}()
	say("building governor and the services")
	bin, err := world.Build(ctx, dir)
	if err != nil {
		return err
	}
	say("starting Consul, Prometheus and four services; their logs are in %s until the end", dir)
	w, err := world.Start(ctx, dir, bin, say)
	defer w.Stop()
	if err != nil {
		return err
	}
	d := &demo{World: w}
	if d.lead, err = w.StartGovernor(ctx, "governor-1"); err != nil {
		return err
	}
	second, err := w.StartGovernor(ctx, "governor-2")
	if err != nil {
		return err
	}
	if err := w.StartLoad(ctx, world.Capacity/2, seed); err != nil {
		return err
	}
	d.began = time.Now()
	say("governors: http://%s (leads), http://%s (stands by); Prometheus: %s; Consul: %s/ui",
		d.lead.Address, second.Address, w.Prometheus.URL(), w.Consul.URL())
	say("every service has %d servers of %s: it can answer %.0f requests a second. SLO: %.0f %% within %s.",
		world.Servers, world.Mean, world.Capacity, 100*world.Objective, world.SLO)

	var onset, healed time.Time
	for _, phase := range []struct {
		title   string
		seconds int
		begin   func() error
	}{
		{"calm: half the capacity", 15, func() error { return nil }},
		{"three times the capacity: governed services refuse what they cannot carry, the twin drowns in what it accepted", 40,
			func() error { onset = time.Now(); w.SetRate(3 * world.Capacity); return nil }},
		{"Prometheus killed: governor holds, the last values stay", 12, func() error { w.Prometheus.Kill(); return nil }},
		{"Prometheus is back", 10, func() error { return w.Prometheus.RestartContext(ctx) }},
		{"the leading governor killed: nothing moves until the standby takes over", 26,
			func() error { d.lead.Kill(); d.lead = second; return nil }},
		{"the load has gone", 22, func() error { healed = time.Now(); w.SetRate(world.Capacity / 2); return nil }},
	} {
		say("\n── %s", phase.title)
		header()
		if err := phase.begin(); err != nil {
			return err
		}
		for range phase.seconds {
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(time.Second):
			}
			d.line(ctx)
		}
	}
	d.scorecard(onset, healed)
	return nil
}

// header names the columns of line.
func header() {
	const four, three = "%-26s│", "%-19s│"
	fmt.Printf("%5s │ "+four+" "+four+" "+four+" "+three+" governor on checkout\n", "",
		"checkout (guard)", "search (sidecar)", "payments (no reflex)", "twin (limit 400)")
	names := " good   bad refuse"
	fmt.Printf("%5s │ %s  limit │ %s  limit │ %s  limit │ %s │\n", "s", names, names, names, names)
}

// line prints the second before last: of the last one, requests are still in flight.
func (d *demo) line(ctx context.Context) {
	to := time.Now().Add(-world.ClientTimeout)
	fmt.Printf("%5.0f │", time.Since(d.began).Seconds())
	for _, service := range world.Services {
		s := d.Load[service].Between(to.Add(-time.Second), to)
		fmt.Printf(" %5d %5d %6d", s.OK, s.Slow+s.Failed+s.TimedOut, s.Refused)
		if service != world.Twin {
			limit := "-"
			if setting, err := d.Setting(ctx, service); err == nil {
				limit = fmt.Sprint(setting.Concurrency.Limit)
			}
			fmt.Printf(" %6s", limit)
		}
		fmt.Print(" │")
	}
	loop, err := d.lead.Loop(ctx, world.Checkout)
	if err != nil {
		fmt.Printf(" %v\n", err)
		return
	}
	fmt.Printf(" %s: %s\n", loop.Decision.State, loop.Decision.Reason)
}

// scorecard sums up the overload from the moment by which the loop should have settled.
func (d *demo) scorecard(onset, healed time.Time) {
	from, to := onset.Add(4*world.DeadTime), healed
	say("\n── from %.0f s after the onset (four dead times) to the end of the overload", (4 * world.DeadTime).Seconds())
	say("%-10s %14s %22s %12s", "", "good answers/s", "bad share of admitted", "p99")
	for _, service := range world.Services {
		s := d.Load[service].Between(from, to)
		verdict := "SLO met"
		if !(s.BadRatio() <= 1-world.Objective) {
			verdict = "SLO violated"
		}
		p99 := "-"
		if !math.IsNaN(s.P99Seconds) {
			p99 = fmt.Sprintf("%.0f ms", 1000*s.P99Seconds)
		}
		say("%-10s %14.0f %20.2f %% %12s   %s", service, float64(s.OK)/s.Seconds(), 100*s.BadRatio(), p99, verdict)
		if s.Lateness > load.MaxLateness {
			say("%-10s the load generator was up to %s late: this machine was too busy for the figures to count", "", s.Lateness)
		}
	}
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }
