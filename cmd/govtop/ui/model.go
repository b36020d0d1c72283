package ui

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

const (
	minWidth, minHeight = 60, 15 // below, there is no honest way to show a loop

	tickEvery    = time.Second
	fetchTimeout = 5 * time.Second
	backoffMost  = 15 * time.Second
	staleAfter   = 2*api.Heartbeat + time.Second // nothing heard, though the connection stands: a hanging daemon
)

// Model is the screen.
type Model struct {
	source  Source
	address string
	version string
	options Options
	ctx     context.Context  // ends the commands in flight with the program
	clock   func() time.Time // read by commands only
	every   time.Duration    // between ticks
	gap     time.Duration    // between frames for data, at least

	width, height int
	now           time.Time // of the latest tick or batch of events
	data          *Snapshot // nil: none yet
	sparks        sparks
	link          link
	overview      overview
	help          bool
	helpTop       int // first line of the help shown
}

// link is the connection to the governor.
type link struct {
	feed     *feed     // of the connection that stands or is being made; nil: none
	heard    time.Time // when something last came
	seq      uint64    // of the last decision that came: where to go on
	err      error     // why the last connection ended; nil once the next one brings something
	failures int       // in a row
	retryAt  time.Time
}

type tickMsg time.Time

// Themes are the names of the themes, the default first. The automatic one asks the terminal for its background.
var Themes = []string{"auto", "dark", "light", "mono"}

// Graphs are the names of what charts are drawn with, the default first.
var Graphs = []string{"braille", "block", "ascii"}

// Options are what a user chooses about the screen. The zero value is the default.
type Options struct {
	ReadOnly bool   // there are no keys that change anything
	Theme    string // one of Themes, "": the first
	Graph    string // one of Graphs, "": the first
	Filter   string // see ParseFilter; what the overview begins with
	Actor    string // who gives orders, as forms begin with it
	// Save keeps an export under a name, and returns where it went. It is called by a command. nil: there is no export.
	Save func(name string, content []byte) (string, error)
}

// New returns the screen of the governor behind source. The address and version are for the header.
func New(ctx context.Context, source Source, address, version string, options Options) Model {
	return Model{source: source, address: Clean(address), version: Clean(version), options: options, ctx: ctx,
		clock: time.Now, every: tickEvery, gap: frameGap, sparks: sparks{}}
}

// Init implements tea.Model: the first connection is made at once.
func (m Model) Init() tea.Cmd {
	return func() tea.Msg { return tickMsg(m.clock()) }
}

// Update implements tea.Model. It does no I/O and reads no clock.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case tea.KeyPressMsg:
		cmd = m.press(msg)
	case tickMsg:
		cmd = m.tick(time.Time(msg))
	case heardMsg:
		cmd = m.hear(msg)
	case endedMsg:
		m.end(msg)
	case pastMsg:
		m.sparks.remember(msg.history)
		if m.data != nil {
			m.sparks.keep(m.data.Loops)
		}
	}
	if m.data != nil {
		m.overview.settle(m.data.Loops, m.tableLines())
	}
	return m, cmd
}

// tick is the only timer of the screen: it makes connections and lets ages grow.
func (m *Model) tick(now time.Time) tea.Cmd {
	m.now = now
	clock := m.clock
	again := tea.Tick(m.every, func(time.Time) tea.Msg { return tickMsg(clock()) })
	if m.link.feed != nil || now.Before(m.link.retryAt) {
		return again
	}
	return tea.Batch(again, m.connect())
}

// hear takes over a batch of events, and waits for the next.
func (m *Model) hear(h heardMsg) tea.Cmd {
	if h.feed != m.link.feed {
		return nil
	}
	m.now = h.at
	m.link.heard, m.link.err, m.link.failures = h.at, nil, 0
	var past tea.Cmd
	shown := Snapshot{}
	if m.data != nil {
		shown = Snapshot{Status: m.data.Status, Loops: slices.Clone(m.data.Loops)}
	}
	for _, e := range h.events {
		m.link.seq = max(m.link.seq, e.Seq)
		switch {
		case e.Snapshot != nil:
			shown = Snapshot{Status: e.Snapshot.Status, Loops: slices.Clone(e.Snapshot.Loops)}
			if shown.Loops == nil {
				shown.Loops = []api.Loop{}
			}
			if !e.Snapshot.Complete {
				m.link.seq = e.Seq // of another daemon, perhaps, whose numbers begin elsewhere
				past = m.remember()
			}
			m.sparks.keep(shown.Loops)
			for _, l := range shown.Loops {
				m.sparks.decided(l)
			}
		case e.Status != nil:
			shown.Status = *e.Status
		case e.Loop != nil:
			shown.decided(*e.Loop)
			m.sparks.decided(*e.Loop)
		}
	}
	if shown.Loops != nil {
		m.data = &shown
	}
	return tea.Batch(h.feed.next(m.ctx, m.clock, m.gap), past)
}

