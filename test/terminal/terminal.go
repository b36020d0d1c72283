package terminal

import (
	"errors"
	"fmt"
	"image/color"
	"io"
	"os"
	"os/exec"
	"reflect"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/charmbracelet/x/ansi"
	"github.com/charmbracelet/x/term"
	"github.com/charmbracelet/x/vt"
	"github.com/creack/pty"
)

const (
	// A pause in the output ends a burst. The emulator then shows the burst as a whole, like a frame on a real terminal.
	// Nothing that a program prints in one go takes longer to come through a PTY.
	pause = 2 * time.Millisecond
	// Patience is how long Until waits.
	Patience = 30 * time.Second
)

// Terminal is a program on a PTY, with an emulator in front of it.
type Terminal struct {
	cmd    *exec.Cmd
	pty    *os.File
	before *term.State // the mode of the line before the program began

	mu      sync.Mutex
	screen  *vt.Emulator
	size    Size
	cursor  bool // visible
	modes   map[ansi.Mode]bool
	titles  int // attempts to set the terminal's title or ring its bell
	written int64
	frames  int
	last    time.Time     // when something last happened: printed, typed, resized
	news    chan struct{} // closed and replaced when something has been printed, or the program has ended

	ended chan struct{} // closed when the program has ended and all it printed is on the screen
	err   error         // of Wait; after ended
}

// Env is a clean environment for a program on a terminal with 256 colors; the given variables (NAME=value) are set or
// replaced in it.
func Env(variables ...string) []string {
	env := []string{"TERM=xterm-256color", "LANG=C.UTF-8", "PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}
	if dir := os.Getenv("GOCOVERDIR"); dir != "" {
		env = append(env, "GOCOVERDIR="+dir)
	}
	return append(env, variables...)
}

// Option changes the terminal of a program.
type Option func(*vt.Emulator)

// Background sets the background color that the terminal reports; the default is black.
func Background(c color.Color) Option { return func(e *vt.Emulator) { e.SetDefaultBackgroundColor(c) } }

// Start starts a command on a new terminal of the given size. Standard streams that are not set become the terminal.
// The environment is Env() unless it is set.
func Start(cmd *exec.Cmd, size Size, options ...Option) (*Terminal, error) {
	p, tty, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a pseudo-terminal: %w", err)
	}
	defer tty.Close()
	fail := func(err error) (*Terminal, error) {
		p.Close()
		return nil, err
	}
	if err := setSize(p, size); err != nil {
		return fail(err)
	}
	before, err := term.GetState(p.Fd())
	if err != nil {
		return fail(fmt.Errorf("read the mode of the line: %w", err))
	}
	if cmd.Stdin == nil {
		cmd.Stdin = tty
	}
	if cmd.Stdout == nil {
		cmd.Stdout = tty
	}
	if cmd.Stderr == nil {
		cmd.Stderr = tty
	}
	if cmd.Env == nil {
		cmd.Env = Env()
	}
	controlling := slices.IndexFunc([]any{cmd.Stdin, cmd.Stdout, cmd.Stderr}, func(f any) bool { return f == any(tty) })
	if controlling < 0 {
		return fail(errors.New("start on a terminal: no stream of the command is left for it"))
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Ctty: controlling}
	if err := cmd.Start(); err != nil {
		return fail(err)
	}
	t := &Terminal{
		cmd: cmd, pty: p, before: before, screen: vt.NewEmulator(size.Width, size.Height), size: size, cursor: true,
		modes: map[ansi.Mode]bool{}, news: make(chan struct{}), ended: make(chan struct{}), last: time.Now(),
	}
	for _, set := range options {
		set(t.screen)
	}
	t.screen.SetCallbacks(vt.Callbacks{
		CursorVisibility: func(visible bool) { t.cursor = visible },
		EnableMode:       func(m ansi.Mode) { t.modes[m] = true },
		DisableMode: func(m ansi.Mode) {
			if m == ansi.ModeSynchronizedOutput && t.modes[m] {
				t.frames++
			}
			t.modes[m] = false
		},
		Title:    func(string) { t.titles++ },
		IconName: func(string) { t.titles++ },
		Bell:     func() { t.titles++ },
	})

	// Like most current terminals, and unlike the emulator, this one shows a frame at once if the program marks its end.
	t.screen.RegisterCsiHandler(ansi.Command('?', '$', 'p'), func(params ansi.Params) bool {
		mode, _, _ := params.Param(0, 0)
		if mode != ansi.ModeSynchronizedOutput.Mode() {
			return false
		}
		_, _ = io.WriteString(t.screen.InputPipe(), ansi.ReportMode(ansi.ModeSynchronizedOutput, ansi.ModeReset))
		return true
	})

	// A region meant for a larger screen ends at the last line, as on other terminals. The emulator fails on it.
	t.screen.RegisterCsiHandler('r', func(params ansi.Params) bool {
		top, _, _ := params.Param(0, 1)
		if height := t.screen.Height(); len(params) > 1 && params[1].Param(0) > height {
			params[1] = ansi.Param(height)
			return top >= height
		}
		return false
	})

	chunks := make(chan []byte)
	go func() {
		defer close(chunks)
		for {
			buffer := make([]byte, 8192)
			n, err := p.Read(buffer)
			if n > 0 {
				chunks <- buffer[:n]
			}
			if err != nil {
				return
			}
		}
	}()
	shown := make(chan struct{})
	go t.show(chunks, shown)
	go func() { _, _ = io.Copy(p, t.screen) }() // the terminal's answers
	go func() {
		t.err = cmd.Wait()
		<-shown
		close(t.ended)
		t.tell()
	}()
	return t, nil
}

