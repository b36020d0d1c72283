package e2e

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/e2e/internal/world"
)

const (
	calm     = 0.5 * world.Capacity
	overload = 3 * world.Capacity
	seed     = 1

	settle = world.Window + world.Scrape + time.Second // until a measurement shows nothing but the time after a change
)

// story is a world and the state that the phases of the test share.
type story struct {
	*world.World
	t     *testing.T
	first *world.Governor // leads until it is killed
	tape  *tape
}

// TestTheLoopCloses tells one story in one world: overload, then the same with each part of the loop lost in turn, then
// the recovery. A phase that fails ends the test, because the next one starts where it should have ended.
func TestTheLoopCloses(t *testing.T) {
	bin, err := world.Build(t.Context(), t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.ArtifactDir()
	w, err := world.Start(t.Context(), dir, bin, func(f string, a ...any) { fmt.Fprintf(os.Stderr, f+"\n", a...) })
	t.Cleanup(func() {
		w.Stop()
		if t.Failed() {
			t.Logf("logs and data: %s (kept by go test -artifacts)", dir)
			w.Logs(func(name string, tail []byte) { t.Logf("--- the end of %s:\n%s", name, tail) })
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &story{World: w, t: t, tape: record(t, w)}
	t.Cleanup(s.tape.stop)
	for _, phase := range []struct {
		name string
		run  func(*story, *testing.T)
	}{
		{"calm: settings are published and applied, nothing is refused", (*story).calm},
		{"three times the capacity: the SLO comes back for the governed, not for the twin", (*story).overload},
		{"capacity halves and comes back: the outer loop alone follows down and up", (*story).capacity},
		{"a person at govtop: freeze, in the KV and in the audit; resume", (*story).stepIn},
		{"a person at a shell: override, explain, resume", (*story).override},
		{"retries stopped and allowed again: in the guard after one publish", (*story).stopRetries},
		{"Prometheus killed: hold, with the reason", (*story).prometheusLost},
		{"Consul killed and back: one write, no wind-up", (*story).consulLost},
		{"two governors: one writer; the leader killed: a bumpless takeover", (*story).leaderLost},
		{"load gone: nothing is refused", (*story).heal},
		{"SIGTERM: exit 0, the lock is free, the values stay, orders are taken", (*story).stop},
	} {
		if !t.Run(phase.name, func(t *testing.T) { phase.run(s, t) }) {
			t.FailNow()
		}
	}
}

func (s *story) calm(t *testing.T) {
	var err error
	if s.first, err = s.StartGovernor(s.t.Context(), "governor-1"); err != nil {
		t.Fatal(err)
	}
	if err := s.StartLoad(s.t.Context(), calm, seed); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	for _, service := range world.Governed {
		waittest.Succeeds(t, 30*time.Second, service+" has a setting that its guard applied", func() error {
			return s.applied(service)
		})
		waittest.Succeeds(t, 30*time.Second, service+"'s loop runs", func() error {
			l, err := s.first.Loop(t.Context(), service)
			if err == nil && l.Decision.State == "hold" {
				err = fmt.Errorf("hold: %s", l.Decision.Reason)
			}
			return err
		})
	}
	waittest.Pass(t, 10*time.Second)
	for _, service := range world.Services {
		sum := s.Load[service].Between(began, time.Now())
		t.Logf("%-8s %s", service, sum)
		if sum.Refused+sum.Failed > 0 {
			t.Errorf("%s refused %d and failed %d requests at half its capacity", service, sum.Refused, sum.Failed)
		}
	}
}

// applied reports whether the guard of service reports the published setting as in force.
func (s *story) applied(service string) error {
	published, err := s.Setting(s.t.Context(), service)
	if err != nil {
		return err
	}
	revision, err := s.Metric(s.t.Context(), service, "guard_setting_revision")
	if err == nil && revision != float64(published.Revision) {
		err = fmt.Errorf("published revision %d, applied %v", published.Revision, revision)
	}
	return err
}

func (s *story) overload(t *testing.T) {
	onset := time.Now()
	s.SetRate(overload)
	waittest.Pass(t, 4*world.DeadTime)
	for _, service := range world.Services {
		t.Logf("%-8s in the first 4θ: %s", service, s.Load[service].Between(onset, time.Now()))
	}
	total := map[string]load.Summary{}
	for _, stretch := range s.measure(t, 3, 10*time.Second) {
		for _, service := range world.Services {
			sum := stretch[service]
			t.Logf("%-8s %s", service, sum)
			total[service] = total[service].Add(sum)
			if service == world.Twin {
				continue
			}
			// "Stays there" for a stretch with n requests: for a service that just meets its objective, the bad ratio of a
			// stretch scatters by √(b(1−b)/n) around b. Two of these are no sign of a violation.
			b := 1 - world.Objective
			allowed := b + 2*math.Sqrt(b*(1-b)/float64(sum.Admitted()))
			if !(sum.BadRatio() <= allowed) {
				t.Errorf("%s: %.2f %% of the admitted requests were bad in one stretch, the objective is compatible with %.2f %%",
					service, 100*sum.BadRatio(), 100*allowed)
			}
		}
	}
	for _, service := range world.Governed {
		sum := total[service]
		t.Logf("%-8s in all: %s", service, sum)
		if !(sum.BadRatio() <= 1-world.Objective) {
			t.Errorf("%s: %.2f %% of the admitted requests were bad from 4θ on, the objective allows %.2f %%",
				service, 100*sum.BadRatio(), 100*(1-world.Objective))
		}
		if good := float64(sum.OK) / sum.Seconds(); good < 0.9*world.Capacity {
			t.Errorf("%s: %.0f good answers a second, want at least 90%% of the capacity of %.0f: "+
				"refusing everything is no way to meet an SLO", service, good, world.Capacity)
		}
	}
	if sum := total[world.Twin]; sum.BadRatio() < 0.5 {
		t.Errorf("the twin without governor does well (%s): then this load proves nothing", sum)
	}
	for _, service := range world.Governed {
		waittest.Succeeds(t, 5*time.Second, service+"'s guard applied what is published", func() error { return s.applied(service) })
		refused, err := s.Metric(t.Context(), service, "guard_setting_refused_total")
		if err != nil || refused > 0 {
			t.Errorf("%s's guard refused %v settings (%v)", service, refused, err)
		}
	}
	// The twin is no longer needed; free its share of the machine.
	s.Load[world.Twin].SetRate(0)
}

// capacity looks at the service without a reflex: governor alone moves its limit.
func (s *story) capacity(t *testing.T) {
	full := s.setting(t, world.Payments).Concurrency.Limit
	if err := s.SetMean(t.Context(), world.Payments, 2*world.Mean); err != nil {
		t.Fatal(err)
	}
	limit := func() int { return s.setting(t, world.Payments).Concurrency.Limit }
	waittest.Succeeds(t, 30*world.Period, "the limit follows down", func() error {
		if l := limit(); l > full*3/4 {
			return fmt.Errorf("limit %d, with full capacity %d", l, full)
		}
		return nil
	})
	low := limit()
	if err := s.SetMean(t.Context(), world.Payments, world.Mean); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	waittest.Succeeds(t, 30*world.Period, "the limit follows up", func() error {
		if l := limit(); l < full*9/10 {
			return fmt.Errorf("limit %d, before %d", l, full)
		}
		return nil
	})
	t.Logf("limit %d → %d → %d, back after %.1f s", full, low, limit(), time.Since(began).Seconds())
}

func (s *story) prometheusLost(t *testing.T) {
	s.Prometheus.Kill()
	killed := time.Now()
	held := map[string]world.Setting{}
	for _, service := range world.Governed {
		waittest.Succeeds(t, 10*world.Period, service+" holds", func() error { return s.holds(service) })
		held[service] = s.setting(t, service)
	}
	t.Logf("hold %.1f s after the kill", time.Since(killed).Seconds())
	for range 10 {
		waittest.Pass(t, time.Second)
		for _, service := range world.Governed {
			if err := s.holds(service); err != nil {
				t.Errorf("%s: %v", service, err)
			}
		}
	}
	for _, service := range world.Governed {
		if now := s.setting(t, service); now.ModifyIndex != held[service].ModifyIndex {
			t.Errorf("%s: the setting was written during the hold: %+v, before %+v", service, now, held[service])
		}
		t.Logf("%-8s meanwhile: %s", service, s.Load[service].Between(killed, time.Now()))
	}
	if err := s.Prometheus.RestartContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, service := range world.Governed {
		waittest.Succeeds(t, 30*time.Second, service+"'s loop runs again", func() error {
			if s.holds(service) == nil {
				return errors.New("still holding")
			}
			return nil
		})
	}
}

// holds returns nil if the loop of service holds because Prometheus cannot be queried, and says so.
func (s *story) holds(service string) error {
	l, err := s.first.Loop(s.t.Context(), service)
	if err != nil {
		return err
	}
	d := l.Decision
	if d.State != "hold" || d.HoldReason != "query_error" && d.HoldReason != "timeout" || d.Reason == "" {
		return fmt.Errorf("state %s, hold reason %q, reason %q: want a hold by query_error or timeout",
			d.State, d.HoldReason, d.Reason)
	}
	return nil
}

func (s *story) consulLost(t *testing.T) {
	before := map[string]world.Setting{}
	for _, service := range world.Governed {
		before[service] = s.setting(t, service)
	}
	s.Consul.Kill()
	killed := time.Now()
	for range 12 {
		waittest.Pass(t, time.Second)
		if _, err := s.first.Status(t.Context()); err != nil {
			t.Errorf("governor while Consul is down: %v", err)
		}
	}
	if err := s.Consul.RestartContext(t.Context()); err != nil {
		t.Fatal(err)
	}
	back := time.Now()
	for _, service := range world.Governed {
		waittest.Succeeds(t, 45*time.Second, service+" is written again", func() error {
			now, err := s.Setting(t.Context(), service)
			if err == nil && now.Revision == before[service].Revision {
				err = fmt.Errorf("revision %d as before", now.Revision)
			}
			return err
		})
		t.Logf("%-8s written %.1f s after Consul came back", service, time.Since(back).Seconds())
	}
	waittest.Pass(t, settle)
	for _, service := range world.Governed {
		writes := s.tape.since(service, killed)
		if len(writes) == 0 {
			t.Fatalf("%s: no write on the tape", service)
		}
		first, old := writes[0], before[service]
		t.Logf("%-8s limit %d → %d, revision %d → %d, epoch %d → %d; meanwhile: %s", service, old.Concurrency.Limit,
			first.Concurrency.Limit, old.Revision, first.Revision, old.Epoch, first.Epoch,
			s.Load[service].Between(killed, time.Now()))
		// Twelve decisions fell into the outage. Queued writes would arrive with the first one; a later period may decide
		// something new.
		newest := first
		for _, w := range writes {
			if w.seen.Before(first.seen.Add(world.Period * 8 / 10)) {
				newest = w
			}
			// Twelve periods of a wound-up controller would add up to more than 1 in ln; the reflex's own noise, which
			// governor's limit follows, stays well below 0.4.
			if move := math.Abs(math.Log(float64(w.Concurrency.Limit) / float64(old.Concurrency.Limit))); move > 0.4 {
				t.Errorf("%s: the limit jumped from %d to %d within a settling time: %s", service, old.Concurrency.Limit,
					w.Concurrency.Limit, w.Reason)
			}
		}
		if n := newest.Revision - old.Revision; n != 1 {
			t.Errorf("%s: %d writes at Consul's return, want one: %+v", service, n, writes)
		}
	}
}

func (s *story) leaderLost(t *testing.T) {
	second, err := s.StartGovernor(s.t.Context(), "governor-2")
	if err != nil {
		t.Fatal(err)
	}
	waittest.Succeeds(t, 20*time.Second, "one leads, one stands by", func() error {
		a, errA := s.first.Status(t.Context())
		b, errB := second.Status(t.Context())
		if err := errors.Join(errA, errB); err != nil {
			return err
		}
		if a.Role != "leader" || b.Role != "standby" {
			return fmt.Errorf("%+v, %+v", a, b)
		}
		return nil
	})
	together := time.Now()
	epoch := s.setting(t, world.Checkout).Epoch
	start := map[string]uint64{}
	for _, service := range world.Governed {
		start[service] = s.setting(t, service).Revision
	}
	cursor := s.cursor(t, s.first)
	// A capacity that halves and comes back, so that there is something to write.
	for _, mean := range []time.Duration{2 * world.Mean, world.Mean} {
		if err := s.SetMean(t.Context(), world.Payments, mean); err != nil {
			t.Fatal(err)
		}
		waittest.Pass(t, 10*time.Second)
	}
	wrote := s.writes(t, s.first, cursor)
	for _, service := range world.Governed {
		written := int(s.setting(t, service).Revision - start[service])
		t.Logf("%-8s written %d times with two governors", service, written)
		// A write may happen between the reads of the journal and of the setting.
		if diff := written - wrote[service]; diff < -1 || diff > 1 {
			t.Errorf("%s: %d writes, the leader's journal knows of %d", service, written, wrote[service])
		}
		for _, w := range s.tape.since(service, together) {
			if w.Epoch != epoch {
				t.Errorf("%s: written in epoch %d while the leader's is %d", service, w.Epoch, epoch)
			}
		}
	}
	if n := wrote[world.Payments]; n < 2 {
		t.Errorf("%s: %d writes while its capacity halved and came back: too few to show who writes", world.Payments, n)
	}
	for service, n := range s.writes(t, second, 0) {
		t.Errorf("the standby wrote %s %d times", service, n)
	}

	s.first.Kill()
	killed := time.Now()
	before := map[string]world.Setting{}
	for _, service := range world.Governed {
		before[service] = s.setting(t, service)
	}
	for _, service := range world.Governed {
		waittest.Succeeds(t, 25*time.Second-time.Since(killed), service+" is written by the second governor", func() error {
			now, err := s.Setting(t.Context(), service)
			if err == nil && now.Epoch <= before[service].Epoch {
				err = fmt.Errorf("epoch %d", now.Epoch)
			}
			return err
		})
		waittest.Pass(t, 2*tapeEvery)
		writes := s.tape.since(service, killed)
		first, old := writes[0], before[service]
		t.Logf("%-8s taken over after %.1f s: limit %d → %d, epoch %d → %d", service, first.seen.Sub(killed).Seconds(),
			old.Concurrency.Limit, first.Concurrency.Limit, old.Epoch, first.Epoch)
		if move := math.Abs(float64(first.Concurrency.Limit)/float64(old.Concurrency.Limit) - 1); move > 0.02 {
			t.Errorf("%s: the takeover moved the limit from %d to %d", service, old.Concurrency.Limit, first.Concurrency.Limit)
		}
	}
	s.first = second
}

func (s *story) heal(t *testing.T) {
	s.SetRate(calm)
	waittest.Pass(t, 20*world.Period)
	for _, stretch := range s.measure(t, 1, 10*time.Second) {
		for _, service := range world.Governed {
			sum := stretch[service]
			t.Logf("%-8s %s", service, sum)
			if sum.Refused+sum.Failed+sum.TimedOut > 0 {
				t.Errorf("%s: %d refused, %d failed, %d timed out though the load has gone",
					service, sum.Refused, sum.Failed, sum.TimedOut)
			}
		}
	}
}

func (s *story) stop(t *testing.T) {
	before := map[string]world.Setting{}
	for _, service := range world.Governed {
		before[service] = s.setting(t, service)
	}
	if code := s.first.Stop(); code != 0 {
		t.Errorf("governor exits %d after SIGTERM, want 0", code)
	}
	if holder, err := s.LockHolder(t.Context()); err != nil || holder != "" {
		t.Errorf("the leader's lock is held by session %q (%v) after a clean stop", holder, err)
	}
	for _, service := range world.Governed {
		now, err := s.Setting(t.Context(), service)
		if err != nil || now.Concurrency.Limit != before[service].Concurrency.Limit {
			t.Errorf("%s: %+v (%v) after the stop, before it %+v", service, now.Concurrency, err, before[service].Concurrency)
		}
	}
	out, err := s.Operate(t.Context(), "freeze", world.Checkout+"/concurrency", "--reason=nobody is there to obey")
	if want := "recorded, not enforced until a leader runs"; err != nil || !strings.Contains(out, want) {
		t.Errorf("an order without a governor: %v: %s\nwant it to say %s", err, out, want)
	}
}

// measure waits for n stretches of length d in which no load generator lagged, and returns what the clients saw.
func (s *story) measure(t *testing.T, n int, d time.Duration) (stretches []map[string]load.Summary) {
	t.Helper()
	for range 3 * n {
		from := time.Now()
		waittest.Pass(t, d)
		to := time.Now()
		waittest.Pass(t, world.ClientTimeout) // the last requests of the stretch end
		stretch, lateness := map[string]load.Summary{}, time.Duration(0)
		for service, g := range s.Load {
			stretch[service] = g.Between(from, to)
			lateness = max(lateness, stretch[service].Lateness)
		}
		if lateness > load.MaxLateness {
			t.Logf("the load generator was %s late: measuring this stretch again", lateness)
			continue
		}
		if stretches = append(stretches, stretch); len(stretches) == n {
			return stretches
		}
	}
	t.Fatalf("the load generator lagged in all but %d of %d stretches: this machine is too busy to measure on",
		len(stretches), 3*n)
	return nil
}

func (s *story) setting(t *testing.T, service string) world.Setting {
	t.Helper()
	setting, err := s.Setting(t.Context(), service)
	if err != nil {
		t.Fatal(err)
	}
	return setting
}

// cursor returns the sequence number of the newest journal entry.
func (s *story) cursor(t *testing.T, g *world.Governor) uint64 {
	t.Helper()
	records, err := g.Decisions(t.Context(), 0)
	if err != nil || len(records) == 0 {
		t.Fatalf("%s has %d decisions (%v)", g.Name, len(records), err)
	}
	return records[len(records)-1].Seq
}

// writes counts by service the writes in the journal of g after the entry since. One write carries all knobs, and each
// knob has its own entry.
func (s *story) writes(t *testing.T, g *world.Governor, since uint64) map[string]int {
	t.Helper()
	records, err := g.Decisions(t.Context(), since)
	if err != nil {
		t.Fatal(err)
	}
	n := map[string]int{}
	for _, r := range records {
		if r.Wrote && r.Decision.Knob == "concurrency" {
			n[r.Decision.Service]++
		}
	}
	return n
}

// tapeEvery is the interval of the tape. Writes in between show as gaps in the revisions.
const tapeEvery = 50 * time.Millisecond

// taped is a setting and when it was first seen.
type taped struct {
	world.Setting
	seen time.Time
}

// tape records every setting that appears in Consul.
type tape struct {
	stop func()

	mu       sync.Mutex
	settings map[string][]taped
}

func record(t *testing.T, w *world.World) *tape {
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	tp := &tape{stop: func() { cancel(); <-done }, settings: map[string][]taped{}}
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			for _, service := range world.Governed {
				if s, err := w.Setting(ctx, service); err == nil { // else nothing is there yet, or Consul is down
					tp.note(service, s)
				}
			}
			select {
			case <-ctx.Done():
			case <-time.After(tapeEvery):
			}
		}
	}()
	return tp
}

func (tp *tape) note(service string, s world.Setting) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	seen := tp.settings[service]
	if n := len(seen); n == 0 || seen[n-1].ModifyIndex != s.ModifyIndex {
		tp.settings[service] = append(seen, taped{s, time.Now()})
	}
}

// since returns the settings first seen after at.
func (tp *tape) since(service string, at time.Time) (after []taped) {
	tp.mu.Lock()
	defer tp.mu.Unlock()
	for _, s := range tp.settings[service] {
		if s.seen.After(at) {
			after = append(after, s)
		}
	}
	return after
}