// decided replaces a loop by what it is after a decision. A loop that is not there has been removed by a reload.
func (s *Snapshot) decided(l api.Loop) {
	i, ok := slices.BinarySearchFunc(s.Loops, l, func(a, b api.Loop) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
	if !ok {
		return
	}
	s.Loops[i] = l
	if at := l.Decision.At; at.After(s.Status.Now) {
		s.Status.Now = at // the daemon's clock, as far as is known
	}
}

// end takes note that a connection has ended. What it brought stays and grows old.
func (m *Model) end(e endedMsg) {
	if e.feed != m.link.feed {
		return
	}
	m.now = e.at
	m.link.feed = nil
	m.link.failures++
	m.link.err = e.err
	m.link.retryAt = e.at.Add(backoff(m.link.failures))
}

// backoff doubles from one second.
func backoff(failures int) time.Duration {
	return min(time.Second<<min(failures-1, 10), backoffMost)
}

// stale reports whether the data is older than it should be, and how old it is.
func (m *Model) stale() (time.Duration, bool) {
	if m.data == nil {
		return 0, false
	}
	old := m.now.Sub(m.link.heard)
	return old, m.link.err != nil || old > staleAfter
}

// word is how the header calls the state of the connection.
func (l *link) word(m *Model) (string, tone) {
	old, stale := m.stale()
	switch {
	case m.data == nil && l.err == nil:
		return "CONNECTING", waiting
	case l.err != nil && m.data == nil:
		return "NOT CONNECTED, " + l.retry(m.now), alarm
	case l.err != nil:
		return "STALE " + age(old) + ", " + l.retry(m.now), alarm
	case stale:
		return "STALE " + age(old) + ", waiting for a sign of life", alarm
	}
	return "LIVE", calm
}

func (l *link) retry(now time.Time) string {
	if l.feed != nil {
		return "trying again"
	}
	// Rounded up: "in 0s" would stand while nothing happens.
	return "retry in " + age(max(l.retryAt.Sub(now), 0)+time.Second-1)
}

// View implements tea.Model.
func (m Model) View() tea.View {
	view := tea.NewView(strings.Join(m.lines(), "\n"))
	view.AltScreen = true
	return view
}

// lines draws the screen: never more than height lines, none wider than width.
func (m *Model) lines() []string {
	w, h := m.width, m.height
	switch {
	case w <= 0 || h <= 0:
		return nil
	case w < minWidth || h < minHeight:
		lines := wrap(fmt.Sprintf("terminal too small: %d×%d, need %d×%d", w, h, minWidth, minHeight), w, h)
		return lines
	}
	if m.help {
		return m.helpScreen()
	}
	out := indent(header(m, w-2))
	out = append(out, "")
	body := h - len(out) - 1 // the footer
	switch {
	case m.data == nil:
		out = append(out, fitted(indent(m.disconnected(w-2)), body)...)
	case len(m.data.Loops) == 0:
		out = append(out, fitted(indent(empty(m.data.Status, w-2)), body)...)
	default:
		out = append(out, m.loops(w, body)...)
	}
	return append(out, " "+footer(w-2))
}

// helpScreen takes the whole screen. Where even that is too low, the last line says how much is below.
func (m *Model) helpScreen() []string {
	all, room := indent(help(m.width-2)), m.height-1
	top := min(m.helpTop, max(len(all)-room, 0))
	out := fitted(slices.Clone(all[top:]), room)
	foot := footer(m.width - 2)
	if below := len(all) - top - room; below > 0 {
		foot = spread(m.width-2, "   ", foot, fmt.Sprintf("%d more %s below", below, plural(below, "line")))
	}
	return append(out, " "+foot)
}

// loops draws the table above the detail of the selected loop.
func (m *Model) loops(w, body int) []string {
	_, stale := m.stale()
	now, lines := m.data.Status.Now, m.tableLines()
	table := m.overview.render(m.data.Loops, m.sparks, now, w, lines, stale)
	about := detail(m.data.Loops[m.overview.index], now, w, body-1-lines, stale)
	return append(fitted(table, body-len(about)), about...)
}

// tableLines is how many loops fit between header and detail. A low screen gives lines of the detail to the table.
func (m *Model) tableLines() int {
	body := m.height - len(header(m, m.width-2)) - 2
	const fewest = 4
	about := min(detailLines, max(body-1-fewest, 0))
	return max(body-1-about, 1)
}

func (m *Model) disconnected(w int) []string {
	if m.link.err == nil {
		return []string{"Asking governor at " + m.address + " …"}
	}
	out := []string{bold.Render("No data from governor at " + m.address), ""}
	out = append(out, wrap(Clean(m.link.err.Error()), w, 4)...)
	return append(out, "", fmt.Sprintf("Attempt %d failed; %s.", m.link.failures, m.link.retry(m.now)),
		"", "Another address?   govtop --connect http://HOST:9747")
}

func empty(s api.Status, w int) []string {
	where := "its configuration"
	if s.Config.File != "" {
		where = s.Config.File
	}
	return append([]string{bold.Render("No loops"), ""},
		wrap("This governor steers nothing: "+where+" names no service with a knob.", w, 4)...)
}

// indent moves lines one cell away from the edge.
func indent(lines []string) []string {
	for i, l := range lines {
		if l != "" {
			lines[i] = " " + l
		}
	}
	return lines
}

// fitted cuts or fills lines to exactly n.
func fitted(lines []string, n int) []string {
	for len(lines) < n {
		lines = append(lines, "")
	}
	return lines[:max(n, 0)]
}
