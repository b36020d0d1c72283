package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/term"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// The test binary plays other programs when this is set: govtop with a fault in it, and a governor to look at.
const role = "GOVTOP_TEST_ROLE"

func TestMain(m *testing.M) {
	switch r := os.Getenv(role); {
	case r == "":
		code := m.Run()
		if path, err := govtop(); err == nil {
			_ = os.RemoveAll(filepath.Dir(path))
		}
		os.Exit(code)
	case r == "serve":
		// go test -c -o /tmp/fleet ./cmd/govtop && GOVTOP_TEST_ROLE=serve /tmp/fleet; then govtop in another terminal.
		fmt.Println(http.ListenAndServe(api.DefaultAddress, &fixture.Server{Moving: true}))
		os.Exit(1)
	default:
		model := clumsy{ui.New(context.Background(), &faulty{fault: r}, "http://faulty", "test", ui.Options{}), r, false}
		if err := ui.Run(context.Background(), model, true); err != nil {
			os.Exit(failed(os.Stderr, err))
		}
		os.Exit(0)
	}
}

// faulty is a source that panics, if its fault is "stream", after its first events.
type faulty struct {
	ui.Source // nil: nothing else is asked
	fault     string
}

func (f *faulty) Status(context.Context) (api.Status, error) { return fixture.Status(), nil }

func (f *faulty) Loops(context.Context) ([]api.Loop, error) { return fixture.Loops(), nil }

func (f *faulty) History(context.Context, time.Duration, time.Duration) (api.History, error) {
	return fixture.History(), nil
}

func (f *faulty) Stream(ctx context.Context, _ uint64, deliver func(api.Event) error) error {
	err := deliver(api.Event{Snapshot: &api.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}})
	if f.fault == "stream" && err == nil {
		time.Sleep(time.Second) // until the test has seen the screen
		panic("a fault in a stream")
	}
	<-ctx.Done()
	return ctx.Err()
}

// clumsy is a screen that panics, if its fault is "update" or "view", on the first key.
type clumsy struct {
	tea.Model
	fault string
	hit   bool
}

func (c clumsy) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if _, ok := msg.(tea.KeyPressMsg); ok {
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

// terminal is a program on a PTY, with an emulator that shows what a person would see.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	pty    *os.File
	before *term.State

	mu     sync.Mutex
	screen *vt.Emulator
	cursor bool // visible
	bytes  int
	exited chan error
}

func start(t *testing.T, w, h int, env []string, name string, args ...string) *terminal {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Env = append(os.Environ(), "TERM=xterm-256color", "NO_COLOR=", "TMUX=")
	cmd.Env = append(cmd.Env, env...)
	p, tty, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer tty.Close()
	if err := pty.Setsize(p, &pty.Winsize{Cols: uint16(w), Rows: uint16(h)}); err != nil {
		t.Fatal(err)
	}
	before, err := lineState(p)
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = tty, tty, tty
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	term := &terminal{
		t: t, cmd: cmd, pty: p, before: before, screen: vt.NewEmulator(w, h), cursor: true, exited: make(chan error, 1),
	}
	term.screen.SetCallbacks(vt.Callbacks{CursorVisibility: func(visible bool) { term.cursor = visible }})

	drained := make(chan struct{})
	go func() { // what the program prints
		defer close(drained)
		buffer := make([]byte, 8192)
		for {
			n, err := p.Read(buffer)
			term.mu.Lock()
			term.bytes += n
			_, _ = term.screen.Write(buffer[:n])
			term.mu.Unlock()
			if err != nil {
				return
			}
		}
	}()
	go func() { _, _ = io.Copy(p, term.screen) }() // what the terminal answers
	go func() {
		err := cmd.Wait()
		<-drained
		term.exited <- err
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = p.Close()
		// Close of the emulator itself races with its Read; the end of the pipe ends that as well.
		_ = term.screen.InputPipe().(io.Closer).Close()
	})
	return term
}

// lineState is the mode of the line: echo, line editing, signals.
func lineState(p *os.File) (*term.State, error) { return term.GetState(p.Fd()) }

func (term *terminal) text() string {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.screen.String()
}

func (term *terminal) written() int {
	term.mu.Lock()
	defer term.mu.Unlock()
	return term.bytes
}

func (term *terminal) shows(what string) {
	term.t.Helper()
	term.until("the screen shows "+what, func() bool { return strings.Contains(term.text(), what) })
}

func (term *terminal) until(what string, is func() bool) {
	term.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !is(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			term.t.Fatalf("waited in vain until %s; the screen:\n%s", what, term.text())
		}
	}
}

func (term *terminal) types(keys string) {
	term.t.Helper()
	if _, err := io.WriteString(term.pty, keys); err != nil {
		term.t.Fatal(err)
	}
}

// ends waits for the program, and checks its exit code and that it left the terminal as it was.
func (term *terminal) ends(code int) {
	term.t.Helper()
	select {
	case err := <-term.exited:
		got := 0
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			got = exit.ExitCode()
		}
		if got != code {
			term.t.Errorf("exit code %d, want %d; the screen:\n%s", got, code, term.text())
		}
	case <-time.After(30 * time.Second):
		term.t.Fatalf("the program does not end; the screen:\n%s", term.text())
	}
	term.mu.Lock()
	defer term.mu.Unlock()
	if term.screen.IsAltScreen() {
		term.t.Error("the alternate screen stands")
	}
	if !term.cursor {
		term.t.Error("the cursor is hidden")
	}
	if after, err := lineState(term.pty); err != nil || !reflect.DeepEqual(after, term.before) {
		term.t.Errorf("the line stays in another mode than before: %v", err)
	}
}

