package demo

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/internal/embedded"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

var epoch = time.Date(2026, time.November, 24, 14, 3, 0, 0, time.UTC)

func at(seconds float64) time.Time { return epoch.Add(time.Duration(seconds * float64(time.Second))) }

// sized is a screen of w×h that has seen nothing.
func sized(w, h int) screen {
	s := screen{ctx: context.Background(), view: view{seed: 1, servers: (&World{embedded: &embedded.World{}}).servers()}}
	return after(s, tea.WindowSizeMsg{Width: w, Height: h})
}

func after(s screen, messages ...tea.Msg) screen {
	for _, m := range messages {
		next, _ := s.Update(m)
		s = next.(screen)
	}
	return s
}

func pressed(name string) tea.KeyPressMsg {
	switch name {
	case "esc":
		return tea.KeyPressMsg{Code: tea.KeyEscape}
	case "up":
		return tea.KeyPressMsg{Code: tea.KeyUp}
	case "down":
		return tea.KeyPressMsg{Code: tea.KeyDown}
	case "ctrl+c":
		return tea.KeyPressMsg{Code: 'c', Mod: tea.ModCtrl}
	}
	return tea.KeyPressMsg{Code: []rune(name)[0], Text: name}
}

// told are the messages of a story that plays by itself for the given number of seconds, with two looks per second that
// see what the real screen sees, and the effect of change at the end.
func told(t *testing.T, until float64, change func(*Frame)) []tea.Msg {
	t.Helper()
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	var messages []tea.Msg
	begins := 0.0
	for i, a := range acts {
		if begins > until {
			break
		}
		messages = append(messages, sceneMsg{
			act: a, number: i + 1, of: len(acts), from: at(begins),
			end: at(DefaultDuration.Seconds()),
		})
		ends := begins + a.Lasts.Seconds()
		for second := begins + 0.5; second <= min(ends, until); second += 0.5 {
			f := found(a, second-begins)
			f.At = at(second)
			if second+0.5 > until && change != nil {
				change(&f)
			}
			messages = append(messages, lookMsg(f))
		}
		begins = ends
	}
	return messages
}

// found is the visible state some seconds into an act.
func found(a Act, into float64) Frame {
	decided := func(knob control.Knob, value float64, state control.State, reason string) api.Loop {
		return api.Loop{Service: "governed", Knob: knob, Decision: control.Decision{
			Knob: knob, State: state, Value: control.Number(value), Reason: reason,
			Inputs: control.Inputs{EffectiveLimit: control.Number(value)},
		}, Published: &api.Published{Value: value, Revision: 7}}
	}
	f := Frame{
		Load: a.Load * BaseLoad, Slow: a.Slow, Lost: a.Lost,
		Static:    Traffic{Good: 97, P99: 0.204, Critical: 1},
		Governed:  Traffic{Good: 98, P99: 0.198, Critical: 1},
		Governors: []string{"http://127.0.0.1:43963", "http://127.0.0.1:43965"}, Leader: "governor-1",
		Loop: decided(control.KnobConcurrency, 32, control.Steady,
			"keep 32: mean 44 ms <= setpoint 120 ms; the limit does not bind (occupancy 13.1%)"),
		Shed: decided(control.KnobShed, 0.6, control.Steady, "keep 0.6"),
	}
	under := Traffic{Lost: 91, Refused: 7, Queue: 1021, P99: 1}
	switch a.Name {
	case surge:
		f.Static = Traffic{
			Good: max(0, 140-70*int(into)), Late: max(0, 120-20*int(into)), Lost: min(250, 60*int(into)),
			Queue: min(1024, 160*int(into+1)), P99: 1,
		}
		f.Governed = Traffic{Good: 188, Late: 5, Refused: 104, Queue: 11, Critical: 0.998, P99: 0.283}
		f.Loop = decided(control.KnobConcurrency, 25, control.Cutting, "cut 32->25: mean 157 ms > setpoint 120 ms; "+
			"Little 182/s x 120 ms = 21.8; refused 35.5%; the guards' own limit runs at 29")
		f.Loop.Decision.Inputs.EffectiveLimit = 29
		f.Shed = decided(control.KnobShed, 0.44, control.Cutting, "cut")
	case healed, back:
		f.Static = under
	case dependency:
		f.Static = under
		f.Governed = Traffic{Good: 91, Late: 3, Refused: 6, P99: 0.43, Critical: 1}
		f.Loop = decided(control.KnobConcurrency, 32, control.Ineffective, "keep 32: mean 159 ms <= setpoint 194 ms; "+
			"limiting cannot help: the service itself needs 155 ms")
	case prometheus:
		f.Static = under
		f.Loop = decided(control.KnobConcurrency, 32, control.Hold, "hold 32: query_error, Post "+
			"\"http://127.0.0.1:38075/api/v1/query\": dial tcp 127.0.0.1:38075: connect: connection refused")
		f.Loop.Decision.Inputs.EffectiveLimit = control.Number(math.NaN())
	case leader:
		f.Static = under
		f.Governors, f.Leader = f.Governors[1:], ""
		f.Loop.Decision.State, f.Loop.Decision.Value = control.Cutting, 16 // the standby's own, which nobody obeys
	}
	return f
}

