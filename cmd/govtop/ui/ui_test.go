package ui

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

var began = time.Date(2026, time.November, 24, 14, 3, 28, 0, time.UTC)

var errUnreachable = &api.UnreachableError{
	Address: "http://127.0.0.1:9747", Err: errors.New("dial tcp 127.0.0.1:9747: connect: connection refused"),
}

// screen returns the model after the messages, on a terminal of w×h.
func screen(w, h int, messages ...tea.Msg) Model {
	m := New(context.Background(), nil, "http://127.0.0.1:9747", "0.3.0", Options{})
	return after(m, append([]tea.Msg{tea.WindowSizeMsg{Width: w, Height: h}, tickMsg(began)}, messages...)...)
}

func after(m Model, messages ...tea.Msg) Model {
	for _, msg := range messages {
		next, _ := m.Update(msg)
		m = next.(Model)
		if m.connection.feed != nil {
			m.connection.feed = testFeed
		}
	}
	return m
}

func press(keys ...string) []tea.Msg {
	special := map[string]rune{
		"up": tea.KeyUp, "down": tea.KeyDown, "left": tea.KeyLeft, "right": tea.KeyRight, "end": tea.KeyEnd, "home": tea.KeyHome,
		"enter": tea.KeyEnter, "space": tea.KeySpace,
		"tab": tea.KeyTab, "backspace": tea.KeyBackspace, "pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "esc": tea.KeyEscape,
	}
	var messages []tea.Msg
	for _, k := range keys {
		if code, ok := special[k]; ok {
			messages = append(messages, tea.KeyPressMsg{Code: code})
			continue
		}
		if letter, ok := strings.CutPrefix(k, "ctrl+"); ok {
			messages = append(messages, tea.KeyPressMsg{Code: []rune(letter)[0], Mod: tea.ModCtrl})
			continue
		}
		messages = append(messages, tea.KeyPressMsg{Code: []rune(k)[0], Text: k})
	}
	return messages
}

// testFeed stands for the connection of every message in these tests.
var testFeed = &feed{events: make(chan api.Event), drained: make(chan struct{})}

// heard is a message of the events, as connect delivers them.
func heard(at time.Time, events ...api.Event) heardMsg {
	return heardMsg{feed: testFeed, at: at, events: clean(events)}
}

// snapshot is a message with all data.
func snapshot(status api.Status, loops []api.Loop) heardMsg {
	return heard(began, api.Event{Seq: 1000, Snapshot: &api.Snapshot{Status: status, Loops: loops}})
}

func mixed() heardMsg { return snapshot(fixture.Status(), fixture.Loops()) }

// families is a fleet with services that have routes.
func families() heardMsg { return snapshot(fixture.Status(), fixture.Routes().Loops) }

// changed is mixed with a change of its data.
func changed(change func(s *api.Snapshot)) heardMsg {
	s := &api.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}
	change(s)
	return heard(began, api.Event{Seq: 1000, Snapshot: s})
}

func failure(at time.Time) endedMsg { return endedMsg{feed: testFeed, at: at, err: errUnreachable} }

