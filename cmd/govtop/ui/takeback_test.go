package ui

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// cursorOn is the fleet's screen with the cursor on a service.
func cursorOn(service string) Model {
	m := after(screen(80, 24, mixed()), append(append(press("/"), press(strings.Split(service, "")...)...), press("enter")...)...)
	m.options.Actor = "cleo"
	return m
}

// recorded is the message that an order of a kind has been recorded for the loop under the cursor.
func recorded(m Model, kind actuators.OrderKind) orderedMsg {
	l, _ := m.overview.current()
	return orderedMsg{before: l, kind: kind, loop: name(l), receipt: api.Receipt{Note: "recorded"}}
}

// TestTheLastOrderIsTakenBack: u opens the form of the order that undoes one's own last one, says what that means, and
// sends nothing by itself.
func TestTheLastOrderIsTakenBack(t *testing.T) {
	m := cursorOn("checkout")
	if got := frame(after(m, press("u")...)); !strings.Contains(got, "nothing to take back") {
		t.Errorf("before any order:\n%s", got)
	}
	failed := recorded(m, actuators.Freeze)
	failed.err = fmt.Errorf("disk on fire")
	if got := after(m, failed); got.last != nil {
		t.Error("an order that was not recorded can be taken back")
	}

	m = after(m, recorded(m, actuators.Freeze))
	m = after(m, press("down", "u")...)
	if m.form == nil || m.form.kind != actuators.Resume || name(m.form.loop) != "checkout/concurrency" {
		t.Fatalf("after a freeze, u opens %+v", m.form)
	}
	got := strings.Join(strings.Fields(strings.ReplaceAll(frame(m), "│", " ")), " ")
	if want := "This takes back your freeze of checkout/concurrency: the loop becomes automatic again"; !strings.Contains(got, want) {
		t.Errorf("it does not say %q:\n%s", want, frame(m))
	}

	// An order that replaced another one, and one that ended another one, bring it back.
	for _, kind := range []actuators.OrderKind{actuators.Freeze, actuators.Resume} {
		m = cursorOn("ledger")
		m = after(m, recorded(m, kind))
		m = after(m, press("u")...)
		if m.form == nil || m.form.kind != actuators.Override {
			t.Fatalf("after a %s in place of an override, u opens %+v", kind, m.form)
		}
		c := *m.form.command()
		if *c.Value != 1800 || c.Reason != "retry storm" || c.Actor != "ana" && c.Actor != "cleo" ||
			time.Duration(c.ExpiresInSeconds*float64(time.Second)) != time.Date(2026, time.November, 24, 14, 15, 0, 0, time.UTC).Sub(fixture.Now) {
			t.Errorf("after a %s, it would order %+v", kind, c)
		}
		if got := frame(m); !strings.Contains(got, "comes back") {
			t.Errorf("it does not say what comes back:\n%s", got)
		}
	}
}

// TestTheFormShowsTheCommand that gives the same order in a shell, quoted.
func TestTheFormShowsTheCommand(t *testing.T) {
	m := after(cursorOn("ledger"), press("o", "9", "0", "0", "/", "s", "enter", "i", "t", "'", "s", " ", "$", "x")...)
	want := `governor override ledger/rate 900 --reason='it'\''s $x' --expires=15m --actor=cleo`
	if got := m.form.shell(); got != want {
		t.Errorf("the command is\n     %s\nwant %s", got, want)
	}
	got := strings.Join(strings.Fields(strings.ReplaceAll(frame(m), "│", " ")), " ")
	if !strings.Contains(got, want) {
		t.Errorf("the form does not show it:\n%s", frame(m))
	}
}

// TestCopiesOnAKeyPressOnly: y and, in a form, ctrl+y send text to the terminal's clipboard; nothing else does.
func TestCopiesOnAKeyPressOnly(t *testing.T) {
	m := cursorOn("checkout")
	_, cmd := m.Update(press("y")[0])
	if got := fmt.Sprint(cmd()); !strings.Contains(got, "checkout/concurrency v CUTTING from 86: cut 86->73") ||
		!strings.Contains(got, "--loop checkout/concurrency --at 2026-11-24T14:03:27Z") {
		t.Errorf("y copies %q", got)
	}
	m = after(m, press("f")...)
	_, cmd = m.Update(press("ctrl+y")[0])
	if got, want := fmt.Sprint(cmd()), m.form.shell(); got != want {
		t.Errorf("ctrl+y copies %q, want %q", got, want)
	}
}