// situations are the golden frames, at every size.
func situations(t *testing.T) map[string][]tea.Msg {
	t.Helper()
	acts, err := Story(DefaultDuration)
	if err != nil {
		t.Fatal(err)
	}
	byHand := orderPrometheus.act(orderDependency.act(acts[1]))
	all := map[string][]tea.Msg{
		"starting": nil,
		"unheard": told(t, 4, func(f *Frame) {
			f.Loop, f.Shed, f.Leader = api.Loop{}, api.Loop{}, ""
			f.Err = errors.New("Get \"http://127.0.0.1:43963/\x1b]0;owned\a\": context deadline exceeded")
		}),
		"by-hand": append(told(t, 25, nil), sceneMsg{act: byHand, of: len(acts), from: at(25.5)},
			lookMsg(found(byHand, 1))),
		"refused": append(told(t, 80, nil), sceneMsg{
			act: acts[6], number: 7, of: 7, from: at(68), end: at(90),
			note: "kill the leader: there is no standby", noted: at(79),
		}),
		"waiting": append(told(t, 20, nil), sceneMsg{act: acts[1], number: 2, of: 7, from: at(10)}),
		"busy":    told(t, 15, func(f *Frame) { f.Lateness = 1234 * time.Millisecond }),
		"unfilled": told(t, 50, func(f *Frame) {
			f.Loop.Decision.State, f.Loop.Decision.Measured, f.Loop.Decision.Setpoint = control.Steady, 0.161, 0.12
			f.Loop.Decision.Reason = "keep 32: mean 161 ms > setpoint 120 ms; the limit does not bind (occupancy 40.9%)"
		}),
		"help": append(told(t, 20, nil), pressed("?")),
	}
	begins := 0.0
	for _, a := range acts {
		begins += a.Lasts.Seconds()
		all[a.Name] = told(t, begins-0.5, nil)
	}
	return all
}

func TestFrames(t *testing.T) {
	for name, messages := range situations(t) {
		for _, size := range [][2]int{{120, 30}, {80, 24}, {60, 15}, {59, 15}} {
			name := fmt.Sprintf("%s-%dx%d", name, size[0], size[1])
			t.Run(name, func(t *testing.T) {
				golden.File(t, "testdata/"+name+".txt", after(sized(size[0], size[1]), messages...).text())
			})
		}
	}
}

// text is the screen without colors and without trailing blanks.
func (s screen) text() string { return golden.Frame(s.View().Content) }

func TestFrameFitsEverySize(t *testing.T) {
	for name, messages := range situations(t) {
		s := after(sized(80, 24), messages...)
		for _, w := range []int{0, 1, 2, 20, 59, 60, 61, 65, 71, 78, 79, 80, 81, 99, 119, 120, 121, 300} {
			for _, h := range []int{0, 1, 2, 14, 15, 16, 19, 23, 24, 25, 100} {
				s.width, s.height = w, h
				lines := strings.Split(s.View().Content, "\n")
				if w > 0 && len(lines) > h && h > 0 {
					t.Fatalf("%s at %d×%d has %d lines", name, w, h, len(lines))
				}
				for _, l := range lines {
					if fit.Width(l) > w {
						t.Fatalf("%s at %d×%d: %d cells wide: %q", name, w, h, fit.Width(l), ansi.Strip(l))
					}
				}
			}
		}
	}
}

func TestEveryKeyIsExplainedOnce(t *testing.T) {
	seen := map[string]bool{}
	help := after(sized(100, 60), append(told(t, 5, nil), pressed("?"))...).text()
	for _, k := range keys() {
		if k.does == "" || !strings.Contains(help, k.does) {
			t.Errorf("the help does not say what %v do: %q", k.names, k.does)
		}
		if (k.footer == "") != (k.short == "") {
			t.Errorf("%v: %q in a wide footer, %q in a narrow one", k.names, k.footer, k.short)
		}
		for _, name := range k.names {
			if seen[name] {
				t.Errorf("%s does two things", name)
			}
			if got := pressed(name).String(); got != name {
				t.Errorf("the key %s calls itself %s", name, got)
			}
			seen[name] = true
		}
	}
}

