package demo

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"testing"

	tea "charm.land/bubbletea/v2"
	"go.uber.org/goleak"

	"github.com/seed-de83e32b/governor/test/terminal"
)

// The test binary plays a screen with a fault in it when this is set.
const role = "DEMO_TEST_ROLE"

func TestMain(m *testing.M) {
	fault := os.Getenv(role)
	if fault == "" {
		goleak.VerifyTestMain(m)
		return
	}
	s := screen{
		ctx:  context.Background(),
		look: func(context.Context) Frame { return Frame{At: at(1)} },
		tell: func(context.Context, order) { panic("a fault in a command") },
	}
	_, err := programOf(context.Background(), clumsy{s, fault, false}, true).Run()
	if err = ended(err); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// clumsy is a screen that panics, if its fault is "update" or "view", on the first key.
type clumsy struct {
	tea.Model
	fault string
	hit   bool
}

func (c clumsy) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if _, is := msg.(tea.KeyPressMsg); is {
		c.hit = true
		if c.fault == "update" {
			panic("a fault in Update")
		}
	}
	next, cmd := c.Model.Update(msg)
	return clumsy{next, c.fault, c.hit}, cmd
}

func (c clumsy) View() tea.View {
	if c.hit && c.fault == "view" {
		panic("a fault in View")
	}
	return c.Model.View()
}

// TestPanicRestoresTheTerminal (A28): after a fault anywhere in the screen, the shell gets its terminal back.
func TestPanicRestoresTheTerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []string{"view", "update", "command"} {
		t.Run(fault, func(t *testing.T) {
			cmd := exec.Command(self)
			cmd.Env = terminal.Env(role + "=" + fault)
			term := terminal.Run(t, cmd, terminal.Size{Width: 80, Height: 24})
			term.Shows("q quit")
			term.Types("1")
			term.Ends(1)
			if !term.Screen().Shows("report the trace above as a bug") {
				t.Errorf("it does not say that it failed:\n%s", term.Screen())
			}
		})
	}
}
