package frames

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode"

	"github.com/seed-de83e32b/governor/test/terminal"
)

var update = flag.Bool("update", false, "rewrite the golden frames")

// quiet is how long a screen must not change before -update records it. Govtop writes nothing while nothing changes.
const quiet = 600 * time.Millisecond

// patience is how long a screen may take to match the album.
const patience = 10 * time.Second

type size = terminal.Size

var (
	tooSmall = size{Width: 59, Height: 14}
	smallest = size{Width: 60, Height: 15}
	usual    = size{Width: 80, Height: 24}
	sizes    = []size{
		tooSmall, smallest, usual, {Width: 100, Height: 30}, {Width: 120, Height: 30}, {Width: 200, Height: 50},
	}
)

// theme is a way to color the screen.
type theme struct {
	name     string
	args     []string
	variable string
	colored  bool
}

var themes = []theme{
	{name: "dark", args: []string{"--theme=dark"}, colored: true},
	{name: "light", args: []string{"--theme=light"}, colored: true},
	{name: "mono", args: []string{"--theme=mono"}},
	{name: "NO_COLOR", variable: "NO_COLOR=1"},
}

// binary is govtop as built for users, with a fixed version.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "govtop-frames")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "govtop")
	stamp := "-X github.com/prometheus/common/version.Version=0.3.0"
	if out, err := exec.Command("go", "build", "-ldflags", stamp, "-o", path, "..").CombinedOutput(); err != nil {
		return "", fmt.Errorf("build govtop: %w: %s", err, out)
	}
	return path, nil
})

func TestMain(m *testing.M) {
	flag.Parse()
	// The programs mostly wait.
	if err := flag.Set("test.parallel", "8"); err != nil {
		panic(err)
	}
	code := m.Run()
	if path, err := binary(); err == nil {
		_ = os.RemoveAll(filepath.Dir(path))
	}
	os.Exit(code)
}

// show runs govtop on a terminal, with a governor.
func show(t testing.TB, d *daemon, s size, th theme, more ...string) *terminal.TestTerminal {
	t.Helper()
	args, variables := d.serve(t)
	return run(t, s, th, variables, append(args, more...)...)
}

func run(t testing.TB, s size, th theme, variables []string, args ...string) *terminal.TestTerminal {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(path, append(slices.Concat(args, th.args), "--actor=ana")...)
	if th.variable != "" {
		variables = append(variables, th.variable)
	}
	cmd.Env, cmd.Dir = terminal.Env(variables...), t.TempDir()
	return terminal.Run(t, cmd, s)
}

// TestFrames captures every scene at every size in every theme.
func TestFrames(t *testing.T) {
	album := newAlbum()
	t.Run("all", func(t *testing.T) {
		for _, th := range themes {
			for _, s := range sizes {
				for _, f := range fleets() {
					t.Run(fmt.Sprintf("%s/%s/%s", th.name, s, f.name), func(t *testing.T) {
						t.Parallel()
						take(t, album, f, s, th)
					})
				}
			}
		}
	})
	t.Logf("%d frames", album.taken)
	if *update {
		album.save(t)
		return
	}
	if testing.Short() || t.Failed() {
		return
	}
	album.noneLeft(t)
}

// take drives one govtop through the scenes of a fleet.
func take(t *testing.T, album *album, f party, s size, th theme) {
	var term *terminal.TestTerminal
	if f.daemon != nil {
		term = show(t, f.daemon(), s, th)
	} else {
		term = run(t, s, th, nil, "--connect", "http://127.0.0.1:1")
	}
	scenes := f.scenes
	if s == tooSmall {
		scenes = scenes[:1] // they all say the same
	}
	var base string
	for i, sc := range scenes {
		name := f.name
		if sc.name != "" {
			name += "-" + sc.name
		}
		if i > 0 {
			term.Types(sc.keys)
		}
		ready := func(now terminal.Screen) bool {
			return s == tooSmall || now.Shows(sc.shows)
		}
		term.Waits("there is "+name, ready)
		frame := album.see(t, term, name, s, th, ready)
		properties(t, term, frame, name, s, th, f, sc)
		switch {
		case i == 0:
			base = frame.String()
		case sc.back != "":
			term.Types(sc.back)
			term.Waits("the screen is as before "+name, func(now terminal.Screen) bool { return now.String() == base })
		}
	}
	term.Types("\x03")
	term.Ends(0)
}

// properties checks what holds for every frame.
func properties(
	t *testing.T, term *terminal.TestTerminal, frame terminal.Screen, name string, s size, th theme, f party, sc scene,
) {
	t.Helper()
	problem := func(format string, args ...any) {
		t.Errorf("%s at %s, %s: %s\n%s", name, s, th.name, fmt.Sprintf(format, args...), frame)
	}
	if !frame.Alt {
		problem("it is not the alternate screen")
	}
	if frame.Cursor && !sc.typing {
		problem("a cursor, though nothing is typed there")
	}
	if term.Meddled() != 0 {
		problem("it sets the title or rings the bell")
	}
	first := name == f.name
	if frame.Colored() && !th.colored || !frame.Colored() && th.colored && first && s != tooSmall {
		problem("colored: %v, want %v", frame.Colored(), th.colored)
	}
	for y, row := range frame.Rows {
		for x, cell := range row {
			for _, r := range cell.Text {
				if unicode.IsControl(r) || unicode.Is(unicode.Bidi_Control, r) {
					problem("a control character in column %d of line %d: %q", x, y, cell.Text)
				}
			}
		}
	}
	if s == tooSmall {
		if !frame.Shows("too small") {
			problem("it does not say that the terminal is too small")
		}
		return
	}
	lines := strings.Split(frame.String(), "\n")
	if lines[s.Height-1] == "" && !sc.typing { // a form has them in its box
		problem("the last line is empty: the keys belong there")
	}
	for _, word := range f.words {
		if s.Height >= 30 && first && !frame.Shows(word) {
			problem("it does not say %q", word)
		}
	}
}