func TestKeysGiveOrders(t *testing.T) {
	var got []order
	s := sized(80, 24)
	s.tell = func(_ context.Context, o order) { got = append(got, o) }
	for _, name := range []string{"1", "2", "3", "4", "5", "a", "x"} {
		_, cmd := s.Update(pressed(name))
		if len(got) > 0 && cmd == nil && name != "x" {
			t.Errorf("%s does nothing", name)
		}
		if cmd != nil {
			if msg := cmd(); msg != nil {
				t.Errorf("%s sends %v", name, msg)
			}
		}
	}
	want := []order{orderCalm, orderSurge, orderDependency, orderPrometheus, orderLeader, orderAuto}
	if !slices.Equal(got, want) {
		t.Errorf("orders %v, want %v", got, want)
	}
}

func TestQuits(t *testing.T) {
	for _, msg := range []tea.Msg{pressed("q"), pressed("ctrl+c"), overMsg{}} {
		_, cmd := sized(80, 24).Update(msg)
		if cmd == nil {
			t.Errorf("%v does not quit", msg)
		} else if _, quits := cmd().(tea.QuitMsg); !quits {
			t.Errorf("%v does not quit", msg)
		}
	}
}

// TestLooksInCommandsOnly: Update and View must not wait for a network, and one look follows another.
func TestLooksInCommandsOnly(t *testing.T) {
	looks := 0
	s := sized(80, 24)
	s.look = func(context.Context) Frame { looks++; return Frame{At: at(1)} }
	cmd := s.Init()
	if looks != 0 {
		t.Fatal("Init looks by itself")
	}
	msg := cmd()
	if _, is := msg.(lookMsg); !is || looks != 1 {
		t.Fatalf("the first command brings %T after %d looks", msg, looks)
	}
	next, cmd := s.Update(msg)
	next.View()
	if looks != 1 || cmd == nil {
		t.Errorf("%d looks in Update and View; another one will follow: %v", looks-1, cmd != nil)
	}
}

func TestLastWordOfGovernorStays(t *testing.T) {
	s := after(sized(120, 30), told(t, 20, nil)...)
	silent := Frame{At: at(20.5), Load: 300, Err: errors.New("context deadline exceeded")}
	if text := after(s, lookMsg(silent)).text(); !strings.Contains(text, "limit 25  ! NO ANSWER") {
		t.Errorf("a governor that is silent for a moment:\n%s", text)
	}
}

// TestTooEarlyIsNotBlind: a leader that has just taken over does measure.
func TestTooEarlyIsNotBlind(t *testing.T) {
	s := after(sized(120, 30), told(t, 64, func(f *Frame) {
		f.Leader = "governor-2"
		f.Loop.Decision = control.Decision{
			State: control.Hold, HoldReason: control.Starting, Value: 32, Reason: "hold 32: starting",
		}
	})...)
	if text := s.text(); strings.Contains(text, "No measurement") || !strings.Contains(text, "It is too early to act") {
		t.Errorf("a leader that has just taken over:\n%s", text)
	}
}

func TestPastIsForgotten(t *testing.T) {
	s := sized(80, 24)
	for second := range 4000 {
		s = after(s, sceneMsg{from: at(float64(second))}, lookMsg(Frame{At: at(float64(second) + 0.5)}))
	}
	if n := len(s.view.past); n > 400 {
		t.Errorf("%d frames are remembered", n)
	}
	if n := len(s.view.acts); n > 400 {
		t.Errorf("%d acts are remembered", n)
	}
}

func TestHelpScrollsWhereTheScreenIsLow(t *testing.T) {
	s := after(sized(60, 15), append(told(t, 5, nil), pressed("?"))...)
	if !strings.Contains(s.text(), "more below") || strings.Contains(s.text(), "demo-real") {
		t.Errorf("a low help does not say that there is more:\n%s", s.text())
	}
	for range 40 {
		s = after(s, pressed("down"))
	}
	if !strings.Contains(s.text(), "demo-real") {
		t.Errorf("the end of the help cannot be reached:\n%s", s.text())
	}
	s = after(s, pressed("up"))
	if !strings.Contains(s.text(), "more below") {
		t.Errorf("up does nothing after too many downs:\n%s", s.text())
	}
}
