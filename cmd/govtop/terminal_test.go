package main

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/creack/pty"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/programs"
	"github.com/seed-de83e32b/governor/test/terminal"
)

// If this is set, the test binary plays other programs: govtop with a fault in it, and a governor to look at.
const role = "GOVTOP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch r := os.Getenv(role); {
	case r == "":
		code := m.Run()
		if path, err := govtop(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		os.Exit(code)
	case r == "serve", r == "routes":
		// go test -c -o /tmp/fleet ./cmd/govtop && GOVTOP_TEST_ROLE=serve /tmp/fleet; then govtop in another terminal.
		// The role routes has services with routes.
		fmt.Println(http.ListenAndServe(api.DefaultAddress, &fixture.Server{Moving: true, Routes: r == "routes"}))
		os.Exit(1)
	default:
		now := make(chan struct{})
		source := &faulty{fault: r, now: now}
		model := clumsy{ui.New(context.Background(), source, "http://faulty", "test", ui.Options{}), r, now}
		if err := ui.Run(context.Background(), model, true); err != nil {
			os.Exit(failed(os.Stderr, err))
		}
		os.Exit(0)
	}
}

// faulty is a source whose stream panics when told to.
type faulty struct {
	ui.Source // nil: nothing else is asked
	fault     string
	now       <-chan struct{}
}

func (f *faulty) Status(context.Context) (api.Status, error) { return fixture.Status(), nil }

func (f *faulty) Loops(context.Context) ([]api.Loop, error) { return fixture.Loops(), nil }

func (f *faulty) History(context.Context, time.Duration, time.Duration) (api.History, error) {
	return fixture.History(), nil
}

func (f *faulty) Stream(ctx context.Context, _ uint64, deliver func(api.Event) error) error {
	err := deliver(api.Event{Snapshot: &api.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}})
	if err != nil {
		return err
	}
	select {
	case <-f.now:
		if f.fault == "stream" {
			panic("a fault in stream")
		}
	case <-ctx.Done():
	}
	<-ctx.Done()
	return ctx.Err()
}

// clumsy is a screen that panics on the first key, or at its first frame.
type clumsy struct {
	tea.Model
	fault string
	now   chan struct{} // closed by the first key
}

func (c clumsy) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var fault tea.Cmd
	if _, ok := msg.(tea.KeyPressMsg); ok && !c.pressed() {
		close(c.now)
		switch c.fault {
		case "update":
			panic("a fault in update")
		case "command":
			fault = func() tea.Msg { panic("a fault in command") }
		}
	}
	next, cmd := c.Model.Update(msg)
	return clumsy{next, c.fault, c.now}, tea.Batch(cmd, fault)
}

func (c clumsy) View() tea.View {
	if c.fault == "first frame" || c.fault == "view" && c.pressed() {
		panic("a fault in " + c.fault)
	}
	return c.Model.View()
}

func (c clumsy) pressed() bool {
	select {
	case <-c.now:
		return true
	default:
		return false
	}
}

var govtop = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "govtop")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "govtop")
	if out, err := exec.Command("go", "build", "-o", path, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return path, nil
})

func binary(t *testing.T) string {
	t.Helper()
	path, err := govtop()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// start runs a program on a terminal, with variables (NAME=value) besides those of terminal.Env.
func start(t *testing.T, size terminal.Size, variables []string, name string, args ...string) *terminal.TestTerminal {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = terminal.Env(variables...)
	return terminal.Run(t, cmd, size)
}

// serve runs a governor for the test. It ends after the programs that the test starts later.
func serve(t *testing.T, governor http.Handler) *httptest.Server {
	t.Helper()
	server := httptest.NewServer(governor)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return server
}

var usual = terminal.Size{Width: 80, Height: 24}

func TestQuitRestoresTheTerminal(t *testing.T) {
	server := serve(t, &fixture.Server{Moving: true})
	for name, end := range map[string]func(*terminal.TestTerminal){
		"q":       func(term *terminal.TestTerminal) { term.Types("q") },
		"ctrl+c":  func(term *terminal.TestTerminal) { term.Types("\x03") },
		"SIGTERM": func(term *terminal.TestTerminal) { _ = term.Process().Signal(syscall.SIGTERM) },
		"SIGINT":  func(term *terminal.TestTerminal) { _ = term.Process().Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			term := start(t, usual, nil, binary(t), "--connect", server.URL)
			term.Shows("checkout/con")
			if s := term.Screen(); !s.Alt || s.Cursor {
				t.Error("the live screen does not use the alternate screen, or shows the cursor")
			}
			if !term.Raw() {
				t.Error("the live screen does not take the line into raw mode")
			}
			// What the terminal answers to the program's questions is on its way. A signal, unlike a key, may overtake it, and
			// what arrives after the program has ended is echoed.
			term.Settle(100 * time.Millisecond)
			end(term)
			term.Ends(exitOK)
			if text := term.Screen().String(); strings.TrimSpace(text) != "" {
				t.Errorf("it leaves something on the main screen:\n%s", text)
			}
		})
	}
}