// album holds the golden frames.
type album struct {
	mu    sync.Mutex
	want  map[string]map[string]string // file → section → frame
	got   map[string]map[string]string
	taken int
}

func newAlbum() *album {
	a := &album{want: map[string]map[string]string{}, got: map[string]map[string]string{}}
	for _, path := range golden() {
		a.want[filepath.Base(path)] = sections(path)
	}
	return a
}

func golden() []string {
	paths, _ := filepath.Glob(filepath.Join("testdata", "*.txt"))
	styles, _ := filepath.Glob(filepath.Join("testdata", "*.style"))
	return append(paths, styles...)
}

var heading = regexp.MustCompile(`(?m)^== (\S+)\n`)

// sections reads a file of frames, each below a line "== NAME".
func sections(path string) map[string]string {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil
	}
	parts := map[string]string{}
	at := heading.FindAllSubmatchIndex(content, -1)
	for i, m := range at {
		end := len(content)
		if i+1 < len(at) {
			end = at[i+1][0]
		}
		parts[string(content[m[2]:m[3]])] = string(content[m[1]:end])
	}
	return parts
}

// see waits until the screen matches the album, or is still, and compares.
func (a *album) see(
	t *testing.T, term *terminal.TestTerminal, name string, s size, th theme, ready func(terminal.Screen) bool,
) terminal.Screen {
	t.Helper()
	text, style := name+".txt", name+".style"
	if *update {
		return a.record(t, term, name, s, th, ready)
	}
	var frame terminal.Screen
	want := a.want[text][s.String()]
	err := term.Within(patience, func(now terminal.Screen) bool {
		frame = now
		return now.String() == want && (s != usual || now.Styles() == a.want[style][th.name])
	})
	a.mu.Lock()
	a.taken++
	a.mu.Unlock()
	if err == nil {
		return frame
	}
	t.Errorf("%s in theme %s has changed; go test ./cmd/govtop/frames -update rewrites it\n%s",
		name, th.name, difference(frame.String(), want))
	if s == usual {
		t.Errorf("its style:\n%s", difference(frame.Styles(), a.want[style][th.name]))
	}
	return frame
}

// record adds a frame to the album. All themes must show the same text as the first one recorded.
func (a *album) record(
	t *testing.T, term *terminal.TestTerminal, name string, s size, th theme, ready func(terminal.Screen) bool,
) terminal.Screen {
	t.Helper()
	text, style := name+".txt", name+".style"
	a.mu.Lock()
	want, known := a.got[text][s.String()]
	a.mu.Unlock()
	var frame terminal.Screen
	if known {
		err := term.Within(patience, func(now terminal.Screen) bool { frame = now; return now.String() == want })
		if err != nil {
			t.Errorf("%s at %s reads otherwise in theme %s:\n%s", name, s, th.name, difference(frame.String(), want))
		}
	} else if frame = term.Settle(quiet); !ready(frame) {
		t.Errorf("%s at %s does not stand still:\n%s", name, s, frame)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.taken++
	put := func(file, section, content string) {
		if a.got[file] == nil {
			a.got[file] = map[string]string{}
		}
		a.got[file][section] = content
	}
	if !known {
		put(text, s.String(), frame.String())
	}
	if s == usual {
		put(style, th.name, frame.Styles())
	}
	return frame
}

// save rewrites the files, and removes those of deleted scenes.
func (a *album) save(t *testing.T) {
	t.Helper()
	for _, path := range golden() {
		if a.got[filepath.Base(path)] == nil {
			if err := os.Remove(path); err != nil {
				t.Error(err)
			}
		}
	}
	for file, frames := range a.got {
		var content strings.Builder
		for _, section := range slices.SortedFunc(maps.Keys(frames), natural) {
			fmt.Fprintf(&content, "== %s\n%s", section, frames[section])
		}
		if err := os.WriteFile(filepath.Join("testdata", file), []byte(content.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// natural sorts 80x24 before 120x30.
func natural(a, b string) int {
	if len(a) != len(b) && a[0] <= '9' {
		return len(a) - len(b)
	}
	return strings.Compare(a, b)
}

// noneLeft fails for files of scenes that no longer exist.
func (a *album) noneLeft(t *testing.T) {
	t.Helper()
	known := map[string]bool{}
	for _, f := range fleets() {
		for _, sc := range f.scenes {
			name := f.name
			if sc.name != "" {
				name += "-" + sc.name
			}
			known[name] = true
		}
	}
	for file := range a.want {
		if name := strings.TrimSuffix(file, filepath.Ext(file)); !known[name] {
			t.Errorf("testdata/%s belongs to no scene; -update removes it", file)
		}
	}
}

// difference shows line by line where got and want differ.
func difference(got, want string) string {
	if want == "" {
		return "there is none yet; the screen:\n" + got
	}
	var text strings.Builder
	g, w := strings.Split(got, "\n"), strings.Split(want, "\n")
	for i := range max(len(g), len(w)) {
		line := func(lines []string) string {
			if i < len(lines) {
				return lines[i]
			}
			return ""
		}
		if line(g) == line(w) {
			continue
		}
		fmt.Fprintf(&text, "%3d -%s\n    +%s\n", i+1, line(w), line(g))
	}
	return text.String()
}
