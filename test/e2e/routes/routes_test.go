package routes

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/e2e/internal/world"
)

// The service, and what it is asked for: in calm, its requests need 11.2 of its 32 workers and its exports 8. Eight times the
// exports need 64.
const (
	workers     = 32
	mean        = 40 * time.Millisecond // of a request
	exportTimes = 25.0                  // as long, so 1 s

	requestRate  = 280.0 // a second
	exportRate   = 8.0
	exportFactor = 8.0

	exportSLO = 10 * time.Second
)

// The instances: with a route of its own for exports, the same without, and one of an older version, which has no routes, as
// during a rollout. Nobody calls or scrapes the last one.
const (
	divided   = "checkout"
	undivided = "basket"
	old       = "checkout-old"

	export = divided + "/export"
)

// Bars of the test; what it measures is in its log.
const (
	calmBar     = 0.97 // of what is offered in calm, within its SLO
	tightBar    = 0.85 // of the requests, in the overload
	contrastBar = 0.5  // what the requests lose in the overload, as a share of what they lose without a route for exports
	slackBar    = 0.7  // of the exports that the workers could serve beside all requests
)

// clients are the load generators of an instance.
type clients struct{ requests, exports *load.Generator }

// start calls an instance, at the same instants as every other one.
func start(t *testing.T, w *world.World, name string) clients {
	t.Helper()
	generator := func(path string, seed uint64, slo time.Duration, rate float64) *load.Generator {
		g, err := load.Start(t.Context(), load.Config{
			URL: w.URL(name) + path, Seed: seed, SLO: slo, Timeout: max(world.ClientTimeout, slo),
		}, rate)
		if err != nil {
			t.Fatal(err)
		}
		w.Load[name+"/"+path] = g
		return g
	}
	return clients{generator("", 1, world.SLO, requestRate), generator("export", 2, exportSLO, exportRate)}
}

func goodShare(s load.Summary) float64 { return float64(s.OK) / float64(max(s.Offered, 1)) }

