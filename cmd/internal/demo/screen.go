package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
)

const (
	// lookEvery is how often the screen takes a Frame, which counts a second of traffic and queries governor.
	lookEvery = 500 * time.Millisecond
	// framesPerSecond bounds how often the renderer looks for a change; data comes less often.
	framesPerSecond = 20
)

// screen is the model of the live screen. It does no I/O and reads no clock: its commands look at the world and pass
// orders to the player.
type screen struct {
	ctx  context.Context // ends the commands with the program
	look func(context.Context) Frame
	tell func(context.Context, order)

	width, height int
	view          view
}

type (
	lookMsg  Frame
	sceneMsg scene
	overMsg  struct{} // the player has finished
)

// key is one action on the keyboard. This list is the only way from a key to an action, and it generates the footer and
// the help.
type key struct {
	names  []string
	footer string // in the footer; "": not shown
	short  string // the same on a narrow screen
	does   string
	do     func(*screen) tea.Cmd
}

func keys() []key {
	tell := func(o order) func(*screen) tea.Cmd {
		return func(s *screen) tea.Cmd {
			ctx, tell := s.ctx, s.tell
			return func() tea.Msg { tell(ctx, o); return nil }
		}
	}
	scroll := func(by int) func(*screen) tea.Cmd {
		return func(s *screen) tea.Cmd {
			most := len(s.view.helpLines(s.width-2)) - (s.height - 1)
			s.view.helpTop = max(min(s.view.helpTop+by, most), 0)
			return nil
		}
	}
	return []key{
		{[]string{"1"}, "1 calm", "1 calm", "all is well: base load, no slow dependency, Prometheus up", tell(orderCalm)},
		{[]string{"2"}, "2 surge", "2 surge", "three times the load", tell(orderSurge)},
		{[]string{"3"}, "3 dependency", "3 slow", "make a dependency slow, or healthy again", tell(orderDependency)},
		{[]string{"4"}, "4 prometheus", "4 prom", "kill Prometheus, or bring it back", tell(orderPrometheus)},
		{[]string{"5"}, "5 leader", "5 kill", "kill the leading governor; there are two", tell(orderLeader)},
		{[]string{"a"}, "a auto", "a auto", "let the story play on, or make it wait", tell(orderAuto)},
		{[]string{"?", "esc"}, "? help", "? help", "this help, and back", func(s *screen) tea.Cmd {
			s.view.help, s.view.helpTop = !s.view.help, 0
			return nil
		}},
		{[]string{"down", "j"}, "", "", "scroll the help down", scroll(1)},
		{[]string{"up", "k"}, "", "", "scroll the help up", scroll(-1)},
		{
			[]string{"q", "ctrl+c"},
			"q quit", "q quit", "quit, with the scorecard of what was played",
			func(*screen) tea.Cmd { return tea.Quit },
		},
	}
}

// Init implements tea.Model.
func (s screen) Init() tea.Cmd { return s.see(0) }

// see looks at the world after a while.
func (s screen) see(after time.Duration) tea.Cmd {
	ctx, look := s.ctx, s.look
	return tea.Tick(after, func(time.Time) tea.Msg { return lookMsg(look(ctx)) })
}

// Update implements tea.Model.
func (s screen) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		s.width, s.height = msg.Width, msg.Height
	case lookMsg:
		s.view.saw(Frame(msg))
		return s, s.see(lookEvery)
	case sceneMsg:
		s.view.shift(scene(msg))
	case overMsg:
		return s, tea.Quit
	case tea.KeyPressMsg:
		for _, k := range keys() {
			if slices.Contains(k.names, msg.String()) {
				cmd := k.do(&s)
				return s, cmd
			}
		}
	}
	return s, nil
}

// View implements tea.Model.
func (s screen) View() tea.View {
	v := tea.NewView(strings.Join(s.view.render(s.width, s.height), "\n"))
	v.AltScreen = true
	return v
}