// show puts output onto the screen, in whole bursts. A character and its combining accent must not be separated, or the
// emulator takes them for two.
func (t *Terminal) show(chunks <-chan []byte, shown chan<- struct{}) {
	defer close(shown)
	for burst := range chunks {
		for more := true; more; {
			select {
			case chunk, ok := <-chunks:
				burst = append(burst, chunk...)
				more = ok
			case <-time.After(pause):
				more = false
			}
		}
		t.mu.Lock()
		t.written += int64(len(burst))
		t.last = time.Now()
		_, _ = t.screen.Write(burst)
		whole := !t.modes[ansi.ModeSynchronizedOutput]
		t.mu.Unlock()
		if whole {
			t.tell()
		}
	}
}

func (t *Terminal) tell() {
	t.mu.Lock()
	close(t.news)
	t.news = make(chan struct{})
	t.mu.Unlock()
}

func setSize(p *os.File, size Size) error {
	if err := pty.Setsize(p, &pty.Winsize{Cols: uint16(size.Width), Rows: uint16(size.Height)}); err != nil {
		return fmt.Errorf("set the size of the terminal: %w", err)
	}
	return nil
}

// Process is the program.
func (t *Terminal) Process() *os.Process { return t.cmd.Process }

// Type sends keys as a keyboard does: "j", "\r", "\x1b[A".
func (t *Terminal) Type(keys string) error {
	t.mu.Lock()
	t.last = time.Now()
	t.mu.Unlock()
	_, err := io.WriteString(t.pty, keys)
	return err
}

// Resize changes the size of the terminal, and the kernel tells the program.
func (t *Terminal) Resize(size Size) error {
	t.mu.Lock()
	t.screen.Resize(size.Width, size.Height)
	t.size, t.last = size, time.Now()
	t.mu.Unlock()
	return setSize(t.pty, size)
}

// Written is the number of bytes that the program has printed, and of frames: the synchronized updates that it has
// ended.
func (t *Terminal) Written() (bytes int64, frames int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.written, t.frames
}

// Screen returns the current screen.
func (t *Terminal) Screen() Screen {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := Screen{Size: t.size, Alt: t.screen.IsAltScreen(), Cursor: t.cursor}
	for y := range t.size.Height {
		row := make([]Cell, t.size.Width)
		for x := 0; x < len(row); x++ {
			row[x] = Cell{Text: " ", Width: 1}
			cell := t.screen.CellAt(x, y)
			if cell == nil || cell.Width == 0 {
				continue
			}
			const (
				bold = 1 << iota
				faint
				italic
				blink
				_
				reverse
			)
			c := Cell{Text: cell.Content, Width: cell.Width, Style: Style{
				Foreground: cell.Style.Fg, Background: cell.Style.Bg, Underline: cell.Style.Underline != 0,
				Bold: cell.Style.Attrs&bold != 0, Faint: cell.Style.Attrs&faint != 0,
				Italic: cell.Style.Attrs&italic != 0, Blink: cell.Style.Attrs&blink != 0,
				Reverse: cell.Style.Attrs&reverse != 0,
			}}
			row[x] = c
			for behind := 1; behind < c.Width && x+1 < len(row); behind++ {
				x++
				row[x] = Cell{Style: c.Style}
			}
		}
		s.Rows = append(s.Rows, row)
	}
	return s
}

