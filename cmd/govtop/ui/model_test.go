package ui

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"go/build"
	"io"
	"maps"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestFrameFitsEverySize draws every scene at random sizes, after random keys and messages: no frame is larger than its
// terminal, and nothing that a user or a governor does breaks the program.
func TestFrameFitsEverySize(t *testing.T) {
	all := scenes()
	names := slices.Sorted(maps.Keys(all))
	keys := rapid.SampledFrom([]string{
		"j", "k", "?", "g", "G", "pgup", "pgdown", "home", "end", "esc", "enter", "tab",
		"space", "backspace", "s", "S", "/", "(", "a", "h", "[", "]", "-", "=", "f", "r", "o", "e", "1", "x",
	})
	none := changed(func(s *api.Snapshot) { s.Loops = nil })
	less := changed(func(s *api.Snapshot) { s.Loops = s.Loops[3:4] })
	rapid.Check(t, func(t *rapid.T) {
		m := screen(1, 1, all[rapid.SampledFrom(names).Draw(t, "scene")]...)
		m.source = &counting{}
		for range 3 {
			w, h := rapid.IntRange(1, 300).Draw(t, "width"), rapid.IntRange(1, 100).Draw(t, "height")
			m = after(m, tea.WindowSizeMsg{Width: w, Height: h})
			for _, k := range rapid.SliceOfN(keys, 0, 8).Draw(t, "keys") {
				m = after(m, press(k)...)
			}
			m = after(m, rapid.SampledFrom([]tea.Msg{
				tickMsg(began), mixed(), less, none, failure(began), told("", ""), told("checkout", control.KnobConcurrency),
				thenAt(fixture.Now.Add(-time.Hour)),
				thenMsg{at: fixture.Now, err: errUnreachable},
				orderedMsg{err: errUnreachable},
				pasted("one two\n"),
			}).Draw(t, "message"))
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

// contexts are all places and moments in which a key can be pressed, with and without read-only.
func contexts(t *testing.T) map[string]Model {
	t.Helper()
	all := map[string]Model{}
	for _, readOnly := range []bool{false, true} {
		for at, keys := range map[string][]string{"present": {}, "pause": {"space"}, "past": {"["}} {
			for where, more := range map[string][]string{
				"loops": {}, "detail": {"enter"}, "decisions": {"a"}, "health": {"h"}, "help": {"?"},
				"filter": {"/"}, "search": {"?", "/"}, "form": {"f"},
			} {
				if readOnly && at != "present" || where == "form" && (readOnly || at != "present") {
					continue
				}
				m := screen(80, 24)
				m.options.ReadOnly = readOnly
				m = after(m, append([]tea.Msg{mixed()}, press(append(slices.Clone(keys), more...)...)...)...)
				want := map[string]place{
					"loops": onLoops, "detail": onLoop, "decisions": onDecisions, "health": onHealth,
					"help": onHelp, "filter": inFilter, "search": inSearch, "form": inForm,
				}[where]
				if m.context() != want {
					t.Fatalf("%s, %s: the keys lead to %v", where, at, m.context())
				}
				all[fmt.Sprintf("%s, %s, read-only %v", where, at, readOnly)] = m
			}
		}
	}
	return all
}

// TestEveryKeyIsExplainedOnce: in every context a key does one thing, and the help explains it.
func TestEveryKeyIsExplainedOnce(t *testing.T) {
	used := map[string]bool{}
	for context, m := range contexts(t) {
		onHelp := strings.Join(m.help(1000), "\n")
		seen := map[string]string{}
		for _, c := range m.bound() {
			used[c.Help().Key+c.Help().Desc] = true
			if c.Help().Desc == "" || !strings.Contains(onHelp, c.Help().Desc) {
				t.Errorf("%s: the help screen does not explain %v", context, c.Keys())
			}
			if !slices.Contains(groups, c.group) {
				t.Errorf("the help has no heading for %v", c.Keys())
			}
			for _, k := range c.Keys() {
				if other, ok := seen[k]; ok {
					t.Errorf("%s: key %s does two things: %s, and %s", context, k, other, c.Help().Desc)
				}
				seen[k] = c.Help().Desc
				if !strings.Contains(c.Help().Key, k) {
					t.Errorf("the help screen does not name the key %s", k)
				}
			}
		}
	}
	m := screen(80, 24)
	for _, c := range m.commands() {
		if !used[c.Help().Key+c.Help().Desc] {
			t.Errorf("%v works nowhere", c.Keys())
		}
	}
}

// TestUndocumentedKeysDoNothing presses, in every context, every printable key and control key that the key map does
// not name there. While text is typed, they are text.
func TestUndocumentedKeysDoNothing(t *testing.T) {
	for context, before := range contexts(t) {
		if before.context()&(inFilter|inSearch|inForm) != 0 {
			continue
		}
		documented := map[string]bool{}
		for _, c := range before.bound() {
			for _, k := range c.Keys() {
				documented[k] = true
			}
		}
		var keys []string
		for r := '!'; r <= '~'; r++ {
			keys = append(keys, string(r))
		}
		for r := 'a'; r <= 'z'; r++ {
			keys = append(keys, "ctrl+"+string(r))
		}
		was := frame(before)
		for _, k := range append(keys, "tab", "space", "end", "enter", "esc") {
			if documented[k] {
				continue
			}
			next, _ := before.Update(press(k)[0])
			if frame(next.(Model)) != was {
				t.Errorf("%s: key %s does something, but the help screen does not say so", context, k)
			}
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

// TestSelectionFollowsItsLoop: the selection is a loop, not a line number; it stays when others come and go.
func TestSelectionFollowsItsLoop(t *testing.T) {
	m := screen(80, 24, append([]tea.Msg{mixed()}, press("s", "g", "j", "j", "j", "j")...)...) // sorted by name
	selected := func() string { return m.overview.of.Loops[m.overview.rows[m.overview.index].loop].Service }
	if selected() != "checkout" {
		t.Fatalf("four down from the top is %s", selected())
	}
	fewer := changed(func(s *api.Snapshot) { s.Loops = s.Loops[2:] })
	if m = after(m, fewer); selected() != "checkout" {
		t.Errorf("with two loops gone the selection went to %s", selected())
	}
	gone := changed(func(s *api.Snapshot) { s.Loops = s.Loops[:2] })
	if m = after(m, gone); selected() != "batch" {
		t.Errorf("with the selected loop gone the selection went to %s, not to the last loop", selected())
	}
	if m = after(m, mixed()); selected() != "checkout" {
		t.Errorf("the selection does not return with its loop, it is on %s", selected())
	}
	empty := changed(func(s *api.Snapshot) { s.Loops = nil })
	m = after(m, empty)
	if m = after(m, mixed()); !strings.Contains(frame(m), ">") {
		t.Error("after an empty answer nothing is selected")
	}
}

func TestLongListsScroll(t *testing.T) {
	many := changed(func(s *api.Snapshot) {
		s.Loops = nil
		for i := range 500 {
			l := fixture.Loops()[4]
			l.Service = fmt.Sprintf("service-%03d", i)
			s.Loops = append(s.Loops, l)
		}
	})
	m := screen(80, 24, append([]tea.Msg{many}, press("end")...)...)
	if got := frame(m); !strings.Contains(got, ">service-499/con…cy") || !strings.Contains(got, "/500") {
		t.Errorf("end does not show the last of 500 loops:\n%s", got)
	}
	if got := frame(after(m, press("home")...)); !strings.Contains(got, ">service-000/con…cy") {
		t.Errorf("home does not show the first of 500 loops:\n%s", got)
	}
	m = after(m, press("home", "pgdown", "pgdown", "up")...)
	if got, want := m.overview.index, 2*m.divide().rows-1; got != want {
		t.Errorf("two pages down and one line up is loop %d, want %d", got, want)
	}
}

// TestReconnectBacksOff: failing connections are retried after 1, 2, 4, 8, 15, 15 s; one that delivers resets that.
func TestReconnectBacksOff(t *testing.T) {
	now := began
	m := after(screen(80, 24), failure(now))
	for _, want := range []time.Duration{1, 2, 4, 8, 15, 15} {
		if got := m.connection.retryAt.Sub(now); got != want*time.Second {
			t.Errorf("after %d failures the next try is in %v, want %vs", m.connection.failures, got, int(want))
		}
		early := after(m, tickMsg(m.connection.retryAt.Add(-time.Millisecond)))
		if early.connection.feed != nil {
			t.Errorf("connected before the time")
		}
		now = m.connection.retryAt
		if m = after(m, tickMsg(now)); m.connection.feed == nil {
			t.Fatalf("did not connect when it was time")
		}
		m = after(m, failure(now))
	}
	m = after(m, tickMsg(m.connection.retryAt), mixed())
	if m.connection.failures != 0 || !strings.Contains(frame(m), "LIVE") {
		t.Errorf("an answer does not end the backoff:\n%s", frame(m))
	}
}

// TestReconnectGoesOnWhereItWas: the next connection asks for the events after the last one, and the answer is merged;
// a daemon that does not know that event starts anew.
func TestReconnectGoesOnWhereItWas(t *testing.T) {
	l := fixture.Loops()[4]
	l.Decision.Value, l.Decision.At = 55, fixture.Now.Add(5*time.Second)
	m := screen(120, 30, mixed(), heard(began, api.Event{Seq: 1007, Loop: &l}, api.Event{}), failure(began))
	source := &counting{}
	m.source = source
	next, cmd := m.Update(tickMsg(m.connection.retryAt))
	m = next.(Model)
	runs(cmd)
	if got := source.after.Load(); got != 1007 {
		t.Errorf("asked for what came after %d, want 1007", got)
	}
	m.connection.feed = testFeed
	again := changed(func(s *api.Snapshot) { s.Complete = true; s.Loops[4] = l })
	again.events[0].Seq = 1020
	if m = after(m, again); m.connection.seq != 1020 || !strings.Contains(frame(m), " 55 ") {
		t.Errorf("seq %d\n%s", m.connection.seq, frame(m))
	}
	other := mixed() // its numbers are lower, and it does not know 1020
	if m = after(m, other); m.connection.seq != 1000 {
		t.Errorf("another daemon counts from 1000, the next connection would ask for %d", m.connection.seq)
	}
	// A message from an abandoned connection changes nothing.
	stray := mixed()
	stray.feed = &feed{}
	stray.events[0].Snapshot.Loops = nil
	if m = after(m, stray, endedMsg{feed: stray.feed, err: errUnreachable}); len(m.live.Loops) != 10 || m.connection.err != nil {
		t.Error("a connection that was given up is still listened to")
	}
}

// runs starts the commands of a batch, and does not wait for their results.
func runs(cmd tea.Cmd) {
	if cmd == nil {
		return
	}
	done := make(chan tea.Msg, 1)
	go func() { done <- cmd() }()
	select {
	case msg := <-done:
		if batch, ok := msg.(tea.BatchMsg); ok {
			for _, c := range batch {
				runs(c)
			}
		}
	case <-time.After(50 * time.Millisecond):
	}
}

func TestSilenceShows(t *testing.T) {
	m := after(screen(80, 24), mixed())
	for i := range 5 {
		m = after(m, tickMsg(began.Add(time.Duration(i)*time.Second)))
	}
	if got := frame(m); !strings.Contains(got, "LIVE") {
		t.Errorf("a daemon that decides once a minute looks dead:\n%s", got)
	}
	if got := frame(after(m, tickMsg(began.Add(10*time.Second)))); !strings.Contains(got, "STALE 10s, waiting") {
		t.Errorf("a daemon that hangs does not show:\n%s", got)
	}
	if got := frame(after(m, heard(began.Add(11*time.Second), api.Event{}))); !strings.Contains(got, "LIVE") {
		t.Errorf("a heartbeat is no sign of life:\n%s", got)
	}
}

// TestEventsChangeWhatTheyTellOf: a decision changes its loop, a status the header, nothing else.
func TestEventsChangeWhatTheyTellOf(t *testing.T) {
	l := fixture.Loops()[4]
	l.Decision.Value, l.Decision.At = 55, fixture.Now.Add(5*time.Second)
	stranger := l
	stranger.Service = "removed by a reload"
	status := fixture.Status()
	status.Leader.Epoch = 42
	before := screen(120, 30, mixed())
	was := frame(before)
	got := frame(after(before, heard(began, api.Event{Status: &status}, api.Event{Seq: 1001, Loop: &l},
		api.Event{Seq: 1002, Loop: &stranger})))
	for _, part := range []string{" 55 ", "(epoch 42)", "14:03:32 UTC", "~ HOLD 25s"} {
		if !strings.Contains(got, part) {
			t.Errorf("the screen does not show %q:\n%s", part, got)
		}
	}
	if strings.Contains(got, "removed") {
		t.Errorf("a loop appears out of nowhere:\n%s", got)
	}
	if frame(before) != was {
		t.Error("the model before has changed as well")
	}
}

func TestSparkline(t *testing.T) {
	at := func(ago time.Duration) time.Time { return fixture.Now.Add(-ago) } // 14:03:27, in the step from 14:03:00
	var s spark
	for _, p := range []struct {
		ago                time.Duration
		measured, setpoint control.Number
	}{
		{time.Hour, 9, 1},
		{4 * time.Minute, 0, 1},
		{2 * time.Minute, 0.5, 1},
		{time.Minute, 1, 1},
		{59 * time.Second, 0.1, 1},
		{30 * time.Second, 2, 1},
		{3 * time.Minute, none, 1},
		{time.Second, 1.2, 1},
		{0, 7, 0},
	} {
		s.add(at(p.ago), p.measured, p.setpoint)
	}
	for ago, want := range map[time.Duration]string{
		0: " ▁   ▂ ▄█▅", -30 * time.Second: "▁   ▂ ▄█▅ ", -time.Hour: "          ",
	} {
		if got := s.draw(at(ago)); got != want {
			t.Errorf("%s later: %q, want %q", -ago, got, want)
		}
	}
	if got := (*spark)(nil).draw(fixture.Now); got != "" {
		t.Errorf("a loop without a past: %q", got)
	}
	m := screen(120, 30, mixed(), pastMsg{fixture.History()}, changed(func(s *api.Snapshot) { s.Loops = s.Loops[:2] }))
	if len(m.sparks) != 2 {
		t.Errorf("%d sparklines for 2 loops", len(m.sparks))
	}
}

func TestLoopWithoutNewDecisionsLooksOld(t *testing.T) {
	stuck := changed(func(s *api.Snapshot) { s.Loops[3].Decision.At = fixture.Now.Add(-95 * time.Second) })
	got := frame(screen(80, 24, append([]tea.Msg{stuck}, press("s", "g")...)...))
	if !strings.Contains(got, "= STEADY 1m old") {
		t.Errorf("a loop whose last decision is 95s old looks fresh:\n%s", got)
	}
}

// TestForeignTextCannotDriveTheTerminal: names and errors of other servers arrive with control characters, escape
// sequences, bidirectional overrides.
func TestForeignTextCannotDriveTheTerminal(t *testing.T) {
	const evil = "a\x1b[2J\x1b]0;owned\x07b\nc\td\u009b31me\u202ef\u200bg\x00h\xffi\x7f"
	raw := Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}
	l := &raw.Loops[0]
	l.Service, l.Decision.Reason, l.Decision.Detail = evil, evil, evil
	l.Decision.State, l.Mode, l.Decision.HoldReason, l.Decision.Bound = evil, evil, evil, evil
	l.Decision.Terms.Law, l.Decision.Terms.Event, l.Decision.Gates.FloorTest = evil, evil, evil
	l.Decision.Inputs.Outliers = []string{evil}
	l.Published.Key, l.Published.Error = evil, evil
	s := &raw.Status
	s.Version, s.Instance, s.Leader.Instance, s.Config.Hash = evil, evil, evil, evil
	s.Prometheus = api.Dependency{Address: evil, Error: evil}
	s.Loops = map[control.State]int{evil: 1}
	s.Warnings, s.Config.Error = []string{evil}, evil

	hostile := snapshot(raw.Status, raw.Loops)
	for state := range hostile.events[0].Snapshot.Status.Loops {
		checkClean(t, string(state))
	}
	for _, m := range []Model{
		screen(120, 30, hostile),
		screen(80, 24, hostile, endedMsg{feed: testFeed, at: began, err: errors.New(evil)}),
		screen(80, 24, endedMsg{feed: testFeed, at: began, err: errors.New(evil)}),
	} {
		for line := range strings.SplitSeq(ansi.Strip(m.View().Content), "\n") {
			checkClean(t, line)
		}
		if n := strings.Count(m.View().Content, "\n"); n >= m.height {
			t.Errorf("foreign text broke the frame into %d lines", n+1)
		}
	}
	var table bytes.Buffer
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
	wide := changed(func(s *api.Snapshot) {
		s.Loops[0].Service = "結帳サービス決済基盤"
		s.Loops[1].Service = "cafe\u0301"
	})
	var columns []int
	for line := range strings.SplitSeq(ansi.Strip(screen(80, 24, wide).View().Content), "\n") {
		for _, state := range []string{"~ HOLD", "! AT MAX", "! INFEASIBLE"} {
			if before, _, ok := strings.Cut(line, state); ok {
				columns = append(columns, ansi.StringWidth(before))
			}
		}
	}
	if len(columns) != 3 || columns[0] != columns[1] || columns[1] != columns[2] {
		t.Errorf("wide and combining characters shift the column STATE: it starts at %v", columns)
	}
	got := shortNames([]string{name(wide.events[0].Snapshot.Loops[0])}, 20)[0]
	if ansi.StringWidth(got) > 20 || !strings.HasSuffix(got, "/conc") {
		t.Errorf("a wide name is cut to %q", got)
	}
}

// TestUpdateDoesNoIO: the package cannot reach the network, and Update calls nothing on its source.
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
	m := New(context.Background(), source, "", "", Options{})
	for i := range 5 {
		m = after(m, tickMsg(began.Add(time.Duration(i)*time.Second)), mixed())
	}
	if n := source.asked.Load(); n != 0 {
		t.Errorf("Update asked the source %d times", n)
	}
}

// TestNothingChangedWritesNothing runs the real renderer against a source that repeats itself, and counts bytes. A
// change is then one frame, however many events report it.
func TestNothingChangedWritesNothing(t *testing.T) {
	source := &counting{}
	screen := &waittest.Buffer{}
	keys, hold := io.Pipe()
	defer hold.Close()

	m := New(t.Context(), source, "http://127.0.0.1:9747", "0.3.0", Options{})
	m.every, m.gap = time.Millisecond, time.Millisecond
	program := tea.NewProgram(m, tea.WithInput(keys), tea.WithOutput(screen), tea.WithWindowSize(130, 30),
		tea.WithEnvironment([]string{"TERM=xterm-256color"}), tea.WithoutSignals(), tea.WithFPS(120))
	done := make(chan error, 1)
	go func() { _, err := program.Run(); done <- err }()

	waittest.Until(t, "the first frame", func() bool { return strings.Contains(screen.String(), "checkout/concurrency") })
	waittest.Until(t, "the past", func() bool { return strings.Contains(screen.String(), "██") })
	waittest.Until(t, "the decisions", func() bool { return strings.Contains(screen.String(), "14:03:2") })
	told, written := source.told.Load(), screen.Len()
	waittest.Until(t, "a thousand more events", func() bool { return source.told.Load() >= told+1000 })
	if more := screen.Len() - written; more != 0 {
		t.Errorf("%d bytes written while nothing changed: %q", more, screen.String()[written:])
	}

	source.alert.Store(true)
	waittest.Until(t, "the change on the screen", func() bool { return screen.Len() > written })
	program.Quit()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// TestFramesForDataAreFew: events that arrive all the time are shown in batches, four per second.
func TestFramesForDataAreFew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		source := &counting{}
		m := New(ctx, source, "", "", Options{})
		runs := make(chan tea.Msg, 10)
		do := func(cmd tea.Cmd) {
			if cmd != nil {
				go func() { runs <- cmd() }()
			}
		}
		do(m.Init())
		frames, began := 0, time.Now()
		for time.Since(began) < 10*time.Second {
			msg := <-runs
			if batch, ok := msg.(tea.BatchMsg); ok {
				for _, c := range batch {
					do(c)
				}
				continue
			}
			if _, ok := msg.(heardMsg); ok {
				frames++
			}
			next, cmd := m.Update(msg)
			m = next.(Model)
			do(cmd)
		}
		if frames < 30 || frames > 41 {
			t.Errorf("%d frames in 10 s of %d events, want four a second", frames, source.told.Load())
		}
		cancel()
		for range 3 { // the tick, the connection, the wait for its events
			select {
			case <-runs:
			case <-time.After(2 * time.Second):
			}
		}
	})
}

// counting reports the fixture again and again, and counts.
type counting struct {
	Source               // nil: nothing else is asked
	asked  atomic.Int64  // calls
	told   atomic.Int64  // events
	after  atomic.Uint64 // the cursor it was last asked to go on from
	alert  atomic.Bool
}

func (c *counting) Status(context.Context) (api.Status, error) { return fixture.Status(), nil }

func (c *counting) Loops(context.Context) ([]api.Loop, error) { return fixture.Loops(), nil }

func (c *counting) History(context.Context, time.Duration, time.Duration) (api.History, error) {
	c.asked.Add(1)
	return fixture.History(), nil
}

func (c *counting) LoopHistory(
	context.Context, string, control.Knob, time.Duration, time.Duration,
) (api.LoopHistory, error) {
	c.asked.Add(1)
	return fixture.History().Loops[4], nil
}

func (c *counting) Decisions(context.Context, api.Query) (api.Decisions, error) {
	c.asked.Add(1)
	return api.Decisions{Decisions: fixture.Decisions()}, nil
}

func (c *counting) Audit(context.Context) (api.Audit, error) {
	c.asked.Add(1)
	return fixture.Audit(), nil
}

func (c *counting) Stream(ctx context.Context, after uint64, deliver func(api.Event) error) error {
	c.asked.Add(1)
	c.after.Store(after)
	e := api.Event{Seq: 1000, Snapshot: &api.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}}
	for {
		if err := deliver(e); err != nil {
			return err
		}
		c.told.Add(1)
		l := fixture.Loops()[4]
		if c.alert.Load() {
			l.Decision.Value = 55
		}
		e = api.Event{Seq: e.Seq + 1, Loop: &l}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Millisecond):
		}
	}
}
