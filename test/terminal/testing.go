package terminal

import (
	"os/exec"
	"testing"
)

// TestTerminal is a Terminal that belongs to a test.
type TestTerminal struct {
	*Terminal
	t testing.TB
}

// Run starts a command on a terminal for the test t, and ends it with t.
func Run(t testing.TB, cmd *exec.Cmd, size Size, options ...Option) *TestTerminal {
	t.Helper()
	terminal, err := Start(cmd, size, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(terminal.Close)
	return &TestTerminal{terminal, t}
}

// Types is Type that fails the test on an error.
func (t *TestTerminal) Types(keys string) {
	t.t.Helper()
	if err := t.Type(keys); err != nil {
		t.t.Fatalf("type %q: %v", keys, err)
	}
}

// Resizes is Resize that fails the test on an error.
func (t *TestTerminal) Resizes(size Size) {
	t.t.Helper()
	if err := t.Resize(size); err != nil {
		t.t.Fatal(err)
	}
}

// Shows waits until the screen shows the text.
func (t *TestTerminal) Shows(text string) {
	t.t.Helper()
	t.Waits("the screen shows "+text, func(s Screen) bool { return s.Shows(text) })
}

// Waits waits until the screen is as wanted.
func (t *TestTerminal) Waits(what string, is func(Screen) bool) {
	t.t.Helper()
	if err := t.Until(is); err != nil {
		t.t.Fatalf("waited in vain until %s: %v", what, err)
	}
}

// Ends waits for the program, and checks its exit code and that it left the terminal as it was.
func (t *TestTerminal) Ends(code int) {
	t.t.Helper()
	got, err := t.Wait()
	if err != nil {
		t.t.Fatal(err)
	}
	if got != code {
		t.t.Errorf("exit code %d, want %d; the screen:\n%s", got, code, t.Screen())
	}
	if err := t.Restored(); err != nil {
		t.t.Errorf("the terminal after the program: %v", err)
	}
}
