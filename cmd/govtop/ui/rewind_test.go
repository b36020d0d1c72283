package ui

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestPauseLetsTheScreenStand: data arrives while the screen does not change; then everything shows at once.
func TestPauseLetsTheScreenStand(t *testing.T) {
	m := screen(120, 30, mixed(), pastMsg{fixture.History()})
	m = after(m, press("down", "down", "space")...)
	m = after(m, told("checkout", control.KnobConcurrency))
	paused := frame(m)
	if !strings.Contains(paused, "PAUSED 14:03:27") {
		t.Fatalf("the pause does not show:\n%s", paused)
	}
	later := fixture.Loops()[4]
	later.Decision.At, later.Decision.Value, later.Decision.Measured = fixture.Now.Add(time.Minute), 55, 0.9
	m = after(m, heard(began.Add(time.Minute), api.Event{Seq: 1001, Loop: &later}),
		tickMsg(began.Add(time.Minute+time.Second)))
	if got := frame(m); got != paused {
		t.Errorf("the paused screen moves:\n%s\nwas:\n%s", got, paused)
	}
	m = after(m, append(press("down", "up"), told("checkout", control.KnobConcurrency))...)
	if got := frame(m); got != paused {
		t.Errorf("moving about shows what came in the pause:\n%s", got)
	}
	m = after(m, press("space")...)
	got := frame(m)
	if strings.Contains(got, "PAUSED") || !strings.Contains(got, " 55 ") || !strings.Contains(got, "14:04:27") {
		t.Errorf("after the pause the screen does not show what is:\n%s", got)
	}
}

// TestRewind goes into the past and back.
func TestRewind(t *testing.T) {
	m := after(screen(120, 30, mixed()), press("[")...)
	at := fixture.Now.Add(-10 * time.Second)
	if got := frame(m); !strings.Contains(got, "PAST 14:03:27 (-0s)   going to 14:03:17") {
		t.Errorf("the way into the past does not show:\n%s", got)
	}
	m = after(m, thenAt(at))
	if got := frame(m); !strings.Contains(got, "PAST 14:03:17 (-10s)") || strings.Contains(got, "going") {
		t.Errorf("the past does not show:\n%s", got)
	}
	m = after(m, press("-", "-", "[")...) // a zoom of an hour
	if want := at.Add(-2 * time.Minute); !m.past.want.Equal(want) {
		t.Errorf("a step at the zoom of an hour leads to %v, want %v", m.past.want, want)
	}
	for range 60 {
		m = after(m, press("[")...)
	}
	oldest := fixture.Now.Add(-time.Hour)
	if !m.past.want.Equal(oldest) {
		t.Errorf("the way back ends at %v, want %v", m.past.want, oldest)
	}
	m = after(m, thenMsg{at: at.Add(-2 * time.Minute), err: errors.New("out of date")},
		thenMsg{at: oldest, err: errors.New("disk on fire")})
	if !strings.Contains(frame(m), "no answer for 13:03:27: disk on fire") || strings.Contains(frame(m), "out of date") {
		t.Errorf("the failure does not show:\n%s", frame(m))
	}
	// An hour later the oldest instant is younger.
	later := fixture.Loops()[4]
	later.Decision.At = fixture.Now.Add(time.Minute)
	m = after(m, heard(began, api.Event{Seq: 1001, Loop: &later}))
	m = after(m, press("[")...)
	if want := oldest.Add(time.Minute); !m.past.want.Equal(want) {
		t.Errorf("the way back ends at %v, want %v", m.past.want, want)
	}
	for _, back := range []string{"esc", "end", "space"} {
		if got := frame(after(m, press(back)...)); strings.Contains(got, "PAST") || !strings.Contains(got, "14:04:27 UTC") {
			t.Errorf("%s does not lead back to now:\n%s", back, got)
		}
	}
	for range 40 {
		m = after(m, press("]")...)
	}
	if m.when() != inPresent {
		t.Error("going forward does not end in the present")
	}
	if late := after(m, thenAt(oldest)); late.when() != inPresent {
		t.Error("an answer that comes late leads back into the past")
	}
}

// TestRewindAsksOnce: while a key is held down, one request is in flight, and the next is for where the user is by
// then.
func TestRewindAsksOnce(t *testing.T) {
	source := &asked{}
	m := screen(80, 24, mixed())
	m.source, m.deep = source, true
	var cmds []tea.Cmd
	hold := func(keys ...string) {
		for _, k := range press(keys...) {
			next, cmd := m.Update(k)
			m = next.(Model)
			cmds = append(cmds, cmd)
		}
	}
	hold("[", "[", "[", "[", "[", "[", "[", "[", "[", "[")
	source.runs(cmds...)
	if len(source.at) != 1 || !source.at[0].Equal(fixture.Now.Add(-10*time.Second)) {
		t.Fatalf("ten presses asked for %v, want one question, for ten seconds ago", source.at)
	}
	next, cmd := m.Update(thenAt(source.at[0]))
	m = next.(Model)
	source.runs(cmd)
	if len(source.at) != 2 || !source.at[1].Equal(fixture.Now.Add(-100*time.Second)) {
		t.Fatalf("the next question is for %v, want a hundred seconds ago", source.at[1:])
	}
	next, cmd = m.Update(thenAt(source.at[1]))
	m = next.(Model)
	source.runs(cmd)
	if len(source.at) != 2 || m.past.busy {
		t.Errorf("having arrived it asked for %v", source.at[2:])
	}
}

