package ui

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/cmd/internal/loops"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// when says which moment the screen shows. Outside of the present the screen says so clearly, and nothing can be
// ordered.
type when int

const (
	inPresent when = 1 << iota
	inPause
	inPast
	always = inPresent | inPause | inPast
)

func (m *Model) when() when {
	switch {
	case m.past.shown != nil:
		return inPast
	case m.still != nil:
		return inPause
	}
	return inPresent
}

// rewind is the state of rewinding into the daemon's hour. Keys move the wanted instant. One request is in flight at a
// time; the next one is for wherever the user is by then.
type rewind struct {
	shown *fleet    // the data on the screen; nil: the present
	at    time.Time // the instant of it
	want  time.Time // the instant that the user wants
	busy  bool
	err   error // why there is no answer for want
}

// thenMsg is the answer to the request for the loops at an instant.
type thenMsg struct {
	at    time.Time
	loops []api.Loop
	err   error
}

// fleet returns the data on the screen; nil: none yet.
func (m *Model) fleet() *fleet {
	switch m.when() {
	case inPast:
		return m.past.shown
	case inPause:
		return m.still
	}
	return m.live
}

// rewindSteps is the step of a rewind key at each zoom.
var rewindSteps = []time.Duration{5 * time.Second, 10 * time.Second, 30 * time.Second, 2 * time.Minute}

// rewind moves the wanted instant by n steps, into the past or towards the present, and returns to the present at the
// end.
func (m *Model) rewind(n int) {
	if m.live == nil {
		return
	}
	now := m.live.Status.Now
	if m.past.shown == nil {
		if n > 0 {
			return
		}
		from := m.fleet().Status.Now
		m.past = rewind{shown: m.fleet(), at: from, want: from, busy: m.past.busy}
	}
	m.past.err = nil
	m.past.want = m.past.want.Add(time.Duration(n) * rewindSteps[m.zoom])
	if oldest := now.Add(-memory); m.past.want.Before(oldest) {
		m.past.want = oldest
	}
	if !m.past.want.Before(now) {
		m.present()
	}
}

// begin goes to the loop and the instant that the user asked for at the start, once there is data.
func (m *Model) begin() {
	if at := m.options.At; at.Before(m.live.Status.Now) && !at.IsZero() {
		now := m.live.Status.Now
		m.past = rewind{shown: m.live, at: now, want: at}
		return
	}
	if loop := m.overview.selected; loop != "" && !slices.Contains(m.live.names, loop) {
		m.above, m.overview.selected = nil, ""
		m.say(warning, "! "+loops.Unknown(loop, m.live.names).Error())
	}
}

// Reach is the instant of the oldest decision in a history; zero if there is none.
func Reach(h api.History) (oldest time.Time) {
	for _, l := range h.Loops {
		if len(l.Points) > 0 && (oldest.IsZero() || l.Points[0].At.Before(oldest)) {
			oldest = l.Points[0].At
		}
	}
	return oldest
}

// present returns to the present.
func (m *Model) present() {
	m.past = rewind{busy: m.past.busy}
	m.still, m.stillSparks = nil, nil
}

// pause stops the screen while data keeps coming.
func (m *Model) pause() {
	if m.live != nil {
		m.still, m.stillSparks = m.live, m.sparks.clone()
	}
}

// travel requests the instant that the user wants.
func (m *Model) travel() tea.Cmd {
	p := &m.past
	if p.shown == nil || p.busy || p.err != nil || p.want.Equal(p.at) {
		return nil
	}
	p.busy = true
	var sparks tea.Cmd
	if !m.deep {
		m.deep = true
		sparks = m.remember(memory, sparkStep)
	}
	ctx, source, at := m.ctx, m.source, p.want
	return tea.Batch(sparks, func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		loops, err := source.LoopsAt(ctx, at)
		return thenMsg{at, clean(loops), err}
	})
}

// arrive shows the loops of a past instant. The status is the present one, except its clock.
func (m *Model) arrive(t thenMsg) {
	m.past.busy = false
	if m.past.shown == nil || m.live == nil {
		return // the user is back in the present
	}
	if t.err != nil {
		if t.at.Equal(m.past.want) {
			m.past.err = t.err
		}
		return
	}
	if t.loops == nil {
		t.loops = []api.Loop{}
	}
	s := Snapshot{Status: m.live.Status, Loops: t.loops}
	s.Status.Now = t.at
	m.past.shown, m.past.at = newFleet(s), t.at
}

// banner says across the screen that the screen does not show the present. In the present there is none.
func (m *Model) banner(w int) []string {
	text := ""
	switch m.when() {
	case inPast:
		now := m.live.Status.Now
		text = fmt.Sprintf("PAST %s (%s)", stampOf(m.past.at, now), ago(now.Sub(m.past.at)))
		switch {
		case m.past.err != nil:
			text += "   no answer for " + stampOf(m.past.want, now) + ": " + Clean(m.past.err.Error())
		case !m.past.want.Equal(m.past.at):
			text += "   going to " + stampOf(m.past.want, now)
		case m.screen() == onHealth:
			text += "   health is current"
		case len(m.past.shown.Loops) == 0:
			text += "   " + m.forgotten()
		default:
			text += "   [ ] earlier, later by " + format.Age(rewindSteps[m.zoom]) + "   esc back to now"
		}
	case inPause:
		text = "PAUSED " + format.TimeOfDay(m.still.Status.Now) + "   screen stopped, data keeps coming   space back to now"
	default:
		return nil
	}
	return []string{paint(loud, fit.Left(" "+fit.Clip(text, w-1), w))}
}

// forgotten says that the governor remembers nothing of the instant on the screen, and how far back it does.
func (m *Model) forgotten() string {
	if m.reach.IsZero() {
		return "the governor has no data from then"
	}
	return "the governor knows nothing before " + stampOf(m.reach, m.live.Status.Now)
}

// stampOf is a clock time, with its date if it is another day's.
func stampOf(at, now time.Time) string { return strings.TrimSuffix(format.Clock(at, now), " UTC") }

// ago formats how far back something is: -10s, -4m 10s, -1h 0m.
func ago(d time.Duration) string {
	s := int(max(d, 0).Seconds())
	switch {
	case s < 60:
		return fmt.Sprintf("-%ds", s)
	case s < 3600:
		return fmt.Sprintf("-%dm %ds", s/60, s%60)
	}
	return fmt.Sprintf("-%dh %dm", s/3600, s/60%60)
}

// refuse says, outside of the present, that nothing can be ordered.
func (m *Model) refuse(kind actuators.OrderKind) {
	state := "the screen is paused"
	if m.when() == inPast {
		state = "this is the past"
	}
	m.say(warning, fmt.Sprintf("No %s: %s. esc goes back to now", kind, state))
}
