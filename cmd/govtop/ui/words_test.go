package ui

import (
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

func TestUnits(t *testing.T) {
	for _, c := range []struct{ got, want string }{
		{seconds(none), "--"},
		{seconds(control.Number(math.Inf(1))), "--"},
		{seconds(0), "0ms"},
		{seconds(0.0004), "0.4ms"},
		{seconds(0.00994), "9.94ms"},
		{seconds(0.00996), "9.96ms"},
		{seconds(0.148), "148ms"},
		{seconds(0.9994), "999ms"},
		{seconds(0.9996), "1s"},
		{seconds(1.234), "1.23s"},
		{seconds(20), "20s"},
		{seconds(123.4), "123s"},
		{seconds(300), "300s"},
		{percent(math.NaN()), "--"},
		{percent(0), "0%"},
		{percent(0.00001), "<0.01%"},
		{percent(0.0004), "0.04%"},
		{percent(0.021), "2.1%"},
		{percent(1 - 0.99), "1%"},
		{percent(0.31), "31%"},
		{percent(1), "100%"},
		{value(control.KnobConcurrency, 72), "72"},
		{value(control.KnobConcurrency, 1e6), "1000000"},
		{value(control.KnobRate, 1790.4), "1790/s"},
		{value(control.KnobRate, 5.25), "5.25/s"},
		{value(control.KnobShed, 0.4), "0.40"},
		{value(control.KnobRetry, math.NaN()), "--"},
		{bounds(api.Loop{Knob: control.KnobRate, Min: 100, Max: 5000}), "100..5000/s"},
		{signed(-0.28), "-0.28"},
		{signed(0.004), "0.00"},
		{signed(-0.001), "0.00"},
		{signed(0.45), "+0.45"},
		{format.Age(-time.Second), "0s"},
		{format.Age(59 * time.Second), "59s"},
		{format.Age(90 * time.Second), "1m"},
		{format.Age(3 * time.Hour), "3h"},
		{format.Age(72 * time.Hour), "3d"},
	} {
		if c.got != c.want {
			t.Errorf("got %q, want %q", c.got, c.want)
		}
	}
}

// TestBadRatioIsTheWorseOfItsBudgets: 0.5% failed of 0.1% allowed is worse than 2% slow of 1% allowed.
func TestBadRatioIsTheWorseOfItsBudgets(t *testing.T) {
	l := api.Loop{SLO: api.SLO{Objective: 0.99, Errors: 0.001}}
	for _, c := range []struct {
		slow, failed control.Number
		want         string
	}{
		{0.02, 0.005, "failed"}, {0.02, 0.0005, "slow"}, {none, 0.0005, "failed"}, {0.02, none, "slow"}, {0, 0, "slow"},
	} {
		l.Decision.Inputs.SlowRatio, l.Decision.Inputs.FailedRatio = c.slow, c.failed
		if _, _, got := badRatio(l); got != c.want {
			t.Errorf("slow %v, failed %v: %s is called the worse, want %s", c.slow, c.failed, got, c.want)
		}
	}
}

func TestUnknownIsNoViolation(t *testing.T) {
	l := fixture.Loops()[0]
	if Violates(l) {
		t.Error("a loop without a measurement counts as a violation")
	}
	l.Decision.Inputs.BadRatio = 1
	if Violates(l) {
		t.Error("exactly the budget counts as a violation")
	}
	l.Decision.Inputs.BadRatio = 1.01
	if !Violates(l) {
		t.Error("more than the budget does not count as a violation")
	}
}

// TestEveryStateHasItsWord also for the states of a newer daemon.
func TestEveryStateHasItsWord(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range states {
		w := wordOf(s)
		if w.glyph == "?" || w.means == "" || seen[w.word] {
			t.Errorf("state %s: glyph %q, word %q, meaning %q", s, w.glyph, w.word, w.means)
		}
		seen[w.word] = true
	}
	if w := wordOf("brand_new"); w.glyph != "?" || w.word != "BRAND NEW" {
		t.Errorf("an unknown state reads %q", w.glyph+" "+w.word)
	}
}

// A Setting that cannot be written shows in the table, the header, the filter and the order, whatever its loops do: nobody
// should have to open the details to see that a service does not get its limit.
func TestWhatIsNotWrittenShowsInTheTable(t *testing.T) {
	denied := changedFamilies(func(loops map[string]*api.Loop) {
		for name, l := range loops {
			l.Published = nil
			if name == "checkout/export/concurrency" || name == "billing/concurrency" {
				l.Decision.State = control.Steady
				l.Published = &api.Published{Error: "permission denied: the token lacks the rule key_prefix"}
			}
		}
	})
	for keys, want := range map[string]map[string]bool{
		"":        {" export/con": true, "payments/shed": false},
		"s":       {" export/con": true, "billing/conc": true}, // by state
		"left":    {"checkout +2": true, "billing/conc": true},
		"/not wr": {" export/con": true, "billing/conc": true},
	} {
		pressed := strings.Split(keys, " ")
		if filter, ok := strings.CutPrefix(keys, "/"); ok {
			pressed = append([]string{"/"}, strings.Split(strings.ReplaceAll(filter, " ", "."), "")...)
			pressed = append(pressed, "enter")
		}
		if keys == "" {
			pressed = nil
		}
		rows := strings.Split(after(screen(100, 24, denied), press(pressed...)...).View().Content, "\n")
		for start, is := range want {
			i := slices.IndexFunc(rows, func(r string) bool { return strings.Contains(ansi.Strip(r), start) })
			if i < 0 {
				t.Errorf("%q: no row has %q", keys, start)
			} else if strings.Contains(rows[i], "! NOT WRITTEN") != is {
				t.Errorf("%q: %s", keys, ansi.Strip(rows[i]))
			}
		}
		if text := ansi.Strip(strings.Join(rows, "\n")); !strings.Contains(text, "2 not written") {
			t.Errorf("%q: the header does not count them:\n%s", keys, text)
		}
	}
}
