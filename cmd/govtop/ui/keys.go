package ui

import (
	"fmt"
	"slices"
	"strings"

	"charm.land/bubbles/v2/key"
	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control/format"
)

// command is one action of a key in some place. The list of commands is the only way from a key to an action, and it
// generates the footer and the help: every key that works is explained.
type command struct {
	key.Binding
	group  string // its heading in the help
	on     place  // where the key works
	when   when
	acts   bool   // it affects more than the screen: read-only disables it
	footer string // its text in the footer; "": not in the footer
	spare  int    // if the footer is too long, the highest are dropped first
	do     func(m *Model) tea.Cmd
}

// The groups of the help, in order.
var groups = []string{"Moving", "Looking", "Time", "Acting", "While typing", "govtop"}

// commands is the key map.
func (m *Model) commands() []command {
	var all []command
	group := ""
	bind := func(keys string, on place, when when, does string, do func(m *Model) tea.Cmd) *command {
		names := strings.Fields(keys)
		if keys == " " {
			names = []string{"space"}
		}
		all = append(all, command{
			Binding: key.NewBinding(key.WithKeys(names...), key.WithHelp(strings.Join(names, ", "), does)),
			group:   group, on: on, when: when, do: do,
		})
		return &all[len(all)-1]
	}
	// A command that only changes the view returns nothing.
	view := func(do func(m *Model)) func(*Model) tea.Cmd {
		return func(m *Model) tea.Cmd { do(m); return nil }
	}
	move := func(delta func(m *Model) int) func(*Model) tea.Cmd {
		return view(func(m *Model) { m.move(delta(m)) })
	}
	const lists = onData | onHelp
	const away = inPause | inPast

	group = groups[0]
	bind("up k", lists, always, "up: a loop, an entry, a line", move(func(*Model) int { return -1 }))
	bind("down j", lists, always, "down", move(func(*Model) int { return 1 }))
	bind("pgup ctrl+b", lists, always, "a page up", move(func(m *Model) int { return -m.page() }))
	bind("pgdown ctrl+f", lists, always, "a page down", move(func(m *Model) int { return m.page() }))
	bind("home g", lists, always, "to the first", move(func(*Model) int { return -most }))
	bind("G", lists, always, "to the last", move(func(*Model) int { return most }))
	bind("end", lists, inPresent, "to the last", move(func(*Model) int { return most }))
	bind("end", onHelp, away, "to the last", move(func(*Model) int { return most }))
	bind("enter", onLoops, always, "show loop details", view(func(m *Model) { m.open(onLoop) })).foot("enter detail", 2)
	bind("enter", onDecisions, always, "go to the entry's loop", view((*Model).openEntry)).foot("enter loop", 2)
	bind("a", onLoops, always, "show the decisions of all loops", view(func(m *Model) { m.openDecisions("") })).
		foot("a decisions", 5)
	bind("a", onLoop, always, "show the decisions of this loop", view(func(m *Model) { m.openDecisions(m.called()) })).
		foot("a decisions", 3)
	bind("a", onDecisions, always, "switch between one loop and all", view(func(m *Model) {
		if m.decisions.loop == "" {
			m.openDecisions(m.called())
		} else {
			m.openDecisions("")
		}
	})).foot("a one/all", 3)
	bind("h", onLoops|onLoop|onDecisions, always, "health of the governor and its dependencies",
		view(func(m *Model) { m.healthTop = 0; m.open(onHealth) })).foot("h health", 6)
	bind("h", onHealth, always, "back", view((*Model).back))
	bind("esc", onLoop|onDecisions|onHealth, inPresent, "back", view((*Model).back)).foot("esc back", 1)
	bind("esc", onHelp, always, "back", view((*Model).back)).foot("esc back", 1)
	bind("esc", onData, away, "return to now from the past or a pause", view((*Model).present)).foot("esc now", 0)

	group = groups[1]
	bind("/", onLoops, always, "filter the loops: a regular expression for name, mode and state; ! inverts it",
		view((*Model).typeFilter)).foot("/ filter", 1)
	clear := bind("esc", onLoops, inPresent, "clear the filter", view(func(m *Model) { m.filter(Filter{}) }))
	if m.overview.filter.String() != "" {
		clear.foot("esc all", 1)
	}
	bind("s", onLoops, always, "change the sorting: hurts, name, state, ratio, value", view(func(m *Model) {
		m.overview.show((m.overview.order+1)%len(orders), false, m.overview.filter)
	})).foot("s sort", 4)
	bind("S", onLoops, always, "reverse the sorting", view(func(m *Model) {
		m.overview.show(m.overview.order, !m.overview.reverse, m.overview.filter)
	}))
	fold := bind("left", onLoops, always, "fold a service with routes into one line: the worst of them shows in it",
		view(func(m *Model) { m.fold(true) }))
	unfold := bind("right", onLoops, always, "unfold its routes", view(func(m *Model) { m.fold(false) }))
	switch m.foldable() {
	case head:
		fold.foot("left fold", 3)
	case folded:
		unfold.foot("right unfold", 3)
	}
	bind("z", onLoops, always, "fold all services with routes, or unfold them if none is left to fold", view((*Model).foldAll))
	bind("-", onData, always, "zoom out: charts and steps of 1m, 5m, 15m, 1h", view(func(m *Model) { m.zoomBy(1) }))
	bind("= +", onData, always, "zoom in", view(func(m *Model) { m.zoomBy(-1) }))
	bind("/", onHelp, always, "search the help", view((*Model).typeSearch)).foot("/ search", 1)

	group = groups[2]
	bind(" ", onData, inPresent, "pause: the screen stops, data keeps coming", view((*Model).pause)).
		foot("space pause", 4)
	bind(" ", onData, away, "return to now from the past or a pause", view((*Model).present))
	bind("[", onData, always, "rewind, within the governor's last hour",
		view(func(m *Model) { m.rewind(-1) })).foot("[ ] rewind", 3)
	bind("]", onData, always, "go forward, up to now", view(func(m *Model) { m.rewind(1) }))
	bind("end", onData, away, "return to now from the past or a pause", view((*Model).present))

	group = groups[3]
	ordered := false
	if l, ok := m.overview.current(); ok {
		ordered = l.Order != nil
	}
	order := func(k string, kind actuators.OrderKind, does string) {
		c := bind(k, onLoops|onLoop, inPresent, does, view(func(m *Model) { m.openForm(kind) })).act()
		if kind != actuators.Resume || ordered {
			c.foot(k+" "+string(kind), 2)
		}
		bind(k, onLoops|onLoop, away, does, view(func(m *Model) { m.refuse(kind) })).act()
	}
	order("f", actuators.Freeze, "freeze the loop: its value stays until you resume it or the order expires")
	order("r", actuators.Resume, "resume the loop: it decides again")
	order("o", actuators.Override, "override the loop: set its value yourself")
	undo := bind("u", onLoops|onLoop, inPresent, "take back the last order that you have given since govtop was started",
		view((*Model).takeBack)).act()
	if m.last != nil {
		undo.foot("u undo", 2)
	}
	bind("u", onLoops|onLoop, away, "take back the last order that you have given since govtop was started",
		view(func(m *Model) { m.refuse("undo") })).act()
	bind("y", onLoops|onLoop, always, "copy what the loop does and why, and the command that shows it (OSC 52)", (*Model).copyLoop)
	bind("ctrl+y", inForm, always, "copy the command that gives the order (OSC 52)", (*Model).copyCommand)
	bind("e", onData, always, "export the screen's data as JSON", (*Model).export).act().foot("e export", 7)

	group = groups[4]
	bind("enter", inFilter, always, "keep the filter", view((*Model).keepTyped)).foot("enter keep", 0)
	bind("esc", inFilter, always, "clear the filter", view((*Model).clearTyped)).foot("esc clear", 0)
	bind("enter", inSearch, always, "keep the search", view((*Model).keepTyped)).foot("enter keep", 0)
	bind("esc", inSearch, always, "clear the search", view((*Model).clearTyped)).foot("esc clear", 0)

	group = groups[5]
	bind("?", onData, always, "this help", view(func(m *Model) { m.helpTop, m.search = 0, ""; m.open(onHelp) })).
		foot("? help", 0)
	bind("?", onHelp, always, "back", view((*Model).back))
	bind("ctrl+z", everywhere, always, "suspend govtop; fg brings it back", (*Model).suspend)
	bind("q", lists, always, "quit", func(*Model) tea.Cmd { return tea.Quit }).foot("q quit", 0)
	bind("ctrl+c", everywhere, always, "quit", func(*Model) tea.Cmd { return tea.Quit })

	if m.options.ReadOnly {
		all = slices.DeleteFunc(all, func(c command) bool { return c.acts })
	}
	return all
}

