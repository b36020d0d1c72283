package guard

import (
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// When no slot has come free for long, the log says for how long and who holds them, once a minute, and a snapshot says it
// at all times.
func TestSlotsThatDoNotComeFreeAreReported(t *testing.T) {
	logged := &waittest.Buffer{}
	g := simGuard(t, Config{
		Min: 2, Max: 2, Logger: slog.New(slog.NewTextHandler(logged, nil)),
		Holders: func(int) []string { return []string{"GET /poll"} },
	})
	at := epoch
	look := func(d time.Duration) Snapshot { at = at.Add(d); return g.SnapshotAt(at) }
	first, _ := g.AcquireAt(at, Default)
	if s := look(time.Minute); s.Held != 0 {
		t.Errorf("held for %v with a free slot", s.Held)
	}
	second, _ := g.AcquireAt(at, Default)
	for range 20 {
		look(g.cfg.SLO / 4)
	}
	if s := look(0); s.Held < 4*g.cfg.SLO || s.Held > 6*g.cfg.SLO || logged.Len() > 0 {
		t.Errorf("held for %v, log %q", s.Held, logged)
	}
	for range 40 {
		look(g.cfg.SLO / 4)
	}
	if n := strings.Count(logged.String(), "no slot has come free"); n != 1 || !strings.Contains(logged.String(), "GET /poll") {
		t.Errorf("%d lines:\n%s", n, logged)
	}
	look(2 * time.Minute)
	if n := strings.Count(logged.String(), "no slot has come free"); n != 2 {
		t.Errorf("%d lines two minutes later:\n%s", n, logged)
	}
	first.ReleaseAt(at, Success)
	third, err := g.AcquireAt(at, Default) // full again, but one came free
	if err != nil {
		t.Fatal(err)
	}
	if s := look(g.cfg.SLO); s.Held > 2*g.cfg.SLO {
		t.Errorf("held for %v after one came free", s.Held)
	}
	second.ReleaseAt(at, Success)
	third.ReleaseAt(at, Success)
	if s := look(g.cfg.SLO); s.Held != 0 {
		t.Errorf("held for %v with free slots", s.Held)
	}
}
