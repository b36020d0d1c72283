package ui

import (
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestRefusalsAreInSightThoughAllIsGreen: of a fleet whose loops are steady and meet their SLO, the one that refuses two
// thirds comes first, in every width; the header and the health screen count it, and the detail says what it lacks.
func TestRefusalsAreInSightThoughAllIsGreen(t *testing.T) {
	fleet := fixture.Calm().Loops
	l := &fleet[len(fleet)-1]
	in := &l.Decision.Inputs
	in.RefusedShare = 0.67
	in.RefusedBy = control.RefusedBy{Concurrency: 0.02, Shed: 0, Rate: 0.65}
	l.Missing = api.MissingOf(*in)
	for _, w := range []int{60, 80, 120, 200} {
		m := screen(w, 30, snapshot(fixture.Status(), fleet))
		if got := m.called(); got != name(*l) {
			t.Errorf("at %d columns %s stands first, want %s", w, got, name(*l))
		}
		text := frame(m)
		for _, want := range []string{"REFUSED", " 67% ", "1 refusing >5%", "sort:hurts v"} {
			if !strings.Contains(text, want) {
				t.Errorf("at %d columns the overview does not say %q:\n%s", w, want, text)
			}
		}
		if text = frame(after(m, press("h")...)); !strings.Contains(text, "! 1 ABOVE 5%") || !strings.Contains(text, "67%") {
			t.Errorf("at %d columns the health screen does not say it:\n%s", w, text)
		}
	}
	text := frame(after(screen(80, 24, snapshot(fixture.Status(), fleet)), press("enter")...))
	for _, want := range []string{"2% by concurrency  65% by rate", "needs about 19 more instances"} {
		if !strings.Contains(strings.Join(strings.Fields(text), " "), strings.Join(strings.Fields(want), " ")) {
			t.Errorf("the detail does not say %q:\n%s", want, text)
		}
	}
}

// TestUnknownRefusalsAreNotZero: a service that does not count its refusals shows that, and does not hurt for it.
func TestUnknownRefusalsAreNotZero(t *testing.T) {
	l := fixture.Calm().Loops[0]
	l.Decision.Inputs.RefusedShare = none
	if Refuses(l, 0) || api.MissingOf(l.Decision.Inputs) != nil {
		t.Error("an unknown share counts as a refusal")
	}
	for _, c := range columns {
		if c.title == "REFUSED" && c.text(l, fixture.Now) != unknown {
			t.Errorf("it reads %q", c.text(l, fixture.Now))
		}
	}
}