// scenes are the states of the screen in the golden frames, at every size.
func scenes() map[string][]tea.Msg {
	empty := changed(func(s *api.Snapshot) { s.Loops = nil })
	lost := fixture.Now.Add(-95 * time.Second)
	blind := changed(func(s *api.Snapshot) {
		s.Status.Prometheus = api.Dependency{
			Address: "http://localhost:9090", Error: "connect: connection refused", Latency: none, LastOK: &lost,
		}
		s.Status.Leader = api.LeaderInfo{}
	})
	warned := changed(func(s *api.Snapshot) {
		s.Status.Config.Error = "governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%\n" +
			"governor.yml:6:5: services.checkout.concurency: unknown key; did you mean \"concurrency\"?"
		s.Status.Warnings = []string{"Prometheus scrapes cart, checkout about every 15s, but the configuration says 5s: " +
			"set timing.scrape_interval to the real interval"}
	})
	stopped := changed(func(s *api.Snapshot) {
		s.Status.Freeze = &actuators.Order{Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412", At: fixture.Now}
		s.Status.Version = "0.5.1"
	})
	known := []tea.Msg{mixed(), pastMsg{fixture.History()}}
	routes := []tea.Msg{families(), pastMsg{fixture.HistoryOf(fixture.Routes().Loops)}}
	in := func(messages []tea.Msg, more ...any) []tea.Msg {
		all := slices.Clone(messages)
		for _, m := range more {
			if key, ok := m.(string); ok {
				m = press(key)[0]
			}
			all = append(all, m)
		}
		return all
	}
	return map[string][]tea.Msg{
		"mixed":     in(known, "down", "down", told("checkout", control.KnobConcurrency)),
		"shed":      in(known, told("payments", control.KnobShed), "S", "S"),
		"detail":    in(known, "down", "down", "enter", told("checkout", control.KnobConcurrency)),
		"decisions": in(known, "a", told("", ""), "down"),
		"health":    in(known, "h"),
		"filter":    in(known, "/", "p", "a", "y"),
		"wrong":     in(known, "/", "e", "(", "["),
		"nothing":   in(known, "/", "z", "z", "enter"),
		"paused":    in(known, "space", changed(func(s *api.Snapshot) { s.Loops = s.Loops[:3] })),
		"past":      in(known, "[", thenAt(fixture.Now.Add(-4*time.Minute-10*time.Second)), "f"),
		"form":      in(known, "down", "down", "o", "5", "0", "tab", "I", "N", "C"),
		"receipt": in(known, "down", "down", orderedMsg{
			kind: actuators.Freeze, loop: "checkout/concurrency",
			receipt: api.Receipt{Note: "recorded; gov-a enforces it"},
		}),
		"routes":        in(routes, "down", "down", "down"),
		"routes-detail": in(routes, "down", "down", "down", "enter"),
		"routes-folded": in(routes, "left"),
		"routes-bare":   in(routes, "s", "G", "z"),
		"routes-filter": in(routes, "/", "i", "m", "p", "o", "r", "t", "enter"),
		"routes-health": in(routes, "h"),
		"stopped":       {stopped},
		"search":        in(known, "?", "/", "b", "u", "r", "n"),
		"warned":        {warned},
		"empty":         {empty},
		"unreachable":   {failure(began), tickMsg(began.Add(time.Second)), failure(began.Add(time.Second))},
		"stale":         {mixed(), failure(began.Add(12 * time.Second)), tickMsg(began.Add(13 * time.Second))},
		"blind":         {blind},
		"connecting":    {},
		"help":          append([]tea.Msg{mixed()}, press("?")...),
	}
}

// told is the answer to a request for the past of a loop, or for the log of all.
func told(service string, knob control.Knob) toldMsg {
	msg := toldMsg{actions: fixture.Audit().Actions, at: began}
	for _, l := range fixture.Loops() {
		if l.Service == service && l.Knob == knob {
			msg.of, msg.points = name(l), fixture.Past(l, fixture.Now, time.Hour)
		}
	}
	for _, r := range fixture.Decisions() {
		if service == "" || r.Decision.Service == service && r.Decision.Knob == knob {
			msg.records = append(msg.records, r)
		}
	}
	msg.actions = slices.DeleteFunc(msg.actions, func(a actuators.Action) bool {
		return service != "" && a.Service != service
	})
	return msg
}

// thenAt is the answer to a request for the loops at an instant.
func thenAt(at time.Time) thenMsg {
	return thenMsg{at: at, loops: fixture.LoopsAt(fixture.Loops(), fixture.Now, at)}
}

var none = control.Number(nan())

func nan() float64 { v, _ := control.Reading{}.Value(); return v }

func TestFrames(t *testing.T) {
	for _, size := range [][2]int{{120, 30}, {80, 24}, {59, 14}} {
		for scene, messages := range scenes() {
			name := fmt.Sprintf("%s-%dx%d", scene, size[0], size[1])
			t.Run(name, func(t *testing.T) {
				m := screen(size[0], size[1], messages...)
				golden.File(t, "testdata/"+name+".txt", frame(m))
			})
		}
	}
}

// frame returns the screen without colors and without trailing blanks.
func frame(m Model) string { return golden.Frame(m.View().Content) }
