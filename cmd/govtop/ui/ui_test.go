package ui

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

var update = flag.Bool("update", false, "rewrite the golden frames")

var began = time.Date(2026, time.November, 24, 14, 3, 28, 0, time.UTC)

var errUnreachable = &api.UnreachableError{
	Address: "http://127.0.0.1:9747", Err: errors.New("dial tcp 127.0.0.1:9747: connect: connection refused"),
}

// screen returns the model after the messages, on a terminal of w×h.
func screen(w, h int, messages ...tea.Msg) Model {
	m := New(context.Background(), nil, "http://127.0.0.1:9747", "0.3.0")
	return after(m, append([]tea.Msg{tea.WindowSizeMsg{Width: w, Height: h}, tickMsg(began)}, messages...)...)
}

func after(m Model, messages ...tea.Msg) Model {
	for _, msg := range messages {
		next, _ := m.Update(msg)
		m = next.(Model)
	}
	return m
}

func press(keys ...string) []tea.Msg {
	special := map[string]rune{"up": tea.KeyUp, "down": tea.KeyDown, "end": tea.KeyEnd, "home": tea.KeyHome,
		"pgup": tea.KeyPgUp, "pgdown": tea.KeyPgDown, "esc": tea.KeyEscape}
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

func mixed() fetchedMsg {
	return fetchedMsg{at: began, data: Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}}
}

func failure(at time.Time) fetchedMsg { return fetchedMsg{at: at, err: errUnreachable} }

// scenes are the states of the screen that the golden frames show, at every size.
func scenes() map[string][]tea.Msg {
	empty := mixed()
	empty.data.Loops = []api.Loop{}
	blind := mixed()
	lost := fixture.Now.Add(-95 * time.Second)
	blind.data.Status.Prometheus = api.Dependency{
		Address: "http://localhost:9090", Error: "connect: connection refused", Latency: none, LastOK: &lost,
	}
	blind.data.Status.Leader = api.LeaderInfo{}
	return map[string][]tea.Msg{
		"mixed":       append([]tea.Msg{mixed()}, press("down", "down", "down", "down")...),
		"empty":       {empty},
		"unreachable": {failure(began), tickMsg(began.Add(time.Second)), failure(began.Add(time.Second))},
		"stale":       {mixed(), failure(began.Add(12 * time.Second)), tickMsg(began.Add(13 * time.Second))},
		"blind":       {blind},
		"connecting":  {},
		"help":        append([]tea.Msg{mixed()}, press("?")...),
	}
}

var none = control.Number(nan())

func nan() float64 { v, _ := control.Reading{}.Value(); return v }

func TestFrames(t *testing.T) {
	for _, size := range [][2]int{{120, 30}, {80, 24}, {59, 14}} {
		for scene, messages := range scenes() {
			name := fmt.Sprintf("%s-%dx%d", scene, size[0], size[1])
			t.Run(name, func(t *testing.T) {
				m := screen(size[0], size[1], messages...)
				golden(t, name+".txt", frame(m))
			})
		}
	}
}

// frame returns the screen without its colours, and without the blanks at the end of its lines.
func frame(m Model) string {
	var text strings.Builder
	for line := range strings.SplitSeq(ansi.Strip(m.View().Content), "\n") {
		text.WriteString(strings.TrimRight(line, " ") + "\n")
	}
	return text.String()
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s has changed; go test -update rewrites it\ngot:\n%s\nwant:\n%s", path, got, want)
	}
}
