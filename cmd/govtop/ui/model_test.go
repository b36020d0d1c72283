package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/build"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// TestFrameFitsEverySize draws every scene at random sizes, after random keys: no frame is larger than its terminal.
func TestFrameFitsEverySize(t *testing.T) {
	all := scenes()
	var names []string
	for name := range all {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		m := screen(1, 1, all[rapid.SampledFrom(names).Draw(t, "scene")]...)
		for range 3 {
			w, h := rapid.IntRange(1, 300).Draw(t, "width"), rapid.IntRange(1, 100).Draw(t, "height")
			keys := rapid.SliceOfN(rapid.SampledFrom([]string{"j", "k", "?", "g", "G", "pgup", "pgdown", "esc"}), 0, 5)
			m = after(m, append([]tea.Msg{tea.WindowSizeMsg{Width: w, Height: h}}, press(keys.Draw(t, "keys")...)...)...)
			lines := strings.Split(m.View().Content, "\n")
			if len(lines) > h {
				t.Fatalf("%d lines on a terminal of %d", len(lines), h)
			}
			for _, l := range lines {
				if ansi.StringWidth(l) > w {
					t.Fatalf("a line of %d cells on a terminal of %d: %q", ansi.StringWidth(l), w, l)
				}
			}
		}
	})
}

func TestEveryKeyIsExplainedOnce(t *testing.T) {
	onHelp := strings.Join(help(200), "\n")
	seen := map[string]string{}
	for _, c := range commands() {
		if c.Help().Desc == "" || !strings.Contains(onHelp, c.Help().Desc) {
			t.Errorf("the help screen does not explain %v", c.Keys())
		}
		for _, k := range c.Keys() {
			if other, ok := seen[k]; ok {
				t.Errorf("key %s does two things: %s, and %s", k, other, c.Help().Desc)
			}
			seen[k] = c.Help().Desc
			if !strings.Contains(c.Help().Key, k) {
				t.Errorf("the help screen does not name the key %s", k)
			}
		}
	}
}

// TestUndocumentedKeysDoNothing presses every printable key and the control keys that the key map does not name.
func TestUndocumentedKeysDoNothing(t *testing.T) {
	documented := map[string]bool{}
	for _, c := range commands() {
		for _, k := range c.Keys() {
			documented[k] = true
		}
	}
	before := screen(80, 24, mixed())
	var keys []string
	for r := '!'; r <= '~'; r++ {
		keys = append(keys, string(r))
	}
	for r := 'a'; r <= 'z'; r++ {
		keys = append(keys, "ctrl+"+string(r))
	}
	for _, k := range keys {
		if documented[k] {
			continue
		}
		next, cmd := before.Update(press(k)[0])
		if cmd != nil || frame(next.(Model)) != frame(before) {
			t.Errorf("key %s does something, but the help screen does not say so", k)
		}
	}
}

func TestQuitKeys(t *testing.T) {
	for _, k := range []string{"q", "ctrl+c"} {
		_, cmd := screen(80, 24, mixed()).Update(press(k)[0])
		if cmd == nil {
			t.Fatalf("%s does nothing", k)
		}
		if _, ok := cmd().(tea.QuitMsg); !ok {
			t.Errorf("%s does not quit", k)
		}
	}
}

// TestSelectionFollowsItsLoop: the line under the cursor is a loop, not a number; it stays when others come and go.
func TestSelectionFollowsItsLoop(t *testing.T) {
	m := screen(80, 24, append([]tea.Msg{mixed()}, press("j", "j", "j", "j")...)...)
	selected := func() string { return m.data.Loops[m.overview.index].Service }
	if selected() != "checkout" {
		t.Fatalf("four down from the top is %s", selected())
	}
	fewer := mixed()
	fewer.data.Loops = fewer.data.Loops[2:]
	if m = after(m, fewer); selected() != "checkout" {
		t.Errorf("with two loops gone the selection went to %s", selected())
	}
	gone := mixed()
	gone.data.Loops = gone.data.Loops[:2]
	if m = after(m, gone); selected() != "batch" {
		t.Errorf("with the selected loop gone the selection went to %s, not to the last loop", selected())
	}
	empty := mixed()
	empty.data.Loops = []api.Loop{}
	m = after(m, empty)
	if m = after(m, mixed()); !strings.Contains(frame(m), ">") {
		t.Error("after an empty answer nothing is selected")
	}
}

