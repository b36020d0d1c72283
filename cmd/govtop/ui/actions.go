package ui

import (
	"context"
	"fmt"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// orderedMsg is the outcome of an order.
type orderedMsg struct {
	kind    actuators.OrderKind
	loop    string
	receipt api.Receipt
	err     error
}

// openForm opens the form for an order of the loop under the cursor.
func (m *Model) openForm(kind actuators.OrderKind) {
	l, ok := m.overview.current()
	if !ok {
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
		return orderedMsg{kind, name(l), clean(receipt), err}
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
	m.say(manual, fmt.Sprintf("%s of %s: %s", o.kind, o.loop, receiptText(o.receipt)))
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
