package demo

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/test/terminal"
)

// onTerminal starts the demo on a terminal of 80×24, with an empty folder for its files, and waits for the first
// measurements.
func onTerminal(t *testing.T, binary, folder string, environment ...string) *terminal.TestTerminal {
	t.Helper()
	cmd := exec.Command(binary, "demo", "--seed=7")
	cmd.Env = terminal.Env(append([]string{"TMPDIR=" + folder}, environment...)...)
	term := terminal.Run(t, cmd, terminal.Size{Width: 80, Height: 24})
	term.Shows("governor-1 leads")
	for _, text := range []string{
		"1/7", "static  limit 1024", "governed  limit", "capacity 200/s", "KV passes the real one's", "make demo-real",
		"q quit",
	} {
		term.Shows(text)
	}
	if !term.Screen().Alt || !term.Raw() {
		t.Error("the live screen uses the main screen, or leaves the line as it is")
	}
	return term
}

// leaves waits for the end of the demo and checks what it leaves behind: texts on the terminal, and nobody listening at
// the address.
func leaves(t *testing.T, term *terminal.TestTerminal, address string, texts ...string) {
	t.Helper()
	term.Ends(0)
	left := term.Scrollback() + term.Screen().String()
	for _, text := range texts {
		if !strings.Contains(left, text) {
			t.Errorf("no %q in what stays on the terminal:\n%s", text, left)
		}
	}
	if conn, err := net.DialTimeout("tcp", address, time.Second); err == nil {
		conn.Close()
		t.Errorf("something still listens on %s", address)
	}
}

// connect is the address that the screen shows for govtop.
func connect(t *testing.T, term *terminal.TestTerminal) string {
	t.Helper()
	m := regexp.MustCompile(`govtop --connect http://(\S+)`).FindStringSubmatch(term.Screen().String())
	if m == nil {
		t.Fatalf("the screen names no address for govtop:\n%s", term.Screen())
	}
	return m[1]
}

func TestDemoOnATerminal(t *testing.T) {
	folder := t.TempDir()
	term := onTerminal(t, governor(t), folder)
	address := connect(t, term)
	term.Types("3")
	term.Shows("! dependency SLOW")
	term.Types("4")
	term.Shows("! Prometheus LOST")
	term.Shows("~ HOLD")
	term.Types("5")
	term.Shows("! no leader")
	term.Types("5")
	term.Shows("there is no standby")
	term.Types("2")
	term.Shows("by hand: 300 requests/s")
	term.Shows("load 300/s")
	term.Types("q")
	leaves(t, term, address, "driven by hand", "optimum", "critical requests answered in the surge",
		"The whole story: governor demo --seed=7 --duration=1m5s")
	if left, err := os.ReadDir(folder); err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestSignalEndsTheScreen(t *testing.T) {
	term := onTerminal(t, governor(t), t.TempDir(), "NO_COLOR=1")
	if term.Screen().Colored() {
		t.Error("colored, with NO_COLOR")
	}
	address := connect(t, term)
	if err := term.Process().Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	leaves(t, term, address, "cut short", "The whole story: governor demo --seed=7")
}

// TestWithoutAScreen: standard output is a file, so it gets only the scorecard.
func TestWithoutAScreen(t *testing.T) {
	var out bytes.Buffer
	cmd := exec.Command(governor(t), "demo", "--seed=7")
	cmd.Env, cmd.Stdout = terminal.Env("TMPDIR="+t.TempDir()), &out
	term := terminal.Run(t, cmd, terminal.Size{Width: 80, Height: 24})
	for _, text := range []string{"KV passes the real one's", "make demo-real", "governor-2: govtop --connect", "1/7 calm"} {
		term.Shows(text)
	}
	if term.Screen().Alt || term.Raw() {
		t.Error("there is a live screen on standard error")
	}
	term.Types("\x03") // the terminal makes a signal of it
	term.Ends(0)
	if text := out.String(); !strings.HasPrefix(text, "\nThis run was cut short") || strings.Contains(text, "1/7") ||
		!strings.Contains(text, "optimum") {
		t.Errorf("standard output is not the scorecard of a story that was cut short:\n%s", text)
	}
}
