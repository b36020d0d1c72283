package guard

import (
	"testing"
	"time"
)

func simGuard(t testing.TB, c Config) *Guard {
	t.Helper()
	if c.Service == "" {
		c.Service = "checkout"
	}
	if c.SLO == 0 {
		c.SLO = 300 * time.Millisecond
	}
	c.Now = func() time.Time { return epoch }
	g, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	return g
}

func TestTrySim(t *testing.T) {
	for seed := uint64(1); seed <= 3; seed++ {
		g := simGuard(t, Config{Min: 4, Max: 1000, Fallback: 100})
		p := newPlant(g, seed)
		show := func(name string, d time.Duration) {
			p.run(d)
			s := g.SnapshotAt(epoch.Add(p.now))
			t.Logf("%d %-10s good %.0f/s slow %.0f/s refused %.0f/s mean %v L %v s %.3f m0 %.3f", seed, name, float64(p.good)/d.Seconds(), float64(p.slow)/d.Seconds(), float64(p.refused)/d.Seconds(), p.latency/time.Duration(max(1, p.good+p.slow)), p.limits, s.ServiceTime, g.reflex.ownSeconds)
		}
		show("calm", 30*time.Second)
		p.rate = 2400
		show("x3", 20*time.Second)
		show("x3", 20*time.Second)
		p.servers = 16
		show("x3 half", 40*time.Second)
		p.servers = 32
		p.rate = 400
		show("calm", 20*time.Second)
		p.delay = 250 * time.Millisecond
		show("slowdep", 20*time.Second)
		p.rate = 700
		show("slowdep700", 40*time.Second)
		p.delay = 0
		show("heal", 40*time.Second)
		p.service = 200 * time.Millisecond
		show("x5slow", 60*time.Second)
	}
}