// TestSuspendAndForeground suspends govtop under a shell with job control, checks the terminal as the shell gets it,
// and brings govtop back.
func TestSuspendAndForeground(t *testing.T) {
	shell := programs.Find(t, "bash")
	server := serve(t, &fixture.Server{})
	term := start(t, usual, []string{"PS1=shell> "}, shell, "--norc", "--noprofile", "--noediting", "-i")
	term.Shows("shell>")
	term.Types(binary(t) + " --connect " + server.URL + "\n")
	term.Shows("checkout/con")
	term.Types("\x1a")
	term.Shows("Stopped")
	if err := term.Restored(); err != nil {
		t.Errorf("suspended: %v", err)
	}
	term.Types("stty -a\n")
	term.Waits("stty tells of echo and line editing", func(s terminal.Screen) bool {
		words := strings.Fields(strings.ReplaceAll(s.String(), ";", " "))
		return slices.Contains(words, "echo") && slices.Contains(words, "icanon")
	})
	term.Types("clear; fg\n")
	term.Waits("govtop is back", func(s terminal.Screen) bool { return s.Alt && s.Shows("checkout/con") })
	term.Types("j")
	term.Shows(">payments/shed")
	term.Types("q")
	term.Waits("the shell is back", func(s terminal.Screen) bool { return !s.Alt && s.Shows("shell>") })
	if err := term.Restored(); err != nil {
		t.Errorf("after fg and q: %v", err)
	}
	term.Types("exit\n")
	term.Ends(0)
}

// TestNobodyIsLeftWithASuspendedProgram: without a shell that could bring it back, govtop is not suspended, says so, and
// still obeys every key. tmux, ssh and a login run it in such a way.
func TestNobodyIsLeftWithASuspendedProgram(t *testing.T) {
	server := serve(t, &fixture.Server{})
	for name, command := range map[string][]string{
		"as the session's first program": {binary(t), "--connect", server.URL},
		"under a shell that runs one command": {
			programs.Find(t, "sh"), "-c", binary(t) + " --connect " + server.URL + "; exit",
		},
	} {
		t.Run(name, func(t *testing.T) {
			term := start(t, usual, nil, command[0], command[1:]...)
			term.Shows("checkout/con")
			term.Types("\x1a")
			term.Shows("Not suspended: no shell could bring govtop back")
			term.Types("j")
			term.Shows(">payments/shed")
			term.Types("q")
			term.Ends(exitOK)
		})
	}
}

// TestEndsWithItsTerminal: when the terminal is closed, govtop ends, even if it was started to ignore hangups.
func TestEndsWithItsTerminal(t *testing.T) {
	server := serve(t, &fixture.Server{})
	for name, trap := range map[string]string{"a hangup": "", "a hangup that is ignored": "trap '' HUP; "} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(programs.Find(t, "sh"), "-c", trap+"exec "+binary(t)+" --connect "+server.URL)
			cmd.Env = terminal.Env()
			tty, err := pty.StartWithSize(cmd, &pty.Winsize{Rows: 24, Cols: 80})
			if err != nil {
				t.Fatal(err)
			}
			ended := make(chan struct{})
			go func() { _ = cmd.Wait(); close(ended) }()
			// Nobody may read the terminal while it is closed: it would stay open until there is something to read.
			screen, late := "", time.AfterFunc(time.Minute, func() { tty.Close() }) // ends the Read
			for part := make([]byte, 4096); !strings.Contains(screen, "checkout/con"); {
				n, err := tty.Read(part)
				if err != nil {
					t.Fatalf("%v, after %q", err, screen)
				}
				screen += string(part[:n])
			}
			late.Stop()
			if err := tty.Close(); err != nil {
				t.Fatal(err)
			}
			select {
			case <-ended:
			case <-time.After(terminal.Patience):
				_ = cmd.Process.Kill()
				t.Error("it lives on without its terminal")
			}
		})
	}
}

