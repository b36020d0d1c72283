package ui

import (
	"context"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
)

const (
	minWidth, minHeight = 60, 15 // below this a loop cannot be shown properly

	tickEvery    = time.Second
	fetchTimeout = 5 * time.Second
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

	// The data.
	now        time.Time // of the latest tick or batch of events
	connection connection
	live       *fleet // the newest data; nil: none yet
	sparks     sparks
	deep       bool      // the sparklines reach back an hour
	reach      time.Time // of the oldest decision in the history that was fetched last; zero: not known
	file       dossier   // of the loop on the screen
	log        dossier   // of all loops

	// The view.
	width, height int
	background    background
	profile       colorprofile.Profile
	theme         theme
	graph         graph
	zoom          int     // index of zooms and rewindSteps
	above         []place // the path from the overview to the current screen
	overview      overview
	decisions     decisionsView
	healthTop     int    // first line of the health screen
	helpTop       int    // first line of the help
	search        string // the search in the help
	still         *fleet // the data of a paused screen; nil: not paused
	stillSparks   sparks
	past          rewind

	top   []string // the header, and the banner
	drawn string   // the frame: redrawn after messages that change the view

	// The user's input.
	prompt prompt
	form   *form // nil: none is open
	notice notice
	last   *given // the last order that was recorded; nil: none
}

// notice is a line that stays until the next key.
type notice struct {
	tone tone
	text string
}

func (m *Model) say(t tone, text string) { m.notice = notice{t, Clean(text)} }

type tickMsg time.Time

// Themes are the names of the themes, the default first. The automatic one asks the terminal for its background color.
var Themes = []string{"auto", "dark", "light", "mono"}

// Graphs are the names of the chart characters, the default first.
var Graphs = []string{string(graphBraille), string(graphBlock), string(graphASCII)}

// Options are a user's choices about the screen. The zero value is the default.
type Options struct {
	ReadOnly bool      // disable the keys that change anything
	Theme    string    // one of Themes, "": the first
	Graph    string    // one of Graphs, "": the first
	Loop     string    // the loop to show at the start, SERVICE/KNOB; "": all
	At       time.Time // the instant of the past to show at the start; zero: the present
	Filter   string    // the initial filter of the overview; see ParseFilter
	Actor    string    // the initial actor of orders
	// Save stores an export under a name and returns its path. A command calls it. nil: exports are disabled.
	Save func(name string, content []byte) (string, error)
	// Resumable says whether a shell could bring a suspended program back, and Gone whether the terminal has been closed.
	// Commands call them. nil: always, and never.
	Resumable, Gone func() bool
}

// New returns the screen for the governor behind source. The address and version are for the header. A filter that
// cannot be parsed selects every loop.
func New(ctx context.Context, source Source, address, version string, options Options) Model {
	m := Model{
		source: source, address: Clean(address), version: Clean(version), options: options, ctx: ctx,
		clock: time.Now, every: tickEvery, gap: frameGap, sparks: sparks{}, zoom: defaultZoom, graph: graph(options.Graph),
	}
	if m.graph == "" {
		m.graph = graphBraille
	}
	m.overview.strokes = m.graph.strokes()
	if m.options.Theme == "" {
		m.options.Theme = Themes[0]
	}
	m.overview.filter, _ = ParseFilter(Clean(options.Filter))
	if options.Loop != "" {
		m.overview.selected, m.above = Clean(options.Loop), []place{onLoop}
	}
	m.paint()
	return m
}

// defaultZoom is the index of five minutes, which is also the span of the sparklines.
const defaultZoom = 1

// Init implements tea.Model: it makes the first connection at once.
func (m Model) Init() tea.Cmd {
	first := func() tea.Msg { return tickMsg(m.clock()) }
	if m.options.Theme == Themes[0] {
		return tea.Batch(first, tea.RequestBackgroundColor)
	}
	return first
}

// Update implements tea.Model. It does no I/O and reads no clock.
func (m Model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	was, word := m.live, m.linkWord()
	var cmd tea.Cmd
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
		m.overview.top = 0 // the scroll position must not depend on earlier sizes
	case tea.BackgroundColorMsg:
		m.background = light
		if msg.IsDark() {
			m.background = dark
		}
		m.paint()
	case tea.ColorProfileMsg:
		m.profile = msg.Profile
		m.paint()
	case tea.KeyPressMsg:
		cmd = m.press(msg)
	case tea.PasteMsg:
		m.paste(msg.Content)
	case tickMsg:
		cmd = m.tick(time.Time(msg))
	case heardMsg:
		cmd = m.hear(msg)
	case endedMsg:
		m.end(msg)
	case pastMsg:
		m.sparks.remember(msg.history)
		m.reach = Reach(msg.history)
		if m.live != nil {
			m.sparks.keep(m.live.Loops)
		}
	case toldMsg:
		m.told(msg)
	case thenMsg:
		m.arrive(msg)
	case orderedMsg:
		m.ordered(msg)
	case exportedMsg:
		m.exported(msg)
	case aloneMsg:
		m.say(warning, "Not suspended: no shell could bring govtop back. q quits")
	}
	switch msg.(type) {
	case tickMsg, heardMsg:
		// Time alone changes only the word for the connection. An idle screen draws no frames.
		if m.live == was && m.linkWord() == word {
			return m, tea.Batch(cmd, m.errands())
		}
	}
	if was == nil && m.live != nil {
		m.begin()
	}
	m.top = m.aboveBody(m.width)
	if f := m.fleet(); f != nil {
		m.overview.settle(f, m.divide().rows)
		m.file.write()
		m.log.write()
		if m.screen() == onDecisions {
			m.decisions = m.decisionsView()
		}
	}
	cmd = tea.Batch(cmd, m.errands())
	m.drawn = m.theme.apply(strings.Join(m.lines(), "\n"))
	return m, cmd
}

func (m *Model) linkWord() string {
	word, _ := m.connection.word(m)
	return word
}

// tick is the only timer of the screen: it makes connections and lets ages grow.
func (m *Model) tick(now time.Time) tea.Cmd {
	m.now = now
	clock := m.clock
	gone := m.options.Gone
	again := tea.Tick(m.every, func(time.Time) tea.Msg {
		if gone != nil && gone() {
			return tea.Quit()
		}
		return tickMsg(clock())
	})
	if m.connection.feed != nil || now.Before(m.connection.retryAt) {
		return again
	}
	return tea.Batch(again, m.connect())
}

// aloneMsg says that nobody could resume a suspended program.
type aloneMsg struct{}

// suspend stops the program until a shell brings it back, if there is one.
func (m *Model) suspend() tea.Cmd {
	resumable := m.options.Resumable
	return func() tea.Msg {
		if resumable != nil && !resumable() {
			return aloneMsg{}
		}
		return tea.Suspend()
	}
}

// told takes over the answer to a request for a dossier.
func (m *Model) told(t toldMsg) {
	d := &m.file
	if t.of == "" {
		d = &m.log
	}
	d.told(t)
}

// paint applies the colors.
func (m *Model) paint() { m.theme = newTheme(m.options.Theme, m.background, m.profile) }

// View implements tea.Model.
func (m Model) View() tea.View {
	view := tea.NewView(m.drawn)
	view.AltScreen = true
	return view
}