// TestASlackRouteLeavesTheTightOneAlone: eight times as many exports as in calm, more than all workers can do. The requests
// keep their 300 ms, and the exports get what the requests leave. Governor has a loop for each, and says what binds.
func TestASlackRouteLeavesTheTightOneAlone(t *testing.T) {
	bin, err := world.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	logf := func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) }
	w, err := world.Open(t.Context(), t.ArtifactDir(), bin, logf)
	t.Cleanup(func() {
		w.Stop()
		if t.Failed() {
			w.Logs(func(name string, tail []byte) { t.Logf("--- the end of %s:\n%s", name, tail) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	plant := func(name, service string, args ...string) {
		if err := w.StartPlant(t.Context(), name, service, append([]string{
			"--guard=governed", fmt.Sprintf("--servers=%d", workers), "--mean=" + mean.String(), "--slo=" + world.SLO.String(),
			fmt.Sprintf("--min=%d", world.Min), fmt.Sprintf("--max=%d", world.Max), fmt.Sprintf("--export-times=%g", exportTimes),
		}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	plant(divided, divided, "--export-slo="+exportSLO.String())
	plant(undivided, undivided)
	bounds := fmt.Sprintf("concurrency: {min: %d, max: %d}", world.Min, world.Max)
	if err := w.StartPrometheus(t.Context(), logf, fmt.Sprintf(
		"  %s: {mode: enforce, slo: {latency: %s}, %s, routes: {export: {slo: {latency: %s}}}}\n"+
			"  %s: {mode: enforce, slo: {latency: %[2]s, objective: 95%%}, %[3]s}\n", // in calm, 2% are exports that are slower
		divided, world.SLO, bounds, exportSLO, undivided)); err != nil {
		t.Fatal(err)
	}
	plant(old, divided)
	governor, err := w.StartGovernor(t.Context(), "governor")
	if err != nil {
		t.Fatal(err)
	}
	calm := time.Now()
	with, without := start(t, w, divided), start(t, w, undivided)

	for _, loop := range []string{divided, export, undivided} { // exports take a while: a decision needs 100 requests
		waittest.Succeeds(t, time.Minute, loop+"'s loop runs", func() error {
			l, err := governor.Loop(t.Context(), loop)
			if err == nil && (l.Service != loop || l.Decision.State == "hold") {
				err = fmt.Errorf("%+v", l)
			}
			return err
		})
	}
	surge := time.Now()
	with.exports.SetRateAt(surge, exportFactor*exportRate)
	without.exports.SetRateAt(surge, exportFactor*exportRate)
	waittest.Pass(t, 3*world.DeadTime)
	from, to := measure(t, 15*time.Second, with.requests, without.requests)
	waittest.Succeeds(t, 5*time.Second, "each has a setting of its own, in force", func() error { return applied(t, w) })
	names(t, w, governor)
	refusals(t, w)
	with.exports.SetRate(exportRate)
	without.exports.SetRate(exportRate)
	waittest.Pass(t, 8*time.Second)
	after, end := measure(t, 10*time.Second, with.requests, without.requests)
	waittest.Pass(t, 3*time.Second) // the last requests of the stretch end, and nearly all exports

	for _, stretch := range []struct {
		name     string
		from, to time.Time
	}{{"calm", calm, surge}, {"overload", from, to}, {"calm again", after, end}} {
		for _, c := range []struct {
			name string
			clients
		}{{divided, with}, {undivided, without}} {
			requests, exports := c.requests.Between(stretch.from, stretch.to), c.exports.Between(stretch.from, stretch.to)
			t.Logf("%-10s %-8s requests %.3f  %s", stretch.name, c.name, goodShare(requests), requests)
			t.Logf("%-10s %-8s exports  %.3f  %s", stretch.name, c.name, goodShare(exports), exports)
			if c.name == divided && stretch.name != "overload" && min(goodShare(requests), goodShare(exports)) < calmBar {
				t.Errorf("%s: %.3f of the requests and %.3f of the exports served in time, want %v",
					stretch.name, goodShare(requests), goodShare(exports), calmBar)
			}
		}
	}
	got, undividedGot := goodShare(with.requests.Between(from, to)), goodShare(without.requests.Between(from, to))
	if got < tightBar || 1-got > contrastBar*(1-undividedGot) {
		t.Errorf("in the overload, %.3f of the requests are served in time, and %.3f without a route for exports; want %v, and at most %v of the loss",
			got, undividedGot, tightBar, contrastBar)
	}
	left := (workers/mean.Seconds() - requestRate) / exportTimes * to.Sub(from).Seconds()
	if got := float64(with.exports.Between(from, to).OK) / left; got < slackBar {
		t.Errorf("%.2f of the exports that fit beside the requests are served in time, want %v", got, slackBar)
	}
}

// measure lets a stretch of length d pass in which no load generator lagged.
func measure(t *testing.T, d time.Duration, generators ...*load.Generator) (from, to time.Time) {
	t.Helper()
	late := time.Duration(0)
	for range 3 {
		from, late = time.Now(), 0
		waittest.Pass(t, d)
		to = time.Now()
		for _, g := range generators {
			late = max(late, g.Between(from, to).Lateness)
		}
		if late <= load.MaxLateness {
			return from, to
		}
	}
	t.Fatalf("the load generator was %s late: this machine is too busy to measure on", late)
	return from, to
}

// applied returns nil if both Settings of the service are in force in its guard, the old one has only the first, and none has
// refused any.
func applied(t *testing.T, w *world.World) error {
	whole, err := w.Setting(t.Context(), divided)
	route, err2 := w.Setting(t.Context(), divided+"/routes/export")
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	if whole.Epoch != route.Epoch {
		return fmt.Errorf("epoch %d of the service, %d of its route", whole.Epoch, route.Epoch)
	}
	for _, want := range []struct {
		name, service string
		revision      uint64
	}{
		{divided, divided, whole.Revision},
		{divided, export, route.Revision},
		{old, divided, whole.Revision},
		{old, export, 0}, // it has no such series
	} {
		revision, err := w.Metric(t.Context(), want.name, "guard_setting_revision", "service="+want.service)
		refused, err2 := w.Metric(t.Context(), want.name, "guard_setting_refused_total")
		if err := errors.Join(err, err2); err != nil {
			return err
		}
		if revision != float64(want.revision) || refused > 0 {
			return fmt.Errorf("%s: the guard of %s has revision %v and refused %v Settings, want revision %d",
				want.name, want.service, revision, refused, want.revision)
		}
	}
	return nil
}

// names checks what people are shown in the overload: explain and govtop.
func names(t *testing.T, w *world.World, g *world.Governor) {
	t.Helper()
	explained, err := w.Operate(t.Context(), "explain", export+"/concurrency", "--connect=http://"+g.Address)
	said := strings.Join(strings.Fields(explained), " ") // without the line breaks
	for _, want := range []string{"by its share of the roof", "a larger share for it in the service's guard"} {
		if err != nil || !strings.Contains(said, want) {
			t.Errorf("%v: explained as\n%s\nwant it to say %s", err, explained, want)
		}
	}
	screen, err := w.Govtop(t.Context(), g, "--once").CombinedOutput()
	if err != nil || !strings.Contains(string(screen), export+"/concurrency") {
		t.Errorf("%v: the screen is\n%s\nwant it to show %s", err, screen, export)
	}
	t.Logf("%s\n%s", explained, screen)
}

// refusals checks that nothing but the roof and the share of it has refused exports, to speak of.
func refusals(t *testing.T, w *world.World) {
	t.Helper()
	refused := map[string]float64{}
	for _, reason := range []string{"share", "roof", ""} {
		labels := []string{"service=" + export}
		if reason != "" {
			labels = append(labels, "reason="+reason)
		}
		n, err := w.Metric(t.Context(), divided, "guard_refused_total", labels...)
		if err != nil {
			t.Fatal(err)
		}
		refused[reason] = n
	}
	t.Logf("refused exports: %v", refused)
	if above := refused["share"] + refused["roof"]; above < 0.9*refused[""] || above == 0 {
		t.Errorf("%v of %v refused exports are refused by the share or the roof", above, refused[""])
	}
}
