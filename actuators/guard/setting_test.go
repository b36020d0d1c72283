package guard

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

type concurrency = actuators.Concurrency

// setting is a good Setting of epoch 7; change may alter its values.
func setting(revision int, change func(*concurrency)) []byte {
	return settingOf(func(s *actuators.Setting) {
		s.Revision = uint64(revision)
		if change != nil {
			change(s.Concurrency)
		}
	})
}

// edited is a good Setting of revision 9 with its first occurrence of from replaced.
func edited(from, to string) []byte {
	raw := allKnobs(9)
	if !bytes.Contains(raw, []byte(from)) {
		panic(from + " is not in " + string(raw))
	}
	return bytes.Replace(raw, []byte(from), []byte(to), 1)
}

func settingOf(change func(*actuators.Setting)) []byte {
	s := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 7, Revision: 1, LeaseSeconds: 180, Reason: "test",
		Concurrency: &concurrency{Limit: 50, Ceiling: 100, LatencyTargetSeconds: 0.1, Fallback: 80, Min: 1, Max: 400},
	}
	change(&s)
	raw, err := s.Encode()
	if err != nil {
		panic(err)
	}
	return raw
}

// allKnobs is a good Setting of all three knobs.
func allKnobs(revision int) []byte {
	return settingOf(func(s *actuators.Setting) {
		s.Revision = uint64(revision)
		s.Rate = &actuators.Rate{PerSecond: 400, Burst: 100, Instances: 2, Fallback: 6400, Min: 100, Max: 9000}
		s.Shed = &actuators.Shed{Threshold: 0.5, Fallback: 0.75, Min: 0.4, Max: 1}
	})
}

func apply(t testing.TB, g *Guard, now time.Time, raw []byte) {
	t.Helper()
	if err := g.ApplyAt(now, raw); err != nil {
		t.Fatal(err)
	}
}

func limitAt(g *Guard, d time.Duration) int { return g.SnapshotAt(epoch.Add(d)).Limit }

func TestSettingTakesForceAtOnce(t *testing.T) {
	g := simGuard(t, Config{Fallback: 30})
	if got := limitAt(g, 0); got != 30 {
		t.Errorf("limit %d before any setting, expected the fallback", got)
	}
	apply(t, g, epoch, setting(3, nil))
	s := g.SnapshotAt(epoch)
	if s.Limit != 50 || s.Setpoint != 100*time.Millisecond || s.Revision != 3 || s.Epoch != 7 || !s.Leased {
		t.Errorf("limit %d, target %v, revision %d, epoch %d, leased %v",
			s.Limit, s.Setpoint, s.Revision, s.Epoch, s.Leased)
	}
}