func (c *command) foot(text string, spare int) *command { c.footer, c.spare = text, spare; return c }

func (c *command) act() *command { c.acts = true; return c }

// most is larger than any list.
const most = 1 << 30

// bound returns the commands available here and now.
func (m *Model) bound() []command {
	on, when := m.context(), m.when()
	return slices.DeleteFunc(m.commands(), func(c command) bool { return c.on&on == 0 || c.when&when == 0 })
}

// press runs the command of a key. While text is typed, other keys are text; elsewhere they do nothing.
func (m *Model) press(k tea.KeyPressMsg) tea.Cmd {
	m.notice = notice{}
	for _, c := range m.bound() {
		if key.Matches(k, c.Binding) {
			return c.do(m)
		}
	}
	switch {
	case m.form != nil:
		return m.fillIn(k)
	case m.prompt.in != 0:
		m.prompt.line, _ = m.prompt.line.update(k)
		m.typed()
	}
	return nil
}

// paste adds pasted text to what is being typed. Elsewhere it is dropped: text is not a sequence of commands.
func (m *Model) paste(text string) {
	switch {
	case m.form != nil:
		f := m.form.paste(text)
		m.form = &f
	case m.prompt.in != 0:
		m.prompt.line = m.prompt.line.insert(strings.TrimRight(text, "\r\n"))
		m.typed()
	}
}