// asked is a source that records the requested instants.
type asked struct {
	Source
	at []time.Time
}

func (a *asked) LoopsAt(_ context.Context, at time.Time) ([]api.Loop, error) {
	a.at = append(a.at, at)
	return nil, nil
}

func (a *asked) runs(cmds ...tea.Cmd) {
	for _, cmd := range cmds {
		if cmd == nil {
			continue
		}
		if batch, ok := cmd().(tea.BatchMsg); ok {
			a.runs(batch...)
		}
	}
}

// TestNothingIsOrderedInThePast: the keys work, say why they do nothing, and send nothing.
func TestNothingIsOrderedInThePast(t *testing.T) {
	for _, away := range []string{"space", "["} {
		for _, k := range []string{"f", "r", "o"} {
			m := after(screen(80, 24, mixed()), press(away, k)...)
			if got := frame(m); m.form != nil || !strings.Contains(got, "esc goes back to now") {
				t.Errorf("%s after %s:\n%s", k, away, got)
			}
			if got := frame(after(m, press("down")...)); strings.Contains(got, "esc goes back to now") {
				t.Errorf("the message outlives the next key:\n%s", got)
			}
		}
	}
}

// TestDeepPast: after rewinding, the sparklines show the time before, fetched once.
func TestDeepPast(t *testing.T) {
	history := fixture.History()
	for i := range history.Loops {
		for j := range history.Loops[i].Points {
			p := &history.Loops[i].Points[j]
			p.At = p.At.Add(-30 * time.Minute)
		}
	}
	at := fixture.Now.Add(-30 * time.Minute)
	m := after(screen(130, 30, mixed()), press("[")...)
	if !m.deep {
		t.Error("the hour before is not asked for")
	}
	m = after(m, pastMsg{history}, thenAt(at))
	if got := frame(m); !strings.Contains(got, "▁▂▂▂▂▃▃▃▃▄") {
		t.Errorf("the sparklines do not show the past:\n%s", got)
	}
}

// asking is a screen for those options that has the fleet's data.
func asking(options Options) Model {
	m := New(context.Background(), nil, "http://127.0.0.1:9747", "0.3.0", options)
	return after(m, tea.WindowSizeMsg{Width: 100, Height: 30}, tickMsg(began), mixed())
}

// TestStartsAtALoopAndAnInstant, as the command in an alert does.
func TestStartsAtALoopAndAnInstant(t *testing.T) {
	at := fixture.Now.Add(-2 * time.Minute)
	m := asking(Options{Loop: "checkout/concurrency", At: at})
	if !m.past.want.Equal(at) || !m.past.busy {
		t.Errorf("it asks for %v", m.past.want)
	}
	m = after(m, thenAt(at))
	if got := frame(m); !strings.Contains(got, "PAST 14:01:27 (-2m 0s)") || !strings.Contains(got, "checkout/concurrency") ||
		m.screen() != onLoop {
		t.Errorf("the screen starts with\n%s", got)
	}
	if got := frame(asking(Options{Loop: "checkout/concurrency"})); strings.Contains(got, "PAST") {
		t.Errorf("without a time it does not start in the present:\n%s", got)
	}
	if m = asking(Options{Loop: "checkout/concurrency", At: fixture.Now.Add(time.Hour)}); m.when() != inPresent {
		t.Error("a time that has not come is not the present")
	}
}

// TestBeyondTheJournalItSaysHowFarBackItReaches.
func TestBeyondTheJournalItSaysHowFarBackItReaches(t *testing.T) {
	at := fixture.Now.Add(-30 * time.Hour)
	m := asking(Options{Loop: "checkout/concurrency", At: at})
	history := api.History{Loops: []api.LoopHistory{
		{Service: "auth", Points: []api.Point{{At: fixture.Now.Add(-40 * time.Minute)}}},
		{Service: "cart", Points: []api.Point{{At: fixture.Now.Add(-58 * time.Minute)}, {At: fixture.Now}}},
	}}
	m = after(m, pastMsg{history}, thenMsg{at: at})
	want := "the governor knows nothing before 13:05:27"
	if got := frame(m); !strings.Contains(got, want) || !strings.Contains(got, "PAST 2026-11-23 08:03:27") {
		t.Errorf("it does not say %q:\n%s", want, got)
	}
	if m = after(m, press("]")...); m.past.want.Before(fixture.Now.Add(-time.Hour)) && !m.past.want.After(at) {
		t.Errorf("going forward leads to %v", m.past.want)
	}
}

// TestAnUnknownLoopAtTheStart is named, with the one that was meant, and all loops are shown.
func TestAnUnknownLoopAtTheStart(t *testing.T) {
	m := asking(Options{Loop: "chekout/concurrency"})
	if got := frame(m); m.screen() != onLoops || !strings.Contains(got, "did you mean checkout/concurrency?") {
		t.Errorf("the screen starts with\n%s", got)
	}
}