// saw stores a frame.
func (v *view) saw(f Frame) {
	if f.Err != nil && v.frame != nil {
		f.Loop, f.Shed = v.frame.Loop, v.frame.Shed // the last reported
	}
	v.frame = &f
	if len(v.acts) == 0 || f.At.Sub(v.acts[0].at) < time.Second {
		return // the frame's last second is not part of the story
	}
	v.past = append(v.past, moment{f.At, min(f.Load, Capacity), float64(f.Static.Good), float64(f.Governed.Good)})
	// A chart may round up its span.
	v.past = slices.DeleteFunc(v.past, func(m moment) bool { return m.at.Before(f.At.Add(-2 * chartSpan)) })
}

// shift stores the current scene.
func (v *view) shift(s scene) {
	if !s.from.Equal(v.scene.from) {
		v.acts = append(v.acts, start{s.from, s.act.Name})
		v.acts = slices.DeleteFunc(v.acts, func(a start) bool { return a.at.Before(s.from.Add(-2 * chartSpan)) })
	}
	v.scene = s
}

// foot is the footer.
func (v *view) foot(w int) string {
	var long, short []string
	for _, k := range keys() {
		if k.footer != "" {
			long, short = append(long, k.footer), append(short, k.short)
		}
	}
	for _, line := range []string{strings.Join(long, "   "), strings.Join(long, "  ")} {
		if len(line) <= w {
			return faint.Render(line)
		}
	}
	return faint.Render(fit.Clip(strings.Join(short, " "), w))
}

// helpLines explain the keys and the screen.
func (v *view) helpLines(w int) []string {
	lines := []string{strong.Render("Keys")}
	for _, k := range keys() {
		lines = append(lines, fit.Clip(fmt.Sprintf("  %-10s %s", strings.Join(k.names, ", "), k.does), w))
	}
	paragraph := func(title, text string) {
		lines = append(lines, "", strong.Render(title))
		lines = append(lines, fit.Wrap(text, w)...)
	}
	paragraph("The figures", fmt.Sprintf("Requests that ended within the last second: good, answered within %d ms; "+
		"late; lost, given up after %s or failed; refused, at every attempt. Queue: requests inside the service, "+
		"even if their clients gave up. Critical: the share of these answered. p99: of the admitted attempts.",
		SLO.Milliseconds(), ClientTimeout))
	paragraph("What runs", "Sidecars and governors are the production commands, in this process. The services sleep "+
		"instead of working. "+v.servers)
	return lines
}

// helpScreen fills the whole screen. If the help does not fit, the last line says how much is below.
func (v *view) helpScreen(w, h int) []string {
	lines, room := v.helpLines(w-2), h-1
	top := min(v.helpTop, max(len(lines)-room, 0))
	foot := v.foot(w - 2)
	if more := len(lines) - top - room; more > 0 {
		foot = faint.Render(fmt.Sprintf("? back   %d more below: press down", more))
	}
	return fitted(lines[top:], foot, h)
}

// programOf returns the program that shows a model until it quits or ctx ends. Signals end it through ctx.
func programOf(ctx context.Context, model tea.Model, color bool) *tea.Program {
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithFPS(framesPerSecond), tea.WithoutSignalHandler()}
	if !color {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	return tea.NewProgram(model, options...)
}

// ended returns the error of a program that ended for another reason than ctx.
func ended(err error) error {
	if errors.Is(err, tea.ErrProgramPanic) {
		return errors.New("the screen crashed; please report the trace above as a bug")
	}
	return err
}

// playOnScreen plays the story on the live screen until it is over, somebody quits or ctx ends. Afterwards the terminal
// is as it was before.
func playOnScreen(ctx context.Context, w *World, acts []Act, color bool) (*player, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var program *tea.Program
	p := newPlayer(w, acts, func(s scene) { program.Send(sceneMsg(s)) })
	program = programOf(ctx, screen{
		ctx: ctx, look: w.Look, tell: p.tell, view: view{seed: w.options.Seed, servers: w.servers()},
	}, color)
	played := make(chan error, 1)
	go func() {
		err := p.run(ctx)
		program.Send(overMsg{})
		played <- err
	}()
	_, err := program.Run()
	if ctx.Err() != nil {
		err = nil // a signal
	}
	cancel()
	return p, cmp.Or(ended(err), <-played)
}