// Scrollback returns the lines that have scrolled off the top of the main screen, oldest first.
func (t *Terminal) Scrollback() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var text strings.Builder
	for y := range t.screen.ScrollbackLen() {
		var line strings.Builder
		for x := range t.size.Width {
			if cell := t.screen.ScrollbackCellAt(x, y); cell != nil {
				line.WriteString(cell.Content)
			}
		}
		text.WriteString(strings.TrimRight(line.String(), " ") + "\n")
	}
	return text.String()
}

// Until waits until the screen is as wanted. It gives up when the program has ended, or after Patience.
func (t *Terminal) Until(is func(Screen) bool) error { return t.Within(Patience, is) }

// Within is Until with its own patience.
func (t *Terminal) Within(wait time.Duration, is func(Screen) bool) error {
	patience := time.NewTimer(wait)
	defer patience.Stop()
	for {
		t.mu.Lock()
		news := t.news
		t.mu.Unlock()
		s := t.Screen()
		if is(s) {
			return nil
		}
		select {
		case <-news:
		case <-t.ended:
			if s := t.Screen(); !is(s) {
				return fmt.Errorf("the program has ended (%w); the screen:\n%s", t.err, s)
			}
			return nil
		case <-patience.C:
			return fmt.Errorf("the screen after %s:\n%s", wait, s)
		}
	}
}

// Settle waits until nothing has been printed, typed or resized for that long, and returns the screen.
func (t *Terminal) Settle(quiet time.Duration) Screen {
	for {
		t.mu.Lock()
		news, since := t.news, time.Since(t.last)
		t.mu.Unlock()
		if since >= quiet {
			return t.Screen()
		}
		select {
		case <-news:
		case <-time.After(quiet - since):
		}
	}
}

// Wait waits for the end of the program and returns its exit code.
func (t *Terminal) Wait() (int, error) {
	select {
	case <-t.ended:
	case <-time.After(Patience):
		return 0, fmt.Errorf("the program does not end; the screen:\n%s", t.Screen())
	}
	if exit, ok := errors.AsType[*exec.ExitError](t.err); ok {
		return exit.ExitCode(), nil
	}
	return 0, t.err
}

// Raw reports whether the line is in a different mode than before the program started.
func (t *Terminal) Raw() bool {
	now, err := term.GetState(t.pty.Fd())
	return err != nil || !reflect.DeepEqual(now, t.before)
}

// Restored returns nil if the terminal is as it was before the program started, otherwise what is not: echo and line
// editing, the main screen, a visible cursor, no reports of the mouse, of pasted text or of the focus.
func (t *Terminal) Restored() error {
	var wrong []string
	if t.Raw() {
		wrong = append(wrong, "the line is in another mode (echo, line editing)")
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.screen.IsAltScreen() {
		wrong = append(wrong, "the alternate screen is still on")
	}
	if !t.cursor {
		wrong = append(wrong, "the cursor is hidden")
	}
	for name, mode := range map[string]ansi.Mode{
		"mouse": ansi.ModeMouseNormal, "mouse dragging": ansi.ModeMouseButtonEvent, "mouse motion": ansi.ModeMouseAnyEvent,
		"focus": ansi.ModeFocusEvent, "bracketed paste": ansi.ModeBracketedPaste,
		"synchronized output": ansi.ModeSynchronizedOutput, "in-band resize": ansi.ModeInBandResize,
	} {
		if t.modes[mode] {
			wrong = append(wrong, "still on: "+name)
		}
	}
	if !t.modes[ansi.ModeAutoWrap] && t.modeTold(ansi.ModeAutoWrap) {
		wrong = append(wrong, "lines do not wrap")
	}
	if len(wrong) == 0 {
		return nil
	}
	slices.Sort(wrong)
	return errors.New(strings.Join(wrong, "; "))
}

func (t *Terminal) modeTold(m ansi.Mode) bool { _, told := t.modes[m]; return told }

// Meddled reports how often the program set the terminal's title or rang its bell.
func (t *Terminal) Meddled() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.titles
}

// Close ends the program, if it is still running, and the terminal.
func (t *Terminal) Close() {
	_ = t.cmd.Process.Kill()
	_ = t.pty.Close()
	// Close of the emulator itself races with its Read; closing the pipe ends the emulator as well.
	_ = t.screen.InputPipe().(io.Closer).Close()
}
