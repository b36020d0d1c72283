package demo

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/cmd/internal/embedded"
	"github.com/seed-de83e32b/governor/control"
)

func fits(t *testing.T, text string) {
	t.Helper()
	for line := range strings.Lines(text) {
		if n := len([]rune(strings.TrimRight(line, "\n"))); n > 80 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestLinesFitIntoEightyColumns(t *testing.T) {
	var b strings.Builder
	l := &lines{out: &b}
	w := &World{
		prometheus: "http://127.0.0.1:65535", consul: "127.0.0.1:65535",
		options: Options{PrometheusURL: "http://127.0.0.1:65535"},
		Static:  &Twin{admin: "127.0.0.1:65535"}, Governed: &Twin{admin: "127.0.0.1:65535"},
	}
	l.introduce(w, DefaultDuration)
	w.embedded = &embedded.World{}
	l.introduce(w, DefaultDuration)
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	busy := Frame{
		At: 9999 * time.Second, Static: Traffic{Good: 9999, Late: 9999, Lost: 9999, Refused: 9999, Queue: 1024},
		Leader: "governor-2",
	}
	busy.Governed = busy.Static
	busy.Loop = api.Loop{Decision: control.Decision{
		Knob: control.KnobConcurrency, State: control.Ineffective, Inputs: control.Inputs{EffectiveLimit: 1024},
		Reason: "keep 8: mean 159 ms <= setpoint 194 ms; Little 44.3/s x 194 ms = 8.61; refused 80.6 %; bound by slew; " +
			"limiting cannot help: the service itself needs 155 ms",
	}}
	for _, a := range acts {
		l.act(a)
		l.frame(busy)
	}
	fits(t, b.String())
	if n := strings.Count(b.String(), "limiting"); n != 1 {
		t.Errorf("one state, which lasts, is explained %d times", n)
	}
	busy.Loop.Decision.State = control.Hold
	busy.Loop.Decision.HoldReason = control.Stale
	busy.Loop.Decision.Inputs.EffectiveLimit = control.Number(math.NaN())
	l.frame(busy)
	if n := strings.Count(b.String(), "limiting"); n != 2 {
		t.Error("a new state is not explained")
	}
}

func TestScorecardForPeople(t *testing.T) {
	r := Result{
		Seed: 7, asked: 90 * time.Second, DurationSeconds: 91.02, Valid: true, StaticLimit: StaticLimit, OptimumLimit: 24,
		Static: Score{
			Offered: 99999, Good: 1234, GoodputRatio: 0.106, CriticalRatio: control.Number(math.NaN()), P99Seconds: 1,
		},
		Governed: Score{
			Offered: 99999, Good: 98765, GoodputRatio: 1, AfterRatio: 0.9984, SecondsAboveSLO: 3, P99Seconds: 0.2871,
		},
	}
	text := func() string {
		var b strings.Builder
		if err := r.write(&b); err != nil {
			t.Fatal(err)
		}
		fits(t, b.String())
		return b.String()
	}
	again := "governor demo --seed=7 --duration=1m30s\n"
	for _, want := range []string{"10.6 %", "99.8 %", "287 ms", "governor's", again} {
		if !strings.Contains(text(), want) {
			t.Errorf("no %q in:\n%s", want, text())
		}
	}
	if strings.Contains(text(), "too busy") {
		t.Error("a run that counts is said not to")
	}
	r.Valid, r.LatenessSeconds = false, 0.123
	if !strings.Contains(text(), "up to 123 ms late") {
		t.Errorf("a run that does not count does not say so:\n%s", text())
	}
}