// A22 (Google Cloud, 12 June 2025; Cloudflare, 18 November 2025; hashicorp/consul-template#1714): whatever arrives at
// the key, the guard does not panic and does not open up.
func TestBadSettingsChangeNothing(t *testing.T) {
	huge := append([]byte(`{"schema":1,"filler":"`), bytes.Repeat([]byte("x"), 300<<10)...)
	for _, c := range []struct {
		name   string
		raw    []byte
		reason actuators.RefusalReason
	}{
		{"blank", []byte{}, actuators.RefusedNotJSON},
		{"empty object", []byte(`{}`), actuators.RefusedInvalid},
		{"null knob", []byte(`{"schema":1,"concurrency":null}`), actuators.RefusedInvalid},
		{"null", []byte(`null`), actuators.RefusedNotJSON},
		{"not JSON", []byte("\x00\xff<html>"), actuators.RefusedNotJSON},
		{"300 kB", append(huge, `"}`...), actuators.RefusedTooLarge},
		{"a number left out", edited(`"ceiling":100,`, ""), actuators.RefusedInvalid},
		{"limit 0", edited(`"limit":50`, `"limit":0`), actuators.RefusedInvalid},
		{"shed null", []byte(`{"schema":1,"shed":null}`), actuators.RefusedInvalid},
		{"a number of shed left out", edited(`"threshold":0.5,`, ""), actuators.RefusedInvalid},
		{"a threshold above its maximum", edited(`"threshold":0.5`, `"threshold":1.5`), actuators.RefusedInvalid},
		{"a threshold of no number", edited(`"threshold":0.5`, `"threshold":"NaN"`), actuators.RefusedInvalid},
		{"a number of rate left out", edited(`"burst":100,`, ""), actuators.RefusedInvalid},
		{"no instances", edited(`"instances":2`, `"instances":0`), actuators.RefusedInvalid},
		{"no burst", edited(`"burst":100`, `"burst":0`), actuators.RefusedInvalid},
		// A8 (thanos-io/thanos#1326): 28 000 instead of 400.
		{"a rate above its maximum", edited(`"per_second":400`, `"per_second":28000`), actuators.RefusedInvalid},
		{"newer schema", edited(`"schema":1`, `"schema":2`), actuators.RefusedSchema},
		{"other service", edited("checkout", "payments"), actuators.RefusedWrongService},
		{"older epoch", edited(`"epoch":7`, `"epoch":6`), actuators.RefusedOldEpoch},
		{"older revision", setting(4, nil), actuators.RefusedOldRevision},
	} {
		t.Run(c.name, func(t *testing.T) {
			var log bytes.Buffer
			g := simGuard(t, Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
			apply(t, g, epoch, allKnobs(5))
			before := g.SnapshotAt(epoch)
			for i := range 100 {
				err := g.ApplyAt(epoch.Add(time.Duration(i)*time.Millisecond), c.raw)
				if actuators.ReasonOf(err) != c.reason {
					t.Fatalf("error %v, expected reason %s", err, c.reason)
				}
			}
			s := g.SnapshotAt(epoch.Add(time.Second))
			if s.Limit != before.Limit || s.Revision != 5 || s.Setpoint != before.Setpoint {
				t.Errorf("limit %d, revision %d, setpoint %v", s.Limit, s.Revision, s.Setpoint)
			}
			if s.ShedThreshold != 0.5 || s.RateLimit != 200 {
				t.Errorf("shed threshold %v, rate %v per second", s.ShedThreshold, s.RateLimit)
			}
			if s.SettingRefused[c.reason] != 100 {
				t.Errorf("%d refusals counted, expected 100", s.SettingRefused[c.reason])
			}
			if lines := strings.Count(log.String(), "\n"); lines != 1 {
				t.Errorf("%d log lines, expected 1", lines)
			}
		})
	}
}

func TestLease(t *testing.T) {
	const lease = 180 * time.Second
	t.Run("idle, it drifts to the fallback over one further lease", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(1, nil))
		for _, c := range []struct {
			at   time.Duration
			want int
		}{{lease - time.Second, 50}, {lease + lease/2, 63}, {2 * lease, 80}, {10 * lease, 80}} { // √(50·80) = 63
			if got := limitAt(g, c.at); got != c.want {
				t.Errorf("after %v: limit %d, expected %d", c.at, got, c.want)
			}
		}
	})
	t.Run("in trouble, it stays", func(t *testing.T) {
		g := simGuard(t, Config{NoReflex: true})
		apply(t, g, epoch, setting(1, nil))
		for d := time.Duration(0); d < 4*lease; d += time.Second { // one request a second, each ten targets long
			p, err := g.AcquireAt(epoch.Add(d), Default)
			if err != nil {
				t.Fatal(err)
			}
			p.ReleaseAt(epoch.Add(d+time.Second), Success)
		}
		if got := limitAt(g, 4*lease); got != 50 {
			t.Errorf("limit %d, expected the last good one", got)
		}
	})
	t.Run("hanging, it stays", func(t *testing.T) {
		g := simGuard(t, Config{NoReflex: true})
		apply(t, g, epoch, setting(1, nil))
		for range 50 {
			if _, err := g.AcquireAt(epoch.Add(time.Second), Default); err != nil {
				t.Fatal(err)
			}
		}
		for d := time.Duration(0); d < 4*lease; d += time.Second {
			g.SnapshotAt(epoch.Add(d))
		}
		if got := limitAt(g, 4*lease); got != 50 {
			t.Errorf("limit %d, expected the last good one", got)
		}
	})
	t.Run("a renewal extends it, the same bytes again do not", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(1, nil))
		apply(t, g, epoch.Add(lease/2), setting(1, nil))
		if s := g.SnapshotAt(epoch.Add(lease)); s.Leased {
			t.Error("reading the same Setting again has renewed the lease")
		}
		apply(t, g, epoch.Add(lease), setting(2, nil))
		if s := g.SnapshotAt(epoch.Add(2*lease - time.Second)); !s.Leased || s.Limit != 50 {
			t.Errorf("leased %v, limit %d after a renewal", s.Leased, s.Limit)
		}
	})
	t.Run("other content under the same revision is refused and counted", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(1, nil))
		other := setting(1, func(c *concurrency) { c.Limit = 60 })
		if err := g.ApplyAt(epoch.Add(time.Second), other); actuators.ReasonOf(err) != actuators.RefusedRewritten {
			t.Errorf("got %v, want it refused", err)
		}
		if s := g.SnapshotAt(epoch.Add(2 * time.Second)); s.Limit != 50 || s.SettingRefused[actuators.RefusedRewritten] != 1 {
			t.Errorf("limit %d, %d refused; want 50 and 1", s.Limit, s.SettingRefused[actuators.RefusedRewritten])
		}
	})
	t.Run("a deleted key changes nothing until the lease ends", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(1, nil))
		apply(t, g, epoch.Add(time.Second), nil)
		if got := limitAt(g, lease-time.Second); got != 50 {
			t.Errorf("limit %d, expected the last good one", got)
		}
		if got := limitAt(g, 2*lease); got != 80 {
			t.Errorf("limit %d, expected the fallback", got)
		}
	})
	t.Run("a wiped store may start again once the old authority is gone", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(40, nil))
		fresh := settingOf(func(s *actuators.Setting) { s.Epoch, s.Concurrency.Limit = 1, 60 })
		err := g.ApplyAt(epoch.Add(2*lease-time.Second), fresh)
		if actuators.ReasonOf(err) != actuators.RefusedOldEpoch {
			t.Errorf("within two leases: %v", err)
		}
		apply(t, g, epoch.Add(2*lease), fresh)
		if got := limitAt(g, 2*lease); got != 60 {
			t.Errorf("limit %d, expected 60", got)
		}
	})
	t.Run("the rate and the shed threshold drift like the limit", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, allKnobs(1))
		for _, c := range []struct {
			at         time.Duration
			rate, shed float64
		}{
			{lease - time.Second, 200, 0.5},
			{lease + lease/2, 800, 0.625}, // half of √(400·6400), half-way from 0.5 to 0.75
			{2 * lease, 3200, 0.75},
			{10 * lease, 3200, 0.75},
		} {
			s := g.SnapshotAt(epoch.Add(c.at))
			if math.Abs(s.RateLimit-c.rate) > 1e-6*c.rate || math.Abs(s.ShedThreshold-c.shed) > 1e-6 {
				t.Errorf("after %v: %v per second, threshold %v; expected %v, %v",
					c.at, s.RateLimit, s.ShedThreshold, c.rate, c.shed)
			}
		}
	})
	t.Run("they stay in trouble, too", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, allKnobs(1))
		if _, err := g.AcquireAt(epoch.Add(time.Second), Default); err != nil { // and never finishes
			t.Fatal(err)
		}
		for d := time.Duration(0); d < 4*lease; d += time.Second {
			g.SnapshotAt(epoch.Add(d))
		}
		if s := g.SnapshotAt(epoch.Add(4 * lease)); s.RateLimit != 200 || s.ShedThreshold != 0.5 {
			t.Errorf("%v per second, threshold %v; expected the last good ones", s.RateLimit, s.ShedThreshold)
		}
	})
	t.Run("a rate of zero drifts, too, and one at its maximum is off", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, settingOf(func(s *actuators.Setting) {
			s.Rate = &actuators.Rate{PerSecond: 0, Burst: 10, Instances: 1, Fallback: 1000, Min: 0, Max: 1000}
		}))
		for _, c := range []struct {
			at   time.Duration
			want float64
		}{{lease, 0}, {lease + lease/2, 500}, {2 * lease, math.Inf(1)}} {
			if s := g.SnapshotAt(epoch.Add(c.at)); s.RateLimit != c.want {
				t.Errorf("after %v: %v per second, expected %v", c.at, s.RateLimit, c.want)
			}
		}
	})
	t.Run("the ceiling lapses with it", func(t *testing.T) {
		g := simGuard(t, Config{})
		apply(t, g, epoch, setting(1, func(c *concurrency) { c.Ceiling = 60 }))
		if b := g.regime.bounds(lease - 1); b.ceiling != 60 {
			t.Errorf("ceiling %v while leased", b.ceiling)
		}
		if b := g.regime.bounds(lease); b.ceiling != 400 {
			t.Errorf("ceiling %v after the lease, expected the maximum", b.ceiling)
		}
	})
}

