package ui

import (
	"context"
	"fmt"
	"strconv"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// given is an order that the user has given in this session.
type given struct {
	kind   actuators.OrderKind
	before api.Loop // the loop when the order was sent
	at     time.Time
}

// orderedMsg is the outcome of an order.
type orderedMsg struct {
	before  api.Loop
	kind    actuators.OrderKind
	loop    string
	receipt api.Receipt
	err     error
}

// openForm opens the form for an order of the loop under the cursor.
func (m *Model) openForm(kind actuators.OrderKind) {
	l, ok := m.overview.current()
	if !ok {
		if home := m.overview.bare(); home != nil {
			m.say(warning, "Nothing to order here: "+home.lacksLoop())
		}
		return
	}
	if l.Callee != "" {
		m.say(warning, "The targets of calls take no orders of their own; governor freeze --all freezes them with all others")
		return
	}
	f := newForm(kind, l, m.options.Actor)
	m.form = &f
}

// fillIn passes a key to the form, and sends the order once it is complete.
func (m *Model) fillIn(k tea.KeyPressMsg) tea.Cmd {
	f, out := m.form.update(k)
	m.form = &f
	switch {
	case out.closed:
		m.form = nil
	case out.order != nil:
		if m.live != nil {
			f = f.follow(m.live.Loops) // the order that it replaces may be newer than the form
		}
		return m.order(f.kind, f.loop, *out.order)
	}
	return nil
}

func (m *Model) order(kind actuators.OrderKind, l api.Loop, c api.Command) tea.Cmd {
	ctx, source := m.ctx, m.source
	return func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		receipt, err := source.Order(ctx, l.Service, l.Knob, kind, c)
		return orderedMsg{l, kind, name(l), clean(receipt), err}
	}
}

// ordered reports the outcome of an order. If it was refused and its form is still open, the form says why.
func (m *Model) ordered(o orderedMsg) {
	waits := m.form != nil && m.form.sending && m.form.kind == o.kind && name(m.form.loop) == o.loop
	if o.err != nil {
		if waits {
			f := m.form.refused(o.err)
			m.form = &f
			return
		}
		m.say(alarm, fmt.Sprintf("! %s of %s was not recorded: %v", o.kind, o.loop, o.err))
		return
	}
	if waits {
		m.form = nil
	}
	m.file.old, m.log.old = true, true // the audit has it
	m.last = &given{o.kind, o.before, m.now}
	m.say(manual, fmt.Sprintf("%s of %s: %s", o.kind, o.loop, receiptText(o.receipt)))
}

// takeBack opens the form for the order that undoes the user's last one: it brings back the order that was in force
// before, if that has not ended, else the loop becomes automatic.
func (m *Model) takeBack() {
	if m.last == nil {
		m.say(plain, "There is nothing to take back: you have given no order since govtop was started")
		return
	}
	l := m.last.before
	if f := m.live; f != nil {
		if i, ok := f.find(l.Service, l.Knob); ok {
			l = f.Loops[i]
		}
	}
	what := fmt.Sprintf("This takes back your %s of %s: ", m.last.kind, name(l))
	before := m.last.before.Order
	now := m.live.Status.Now
	if before == nil || !before.Active(now) || before.ExpiresAt.IsZero() {
		if m.last.kind == actuators.Resume {
			m.say(plain, fmt.Sprintf("Your last order resumed %s, and no order had been in force that has not ended", name(l)))
			return
		}
		f := newForm(actuators.Resume, l, m.options.Actor)
		f.undoes = what + "the loop becomes automatic again, as it was before."
		f.fill(reasonField, "taken back")
		m.form = &f
		return
	}
	f := newForm(before.Kind, l, m.options.Actor)
	f.undoes = what + standing(*before) + " comes back, for the time that it had left."
	f.fill(reasonField, fit.Clip(before.Reason, actuators.MaxWords/4))
	f.fill(expiryField, max(before.ExpiresAt.Sub(now).Round(time.Second), time.Second).String())
	if before.Kind == actuators.Override {
		f.fill(valueField, strconv.FormatFloat(before.Value, 'f', -1, 64))
	}
	m.form = &f
}

// copyCommand copies the command that gives the order of the form.
func (m *Model) copyCommand() tea.Cmd {
	if m.form.blocked != "" {
		return nil
	}
	return tea.SetClipboard(m.form.shell())
}

// copyLoop copies what the loop under the cursor does and why, with the command that shows it again.
func (m *Model) copyLoop() tea.Cmd {
	l, ok := m.overview.current()
	if !ok {
		return nil
	}
	now := m.fleet().Status.Now
	m.say(plain, "Sent to the clipboard of your terminal, if it accepts that: "+name(l))
	return tea.SetClipboard(fmt.Sprintf("%s %s: %s\ngovtop --connect %s --loop %s --at %s\n", name(l), stateText(l, now),
		reason(l.Decision), quoted(m.address), quoted(name(l)), now.UTC().Format(time.RFC3339)))
}

func receiptText(r api.Receipt) string {
	switch {
	case r.Note != "":
		return r.Note
	case r.Leader != "":
		return "recorded; " + r.Leader + " enforces it"
	}
	return api.NotEnforced
}

// export writes the screen's data into a file.
func (m *Model) export() tea.Cmd {
	f := m.fleet()
	if f == nil {
		m.say(warning, "Nothing to export yet")
		return nil
	}
	e := Export{Snapshot: f.Snapshot}
	if m.when() == inPast {
		at := m.past.at
		e.Past = &at
	}
	if l, ok := m.overview.current(); ok && m.file.of == name(l) && m.file.loaded {
		past := api.LoopHistory{Service: l.Service, Knob: l.Knob}
		for _, p := range m.file.points {
			if !p.At.After(f.Status.Now) && !p.At.Before(f.Status.Now.Add(-zooms[m.zoom])) {
				past.Points = append(past.Points, p)
			}
		}
		e.History = []api.LoopHistory{past}
	}
	return exportCmd(m.options.Save, f.Status.Now, e)
}

func (m *Model) exported(e exportedMsg) {
	if e.err != nil {
		m.say(alarm, "! "+e.err.Error())
		return
	}
	m.say(calm, "Exported to "+e.path)
}
