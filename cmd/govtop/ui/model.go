package ui

import (
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

	pollEvery    = time.Second
	fetchTimeout = 5 * time.Second
	backoffMost  = 15 * time.Second
	staleAfter   = 3 * time.Second // without an answer, though none has failed: a hanging daemon
)

// Model is the screen.
type Model struct {
	source  Source
	address string
	version string
	ctx     context.Context  // ends the polls in flight with the program
	clock   func() time.Time // read by commands only
	every   time.Duration    // between ticks

	width, height int
	now           time.Time // of the latest tick or answer
	data          *Snapshot // nil: none yet
	link          link
	overview      overview
	help          bool
	helpTop       int // first line of the help shown
}

// link is the connection to the governor.
type link struct {
	fetching bool
	lastOK   time.Time
	err      error // of the last poll; nil where it succeeded
	failures int   // in a row
	retryAt  time.Time
}

type (
	tickMsg    time.Time
	fetchedMsg struct {
		at   time.Time
		data Snapshot
		err  error
	}
)

// New returns the screen of the governor behind source. The address and version are for the header.
func New(ctx context.Context, source Source, address, version string) Model {
	return Model{source: source, address: Clean(address), version: Clean(version), ctx: ctx, clock: time.Now,
		every: pollEvery}
}

// Init implements tea.Model: the first poll starts at once.
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
	case fetchedMsg:
		m.fetched(msg)
	}
	if m.data != nil {
		m.overview.settle(m.data.Loops, m.tableLines())
	}
	return m, cmd
}

// tick is the only timer of the screen: it starts the polls and lets ages grow.
func (m *Model) tick(now time.Time) tea.Cmd {
	m.now = now
	ctx, source, clock := m.ctx, m.source, m.clock
	again := tea.Tick(m.every, func(time.Time) tea.Msg { return tickMsg(clock()) })
	if m.link.fetching || now.Before(m.link.retryAt) {
		return again
	}
	m.link.fetching = true
	return tea.Batch(again, func() tea.Msg {
		ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
		defer cancel()
		data, err := Fetch(ctx, source)
		data.clean()
		return fetchedMsg{at: clock(), data: data, err: err}
	})
}

// fetched takes over what a poll brought. A failure keeps the data and makes it old.
func (m *Model) fetched(f fetchedMsg) {
	m.now = f.at
	m.link.fetching = false
	if f.err != nil {
		m.link.failures++
		m.link.err = f.err
		m.link.retryAt = f.at.Add(backoff(m.link.failures))
		return
	}
	m.link = link{lastOK: f.at}
	m.data = &f.data
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
	old := m.now.Sub(m.link.lastOK)
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
		return "STALE " + age(old) + ", waiting for an answer", alarm
	}
	return "LIVE", calm
}

func (l *link) retry(now time.Time) string {
	if l.fetching {
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
	table := m.overview.render(m.data.Loops, now, w, lines, stale)
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