func TestReconnectsByItself(t *testing.T) {
	var gone sync.RWMutex
	daemon := &fixture.Server{}
	away := false
	server := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gone.RLock()
		refuse := away
		gone.RUnlock()
		if refuse {
			panic(http.ErrAbortHandler)
		}
		daemon.ServeHTTP(w, r)
	}))
	set := func(b bool) {
		gone.Lock()
		away = b
		gone.Unlock()
		if b {
			server.CloseClientConnections()
		}
	}

	set(true)
	term := start(t, usual, nil, binary(t), "--connect", server.URL)
	term.Shows("No data from governor")
	set(false)
	term.Shows("LIVE")
	set(true)
	term.Shows("STALE")
	term.Shows("checkout/con")
	set(false)
	term.Shows("LIVE")
	term.Types("q")
	term.Ends(exitOK)
}

// TestNoDaemon: the screen says so, tries again, and can be left.
func TestNoDaemon(t *testing.T) {
	term := start(t, usual, nil, binary(t), "--connect", "http://127.0.0.1:1")
	term.Shows("No data from governor at http://127.0.0.1:1")
	term.Shows("connection refused")
	term.Shows("Attempt 2 failed")
	term.Types("q")
	term.Ends(exitOK)
}

// TestPanicRestoresTheTerminal (A28): after a fault anywhere in the program, the shell gets its terminal back, and the
// main screen says what happened.
func TestPanicRestoresTheTerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []string{"first frame", "view", "update", "stream", "command"} {
		t.Run(fault, func(t *testing.T) {
			term := start(t, usual, []string{role + "=" + fault}, self)
			switch fault {
			case "first frame":
			default:
				term.Shows("checkout/con")
				term.Types("j")
			}
			term.Ends(exitError)
			text := term.Scrollback() + term.Screen().String()
			for _, part := range []string{
				"\ngovtop: govtop crashed; please report the trace above", "a fault in " + fault, "\ngoroutine ",
			} {
				if !strings.Contains(text, part) {
					t.Errorf("the main screen does not say %q at the left:\n%s", part, text)
				}
			}
		})
	}
}

func TestWithoutAScreen(t *testing.T) {
	devNull, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer devNull.Close()
	check := func(t *testing.T, said string, code int) {
		t.Helper()
		if code != exitUsage || !strings.Contains(said, "govtop --once") || strings.Count(strings.TrimSpace(said), "\n") != 0 {
			t.Errorf("exit code %d, %q; want %d and one line with a hint", code, said, exitUsage)
		}
	}
	for name, arrange := range map[string]func(*exec.Cmd){
		"no stream is a terminal": nil,
		"output to a pipe":        func(cmd *exec.Cmd) { cmd.Stdout = new(bytes.Buffer) },
		"input from /dev/null":    func(cmd *exec.Cmd) { cmd.Stdin = devNull },
		"a dumb terminal":         func(cmd *exec.Cmd) { cmd.Env = terminal.Env("TERM=dumb") },
		"no TERM":                 func(cmd *exec.Cmd) { cmd.Env = terminal.Env("TERM=") },
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(binary(t))
			if arrange == nil {
				out, _ := cmd.CombinedOutput()
				check(t, string(out), cmd.ProcessState.ExitCode())
				return
			}
			arrange(cmd)
			term := terminal.Run(t, cmd, terminal.Size{Width: 120, Height: 30})
			term.Ends(exitUsage)
			check(t, term.Screen().String(), cmd.ProcessState.ExitCode())
		})
	}
}