func TestLongListsScroll(t *testing.T) {
	many := mixed()
	many.data.Loops = nil
	for i := range 500 {
		l := fixture.Loops()[4]
		l.Service = fmt.Sprintf("service-%03d", i)
		many.data.Loops = append(many.data.Loops, l)
	}
	m := screen(80, 24, append([]tea.Msg{many}, press("end")...)...)
	if got := frame(m); !strings.Contains(got, ">service-499/conc") || !strings.Contains(got, "/500") {
		t.Errorf("end does not show the last of 500 loops:\n%s", got)
	}
	if got := frame(after(m, press("home")...)); !strings.Contains(got, ">service-000/conc") {
		t.Errorf("home does not show the first of 500 loops:\n%s", got)
	}
	m = after(m, press("home", "pgdown", "pgdown", "up")...)
	if got, want := m.overview.index, 2*m.tableLines()-1; got != want {
		t.Errorf("two pages down and one line up is loop %d, want %d", got, want)
	}
}

// TestReconnectBacksOff: polls that fail come at 1, 2, 4, 8, 15, 15 s, and one that succeeds ends that.
func TestReconnectBacksOff(t *testing.T) {
	m := screen(80, 24)
	m.source = down{}
	now := began
	m = after(m, failure(now))
	for _, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
		if got := m.link.retryAt.Sub(now); got != want*time.Second {
			t.Errorf("after %d failures the next try is in %v, want %vs", m.link.failures, got, int(want))
		}
		early := after(m, tickMsg(m.link.retryAt.Add(-time.Millisecond)))
		if early.link.fetching {
			t.Errorf("asked before the time")
		}
		now = m.link.retryAt
		if m = after(m, tickMsg(now)); !m.link.fetching {
			t.Fatalf("did not ask when it was time")
		}
		m = after(m, failure(now))
	}
	m = after(m, mixed())
	if m.link.failures != 0 || !strings.Contains(frame(m), "LIVE") {
		t.Errorf("an answer does not end the backoff:\n%s", frame(m))
	}
}

func TestOnePollAtATime(t *testing.T) {
	m := screen(80, 24) // a poll is under way
	if !m.link.fetching {
		t.Fatal("the first tick asks nothing")
	}
	m = after(m, mixed(), tickMsg(began.Add(time.Second)))
	m.link.lastOK = began
	for i := 2; i <= 10; i++ {
		next, _ := m.Update(tickMsg(began.Add(time.Duration(i) * time.Second)))
		m = next.(Model)
	}
	if got := frame(m); !strings.Contains(got, "STALE 10s, waiting for an answer") {
		t.Errorf("a daemon that hangs does not show:\n%s", got)
	}
}

func TestLoopWithoutNewDecisionsLooksOld(t *testing.T) {
	stuck := mixed()
	stuck.data.Loops[3].Decision.At = fixture.Now.Add(-95 * time.Second)
	if got := frame(screen(80, 24, stuck)); !strings.Contains(got, "= STEADY 1m old") {
		t.Errorf("a loop whose last decision is 95s old looks fresh:\n%s", got)
	}
}

// TestForeignTextCannotDriveTheTerminal: names and errors of other servers arrive with control characters, escape
// sequences, bidirectional overrides.
func TestForeignTextCannotDriveTheTerminal(t *testing.T) {
	const evil = "a\x1b[2J\x1b]0;owned\x07b\nc\td\u009b31me\u202ef\u200bg\x00h\xffi\x7f"
	hostile := mixed()
	l := &hostile.data.Loops[0]
	l.Service, l.Decision.Reason, l.Decision.Detail = evil, evil, evil
	l.Decision.State, l.Mode, l.Decision.HoldReason, l.Decision.Bound = evil, evil, evil, evil
	l.Decision.Terms.Law, l.Decision.Terms.Event, l.Decision.Gates.FloorTest = evil, evil, evil
	l.Decision.Inputs.Outliers = []string{evil}
	l.Published.Key, l.Published.Error = evil, evil
	s := &hostile.data.Status
	s.Version, s.Instance, s.Leader.Instance, s.Config.Hash = evil, evil, evil, evil
	s.Prometheus = api.Dependency{Address: evil, Error: evil}
	s.Loops = map[control.State]int{evil: 1}

	hostile.data.clean()
	for state := range hostile.data.Status.Loops {
		checkClean(t, string(state))
	}
	for _, m := range []Model{
		screen(120, 30, hostile),
		screen(80, 24, hostile, fetchedMsg{at: began, err: errors.New(evil)}),
		screen(80, 24, fetchedMsg{at: began, err: errors.New(evil)}),
	} {
		for line := range strings.SplitSeq(ansi.Strip(m.View().Content), "\n") {
			checkClean(t, line)
		}
		if n := strings.Count(m.View().Content, "\n"); n >= m.height {
			t.Errorf("foreign text broke the frame into %d lines", n+1)
		}
	}
	var table bytes.Buffer
	raw := mixed().data
	raw.Loops[0].Service, raw.Loops[0].Decision.Reason = evil, evil
	if err := WriteTable(&table, raw); err != nil {
		t.Fatal(err)
	}
	for line := range strings.SplitSeq(table.String(), "\n") {
		checkClean(t, line)
	}
}