func TestQuitRestoresTheTerminal(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{Moving: true})
	defer server.Close()
	for name, end := range map[string]func(*terminal){
		"q":       func(term *terminal) { term.types("q") },
		"ctrl+c":  func(term *terminal) { term.types("\x03") },
		"SIGTERM": func(term *terminal) { _ = term.cmd.Process.Signal(syscall.SIGTERM) },
		"SIGINT":  func(term *terminal) { _ = term.cmd.Process.Signal(syscall.SIGINT) },
	} {
		t.Run(name, func(t *testing.T) {
			term := start(t, 80, 24, nil, binary(t), "--connect", server.URL)
			term.shows("checkout/concurrency")
			term.mu.Lock()
			if !term.screen.IsAltScreen() || term.cursor {
				t.Error("the live screen does not use the alternate screen, or shows the cursor")
			}
			term.mu.Unlock()
			if now, err := lineState(term.pty); err != nil || reflect.DeepEqual(now, term.before) {
				t.Errorf("the live screen does not take the line into raw mode: %v", err)
			}
			end(term)
			term.ends(exitOK)
		})
	}
}

func TestKeysAndResizeOnATerminal(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	term := start(t, 80, 24, nil, binary(t), "--connect", server.URL)
	term.shows(">auth/concurrency")
	term.types("j")
	term.shows(">batch/concurrency")
	term.types("\x1b[B")
	term.shows(">billing/concurrency")
	term.types("?")
	term.shows("limiting cannot help")
	term.types("?")
	term.shows(">billing/concurrency")

	resize := func(w, h int) {
		term.mu.Lock()
		term.screen.Resize(w, h)
		term.mu.Unlock()
		if err := pty.Setsize(term.pty, &pty.Winsize{Cols: uint16(w), Rows: uint16(h)}); err != nil {
			t.Fatal(err)
		}
	}
	resize(40, 10)
	term.shows("terminal too small")
	resize(120, 30)
	term.shows("MIN..MAX")
	term.types("q")
	term.ends(exitOK)
}

// TestIdleScreenSendsNothing counts the bytes on the line to the terminal while the daemon answers the same.
func TestIdleScreenSendsNothing(t *testing.T) {
	daemon := &fixture.Server{}
	server := httptest.NewServer(daemon)
	defer server.Close()
	term := start(t, 120, 30, nil, binary(t), "--connect", server.URL)
	term.shows("q quit")
	term.shows("██")
	ticks := daemon.Ticks.Load()
	term.until("a second has passed", func() bool { return daemon.Ticks.Load() > ticks+10 })
	written := term.written()
	term.until("the daemon has told the same for two seconds", func() bool { return daemon.Ticks.Load() > ticks+30 })
	if more := term.written() - written; more != 0 {
		t.Errorf("%d bytes sent while nothing changed", more)
	}
	term.types("q")
	term.ends(exitOK)
}

func TestReconnectsByItself(t *testing.T) {
	var gone sync.RWMutex
	daemon := &fixture.Server{}
	away := false
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		gone.RLock()
		refuse := away
		gone.RUnlock()
		if refuse {
			panic(http.ErrAbortHandler)
		}
		daemon.ServeHTTP(w, r)
	}))
	defer server.Close()
	set := func(b bool) {
		gone.Lock()
		away = b
		gone.Unlock()
		if b {
			server.CloseClientConnections()
		}
	}

	set(true)
	term := start(t, 80, 24, nil, binary(t), "--connect", server.URL)
	term.shows("No data from governor")
	set(false)
	term.shows("LIVE")
	set(true)
	term.shows("STALE")
	term.shows("checkout/concurrency")
	set(false)
	term.shows("LIVE")
	term.types("q")
	term.ends(exitOK)
}

// TestPanicRestoresTheTerminal (A28): a fault anywhere in the program gives the shell its terminal back.
func TestPanicRestoresTheTerminal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for _, fault := range []string{"view", "update", "stream"} {
		t.Run(fault, func(t *testing.T) {
			term := start(t, 80, 24, []string{role + "=" + fault}, self)
			term.shows("checkout/concurrency")
			if fault != "stream" {
				term.types("j")
			}
			term.ends(exitError)
			if got := term.text(); !strings.Contains(got, "govtop failed on a mistake of its own") {
				t.Errorf("it does not say that it failed:\n%s", got)
			}
		})
	}
}

func TestNoColor(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	for _, c := range []struct {
		env      string
		coloured bool
	}{{"NO_COLOR=", true}, {"NO_COLOR=1", false}, {"NO_COLOR=yes", false}} {
		t.Run(c.env, func(t *testing.T) {
			term := start(t, 80, 24, []string{c.env}, binary(t), "--connect", server.URL)
			term.shows("q quit")
			coloured := false
			term.mu.Lock()
			for y := range 24 {
				for x := range 80 {
					if cell := term.screen.CellAt(x, y); cell != nil && cell.Style.Fg != nil {
						coloured = true
					}
				}
			}
			term.mu.Unlock()
			if coloured != c.coloured {
				t.Errorf("coloured: %v, want %v", coloured, c.coloured)
			}
			term.types("q")
			term.ends(exitOK)
		})
	}
}

func TestWithoutAScreen(t *testing.T) {
	run := func(cmd *exec.Cmd) (string, int) {
		out, err := cmd.CombinedOutput()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), exit.ExitCode()
		}
		return string(out), 0
	}
	out, code := run(exec.Command(binary(t)))
	if code != exitUsage || !strings.Contains(out, "govtop --once") || strings.Count(out, "\n") != 1 {
		t.Errorf("without a terminal: exit code %d, %q", code, out)
	}
	term := start(t, 80, 24, []string{"TERM=dumb"}, binary(t))
	term.shows("govtop --once")
	term.ends(exitUsage)
}
