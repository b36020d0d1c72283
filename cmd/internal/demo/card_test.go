package demo

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

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

func TestIntroductionFitsIntoEightyColumns(t *testing.T) {
	var b strings.Builder
	say := func(format string, args ...any) { fmt.Fprintf(&b, format+"\n", args...) }
	w := &World{
		prometheus: "http://127.0.0.1:65535", consul: "127.0.0.1:65535",
		options: Options{PrometheusURL: "http://127.0.0.1:65535"},
		Static:  &Twin{admin: "127.0.0.1:65534"}, Governed: &Twin{admin: "127.0.0.1:65535"},
	}
	w.introduce(say)
	if !strings.Contains(b.String(), "127.0.0.1:65534") {
		t.Errorf("it does not say what a real Prometheus has to scrape:\n%s", b.String())
	}
	w.embedded = &embedded.World{}
	w.introduce(say)
	fits(t, b.String())
}

func TestScorecardForPeople(t *testing.T) {
	r := Result{
		Seed: 7, DurationSeconds: 91.02, Complete: true, Valid: true, again: Options{Seed: 7}.again(90 * time.Second),
		StaticLimit: StaticLimit, OptimumLimit: 24,
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
	again := "To repeat: governor demo --seed=7 --duration=1m30s\n"
	for _, want := range []string{"10.6%", "99.8%", "287 ms", "governor's", again} {
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
	r.Complete, r.DurationSeconds = false, 23.4
	for _, want := range []string{"cut short after 23 s", "The whole story: governor demo --seed=7"} {
		if !strings.Contains(text(), want) {
			t.Errorf("no %q in:\n%s", want, text())
		}
	}
	r.hand = true
	if !strings.Contains(text(), "driven by hand, for 23 s") || strings.Contains(text(), "cut short") {
		t.Errorf("a run that was driven by hand does not say so:\n%s", text())
	}
	r.Static = score(nil, []Span{{Act{Name: calm, Load: 1}, time.Unix(0, 0), time.Unix(1, 0)}})
	if strings.Contains(text(), "NaN") {
		t.Errorf("of nothing:\n%s", text())
	}
}