// move moves the cursor, or scrolls the screen.
func (m *Model) move(delta int) {
	w, h := m.width, m.body()
	switch m.screen() {
	case onHelp:
		m.helpTop = min(max(m.helpTop+delta, 0), max(len(m.help(w))-m.helpRoom(), 0))
	case onHealth:
		if m.fleet() != nil {
			m.healthTop = min(max(m.healthTop+delta, 0), m.healthView().most(w, h))
		}
	case onDecisions:
		if m.fleet() != nil {
			m.decisions.move(delta, w, h)
		}
	default:
		m.overview.move(delta, m.divide().rows)
	}
}

// page is the distance of a page key.
func (m *Model) page() int {
	switch m.screen() {
	case onHelp:
		return m.helpRoom()
	case onLoops, onLoop:
		return m.divide().rows
	}
	return max(m.height-8, 1)
}

// called returns the name of the loop under the cursor; "" if there is none.
func (m *Model) called() string {
	if l, ok := m.overview.current(); ok {
		return name(l)
	}
	return ""
}

func (m *Model) openDecisions(loop string) {
	m.decisions = decisionsView{loop: loop}
	m.open(onDecisions)
}

// openEntry goes to the loop of the selected decision.
func (m *Model) openEntry() {
	e, ok := m.decisions.current()
	switch {
	case !ok:
	case m.overview.find(e.loop):
		m.open(onLoop)
	default:
		m.say(warning, e.about()+" is not in the overview")
	}
}

// zoomBy changes the span of the charts, and says why they stay as they are where nothing is known of the rest of it.
func (m *Model) zoomBy(n int) {
	m.zoom = min(max(m.zoom+n, 0), len(zooms)-1)
	l, ok := m.overview.current()
	if !ok || !m.showsLoop() || m.screen() == onDecisions {
		return
	}
	if v := m.detailView(l); v.shows() < v.span {
		m.say(plain, fmt.Sprintf("The charts go back up to %s; the history of %s is only %s long",
			spanText(v.span), name(l), format.Age(v.now.Sub(v.points[0].At))))
	}
}

// filter changes the loops that the overview shows.
func (m *Model) filter(f Filter) { m.overview.show(m.overview.order, m.overview.reverse, f) }

func (m *Model) typeFilter() {
	m.prompt = prompt{in: inFilter, line: newLine(m.overview.filter.String())}
}

func (m *Model) typeSearch() { m.prompt = prompt{in: inSearch, line: newLine(m.search)} }

// typed applies the text typed so far. While a filter is incomplete, the last valid one stays in force.
func (m *Model) typed() {
	text := m.prompt.line.text()
	if m.prompt.in == inSearch {
		m.search, m.helpTop = text, 0
		return
	}
	f, err := ParseFilter(text)
	if m.prompt.err = err; err == nil {
		m.filter(f)
	}
}

func (m *Model) keepTyped() { m.prompt = prompt{} }

func (m *Model) clearTyped() {
	m.prompt.line = line{}
	m.typed()
	m.prompt = prompt{}
}

// footer names the available keys, as many as fit: those that are easy to find elsewhere are dropped first.
func (m *Model) footer(w int) string {
	keys := slices.DeleteFunc(m.bound(), func(c command) bool { return c.footer == "" })
	for {
		var segments []string
		last := 0
		for _, c := range keys {
			segments = append(segments, c.footer)
			last = max(last, c.spare)
		}
		text := strings.Join(segments, "  ")
		if fit.Width(text) <= w || last == 0 {
			return paint(dim, fit.Clip(text, w))
		}
		for i, key := range slices.Backward(keys) {
			if key.spare == last {
				keys = slices.Delete(keys, i, i+1)
				break
			}
		}
	}
}