// The host's own bounds hold against any Setting.
func TestLocalBoundsWin(t *testing.T) {
	for _, c := range []struct{ min, max, want int }{
		{0, 0, 50}, {60, 0, 60}, {0, 40, 40}, {500, 900, 500}, {45, 55, 50},
	} {
		g := simGuard(t, Config{Min: c.min, Max: c.max})
		apply(t, g, epoch, setting(1, nil))
		if got := limitAt(g, 0); got != c.want {
			t.Errorf("bounds %d..%d: limit %d, expected %d", c.min, c.max, got, c.want)
		}
	}
}

// A knob that governor no longer steers keeps its last values until their own lease has run out.
func TestSettingWithoutAKnob(t *testing.T) {
	const lease = 180 * time.Second
	g := simGuard(t, Config{})
	apply(t, g, epoch, allKnobs(1))
	apply(t, g, epoch.Add(time.Minute), settingOf(func(s *actuators.Setting) { // without rate and shed
		s.Revision = 2
	}))
	s := g.SnapshotAt(epoch.Add(time.Minute))
	if s.Revision != 2 || s.Limit != 50 || s.RateLimit != 200 || s.ShedThreshold != 0.5 {
		t.Errorf("revision %d, limit %d, rate %v, threshold %v; expected the last good values",
			s.Revision, s.Limit, s.RateLimit, s.ShedThreshold)
	}
	apply(t, g, epoch.Add(2*time.Minute), settingOf(func(s *actuators.Setting) { // without concurrency
		s.Revision, s.LeaseSeconds, s.Concurrency = 3, 86400, nil
		s.Shed = &actuators.Shed{Threshold: 0.7, Fallback: 0.6, Min: 0.4, Max: 1}
	}))
	s = g.SnapshotAt(epoch.Add(2*time.Minute + 3*lease))
	if s.Limit != 80 || s.RateLimit != 3200 || s.ShedThreshold != 0.7 || !s.Leased {
		t.Errorf("later: limit %d, rate %v, threshold %v, leased %v; expected two fallbacks and what is still leased",
			s.Limit, s.RateLimit, s.ShedThreshold, s.Leased)
	}
}