func checkClean(t *testing.T, line string) {
	t.Helper()
	if i := strings.IndexFunc(line, func(r rune) bool {
		return r < ' ' || (r >= 0x7f && r < 0xa0) || r == '\u202e' || r == '\u200b'
	}); i >= 0 {
		t.Errorf("a control character at %d of %q", i, line)
	}
	if strings.Contains(line, "owned") {
		t.Errorf("the payload of an escape sequence was printed: %q", line)
	}
}

func TestWideCharactersKeepTheColumns(t *testing.T) {
	wide := mixed()
	wide.data.Loops[0].Service = "結帳サービス決済基盤"
	wide.data.Loops[1].Service = "cafe\u0301"
	var columns []int
	for line := range strings.SplitSeq(ansi.Strip(screen(80, 24, wide).View().Content), "\n") {
		for _, state := range []string{"~ HOLD", "! AT MAX", "! INFEASIBLE"} {
			if i := strings.Index(line, state); i >= 0 {
				columns = append(columns, ansi.StringWidth(line[:i]))
			}
		}
	}
	if len(columns) != 3 || columns[0] != columns[1] || columns[1] != columns[2] {
		t.Errorf("wide and combining characters shift the column STATE: it starts at %v", columns)
	}
	if got := shortName(wide.data.Loops[0], 20); ansi.StringWidth(got) > 20 || !strings.HasSuffix(got, "/concurrency") {
		t.Errorf("a wide name is cut to %q", got)
	}
}

// TestUpdateDoesNoIO: the package cannot reach the network, and Update asks nothing of its source.
func TestUpdateDoesNoIO(t *testing.T) {
	here, err := build.ImportDir(".", 0)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range here.Imports {
		if path == "net" || strings.HasPrefix(path, "net/") || path == "os" {
			t.Errorf("the package imports %s: the screen gets its data through Source", path)
		}
	}
	source := &counting{}
	m := New(context.Background(), source, "", "")
	for i := range 5 {
		m = after(m, tickMsg(began.Add(time.Duration(i)*time.Second)), mixed())
	}
	if n := source.polls.Load(); n != 0 {
		t.Errorf("Update asked the source %d times", n)
	}
}

// TestNothingChangedWritesNothing runs the real renderer against a source whose answers do not change, and counts
// bytes.
func TestNothingChangedWritesNothing(t *testing.T) {
	source := &counting{}
	screen := &output{}
	keys, hold := io.Pipe()
	defer hold.Close()

	m := New(t.Context(), source, "http://127.0.0.1:9747", "0.3.0")
	m.every = time.Millisecond
	program := tea.NewProgram(m, tea.WithInput(keys), tea.WithOutput(screen), tea.WithWindowSize(120, 30),
		tea.WithEnvironment([]string{"TERM=xterm-256color"}), tea.WithoutSignals(), tea.WithFPS(120))
	done := make(chan error, 1)
	go func() { _, err := program.Run(); done <- err }()

	eventually(t, "the first frame", func() bool { return strings.Contains(screen.String(), "checkout/concurrency") })
	polls, written := source.polls.Load(), screen.Len()
	eventually(t, "a hundred more polls", func() bool { return source.polls.Load() >= polls+100 })
	if more := screen.Len() - written; more != 0 {
		t.Errorf("%d bytes written while nothing changed: %q", more, screen.String()[written:])
	}

	source.alert.Store(true)
	eventually(t, "the change on the screen", func() bool { return screen.Len() > written })
	program.Quit()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func eventually(t *testing.T, what string, is func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("waited in vain for %s", what)
		}
	}
}

type down struct{}

func (down) Status(context.Context) (api.Status, error) { return api.Status{}, errUnreachable }
func (down) Loops(context.Context) ([]api.Loop, error)  { return nil, errUnreachable }

// counting serves the fixture and counts how often.
type counting struct {
	polls atomic.Int64
	alert atomic.Bool
}

func (c *counting) Status(context.Context) (api.Status, error) { return fixture.Status(), nil }

func (c *counting) Loops(context.Context) ([]api.Loop, error) {
	c.polls.Add(1)
	loops := fixture.Loops()
	if c.alert.Load() {
		loops[4].Decision.Value = 55
	}
	return loops, nil
}

// output is a terminal that only listens.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func (o *output) Len() int { return len(o.String()) }