// source plays a list of values and then ends or waits.
type source struct {
	values [][]byte
	err    error
	mu     sync.Mutex
	calls  []time.Time
}

func (s *source) Watch(ctx context.Context, service string, apply func([]byte)) error {
	s.mu.Lock()
	s.calls = append(s.calls, time.Now())
	s.mu.Unlock()
	for _, v := range s.values {
		apply(v)
	}
	if s.err != nil {
		return s.err
	}
	<-ctx.Done()
	return ctx.Err()
}

func TestRunCachesTheLastGoodSetting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "checkout.json")
		ctx, cancel := context.WithCancel(t.Context())
		g := newGuard(t, Config{CacheFile: file})
		done := make(chan error)
		go func() {
			done <- g.Run(ctx, &source{values: [][]byte{setting(1, nil), allKnobs(2), []byte(`{}`), nil}})
		}()
		synctest.Wait()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run returned %v at the end of its context", err)
		}
		again := newGuard(t, Config{CacheFile: file})
		s := again.Snapshot()
		if s.Revision != 2 || s.Limit != 50 || !s.Leased || s.RateLimit != 200 || s.ShedThreshold != 0.5 {
			t.Errorf("from the cache: revision %d, limit %d, leased %v, %v per second, threshold %v",
				s.Revision, s.Limit, s.Leased, s.RateLimit, s.ShedThreshold)
		}
		if files, _ := os.ReadDir(filepath.Dir(file)); len(files) != 1 {
			t.Errorf("%d files beside the cache", len(files)-1)
		}
		time.Sleep(2 * 180 * time.Second)
		if s := again.Snapshot(); s.Leased || s.Limit != 80 {
			t.Errorf("two leases later: leased %v, limit %d; the lease of a cached Setting counts from its loading",
				s.Leased, s.Limit)
		}
	})
}

func TestUnusableCacheMeansFallback(t *testing.T) {
	dir := t.TempDir()
	other := filepath.Join(dir, "other.json")
	if err := os.WriteFile(other, edited("checkout", "payments"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{filepath.Join(dir, "missing"), dir, other} {
		g := newGuard(t, Config{CacheFile: file, Fallback: 33})
		if s := g.Snapshot(); s.Limit != 33 || s.Revision != 0 {
			t.Errorf("%s: limit %d, revision %d", filepath.Base(file), s.Limit, s.Revision)
		}
	}
}

// A22: a thousand guards start together while the store is down. They work at once, on their fallback, and their
// attempts to reach the store neither come in step nor stop.
func TestThousandGuardsWithTheStoreDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		src := &source{err: errors.New("connection refused")}
		var wg sync.WaitGroup
		for i := range 1000 {
			g := newGuard(t, Config{Service: fmt.Sprintf("service-%d", i), Fallback: 25})
			wg.Go(func() { _ = g.Run(ctx, src) })
			if s := g.Snapshot(); s.Limit != 25 {
				t.Fatalf("limit %d", s.Limit)
			}
		}
		time.Sleep(5 * time.Minute)
		cancel()
		wg.Wait()
		perSecond := map[int64]int{}
		last := src.calls[len(src.calls)-1]
		for _, at := range src.calls {
			perSecond[at.Unix()]++
		}
		steady := 0
		for at, n := range perSecond {
			if at > last.Unix()-120 {
				steady = max(steady, n)
			}
		}
		if steady == 0 || steady > 150 {
			t.Errorf("%d attempts in the busiest second of the last two minutes", steady)
		}
	})
}
