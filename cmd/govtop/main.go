// Command govtop shows governor's loops: what each one measures, what it decides, and why.
//
// On a terminal it is a live screen, where a person can also freeze, resume and override a loop. With --once it prints
// one table, or one JSON document for scripts. With --check its exit code says whether any service misses its SLO. It
// speaks governor's HTTP interface and decides nothing itself.
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
	"github.com/charmbracelet/x/term"
	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"
	"github.com/prometheus/common/version"

	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/cmd/internal/interrupt"
	"github.com/seed-de83e32b/governor/cmd/internal/loops"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// The exit codes are part of the interface.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitViolation   = 4
	exitRefusals    = 5
)

func main() {
	interrupt.IgnoreHangups()       // the end of the terminal is the end of its input
	version.Version = api.Version() // one name everywhere for a build without a version stamp
	app, o := commandLine()
	if _, err := app.Parse(completing(os.Args[1:])); err != nil {
		os.Exit(usage(os.Stderr, err.Error()+"; try govtop --help"))
	}
	os.Exit(run(*o, os.Stdin, os.Stdout, os.Stderr))
}

// stdout is where help and version are printed.
var stdout = plain.NewOutput(os.Stdout)

// printed returns the exit code of a program that would end with code, if what it printed has arrived.
func printed(code int) int {
	if err := stdout.Err(); err != nil && code == exitOK {
		return failed(os.Stderr, fmt.Errorf("the output is incomplete: %w", err))
	}
	return code
}

type options struct {
	address string
	once    bool
	output  string
	check   bool
	screen  ui.Options

	maxRefused share
}

// commandLine returns the parser of the command line, and the options that it fills.
func commandLine() (*kingpin.Application, *options) {
	app := kingpin.New("govtop", "Show governor's loops: what each one measures, decides, and why.\n\n"+
		"Exit codes: 0 ok, 1 error, 2 usage, 3 governor unreachable, 4 (--check) a loop violates its SLO, "+
		"5 (--check) the SLO is met, but more than --max-refused is refused.")
	app.UsageWriter(stdout.Unfailing())
	app.Terminate(func(code int) { os.Exit(printed(code)) })
	app.HelpFlag.Short('h')
	app.Version(version.Print("govtop"))
	o := &options{}
	choose := func(name, help string, values []string, target *string) {
		app.Flag(name, help+": "+either(values)+".").PlaceHolder(values[0]).Default(values[0]).
			HintOptions(values...).SetValue(choice{name, values, target})
	}
	app.Flag("connect", "Address of a governor.").PlaceHolder("URL").Default("http://" + api.DefaultAddress).
		StringVar(&o.address)
	app.Flag("once", "Print the loops once and exit.").BoolVar(&o.once)
	choose("output", "What --once prints", []string{"table", "json"}, &o.output)
	app.Flag("check", "Exit with 4 if a loop violates its SLO, else with 5 if a service refuses too much, and name "+
		"those loops.").BoolVar(&o.check)
	app.Flag("max-refused", "Share of the requests that a service may refuse before --check fails.").PlaceHolder("5%").
		Default(format.Percent(ui.MaxRefused)).SetValue(&o.maxRefused)
	app.Flag("loop", "Show or check only this loop, as SERVICE/KNOB: checkout/concurrency. The screen starts with its details.").
		PlaceHolder("LOOP").StringVar(&o.screen.Loop)
	app.Flag("at", "Show the loops as they were at this time, as far back as the governor remembers: RFC 3339, a Unix time in "+
		"seconds, or a duration ago like 5m.").PlaceHolder("TIME").SetValue((*instant)(&o.screen.At))
	app.Flag("filter", "Show or check only the loops whose name, mode or state matches; "+
		"!REGEX selects those that do not.").PlaceHolder("REGEX").StringVar(&o.screen.Filter)
	app.Flag("read-only", "Disable all keys that change anything.").BoolVar(&o.screen.ReadOnly)
	app.Flag("actor", "Your name, to fill in as the actor of your orders.").PlaceHolder("NAME").Envar("USER").
		StringVar(&o.screen.Actor)
	choose("theme", "Colors of the screen", ui.Themes, &o.screen.Theme)
	choose("graph", "Characters that draw the charts", ui.Graphs, &o.screen.Graph)
	return app, o
}

// choice is the value of a flag that accepts a few words. Unlike kingpin's own, its error names the flag.
type choice struct {
	flag   string
	words  []string
	target *string
}

// String implements kingpin.Value.
func (c choice) String() string { return *c.target }

// Set implements kingpin.Value.
func (c choice) Set(word string) error {
	if !slices.Contains(c.words, word) {
		return fmt.Errorf("--%s=%s: expected %s", c.flag, word, either(c.words))
	}
	*c.target = word
	return nil
}

// clocksApart is how far the clock of whoever names an instant may be ahead.
const clocksApart = time.Minute

// instant is the value of --at.
type instant time.Time

// String implements kingpin.Value.
func (i *instant) String() string { return "" }

// Set implements kingpin.Value.
func (i *instant) Set(text string) error {
	now := time.Now()
	at, err := api.ParseInstant(text, now)
	switch {
	case err != nil:
		return fmt.Errorf("--at=%s: %w", text, err)
	case at.After(now.Add(clocksApart)):
		return fmt.Errorf("--at=%s: this lies ahead: expected an instant of the past", text)
	case at.Before(time.Unix(0, 0)):
		return fmt.Errorf("--at=%s: expected an instant since 1970", text)
	}
	*i = instant(at)
	return nil
}

// share is a flag's value between nothing and everything, written 5% or 0.05.
type share float64

// String implements kingpin.Value.
func (s *share) String() string { return format.Percent(float64(*s)) }

// Set implements kingpin.Value.
func (s *share) Set(text string) error {
	number, isPercent := strings.CutSuffix(text, "%")
	v, err := strconv.ParseFloat(number, 64)
	if isPercent {
		v /= 100
	}
	if err != nil || !(v >= 0 && v <= 1) {
		return fmt.Errorf("--max-refused=%s: expected a share from 0%% to 100%%, like 5%% or 0.05", text)
	}
	*s = share(v)
	return nil
}

func either(words []string) string {
	last := len(words) - 1
	return strings.Join(words[:last], ", ") + " or " + words[last]
}

// completing lets a shell complete an empty word as the start of a flag, unless the word is a flag's value. Nothing
// else can stand there, and kingpin would offer nothing.
func completing(args []string) []string {
	last := len(args) - 1
	if last < 1 || args[0] != "--completion-bash" || args[last] != "" {
		return args
	}
	if last > 1 && strings.HasPrefix(args[last-1], "--") {
		return args
	}
	return append(slices.Clone(args[:last]), "--")
}

func run(o options, stdin, stdout, stderr *os.File) int {
	filter, err := ui.ParseFilter(o.screen.Filter)
	if err != nil {
		return usage(stderr, fmt.Sprintf("--filter=%s: %v; expected a regular expression, like checkout or !shadow",
			o.screen.Filter, err))
	}
	client, err := api.NewClient(o.address)
	if err != nil {
		return usage(stderr, "--connect: "+err.Error())
	}
	defer client.Close()
	client.UnmarshalEvent = unmarshal
	if o.once || o.check {
		return once(context.Background(), client, o, filter, stdout, stderr)
	}
	if o.output != "table" {
		return usage(stderr, "--output needs --once")
	}
	if why := noScreen(stdin, stdout, os.Getenv("TERM")); why != "" {
		return usage(stderr, why+": try govtop --once")
	}
	if err := findLoop(client, o.screen); err != nil {
		return failed(stderr, err)
	}
	o.screen.Save, o.screen.Resumable = save, resumable
	o.screen.Gone = func() bool { return gone(stdin) }
	return live(client, client.Address(), o.screen, stderr)
}

// lenient accepts what encoding/json accepts.
var lenient = json.JoinOptions(
	json.MatchCaseInsensitiveNames(true), jsontext.AllowDuplicateNames(true), jsontext.AllowInvalidUTF8(true))

// unmarshal is the next encoding/json's: it reads a decision in a third of the time, and reading decisions is most of
// the cost of an idle screen with a large fleet.
func unmarshal(data []byte, into any) error { return json.Unmarshal(data, into, lenient) }

// noScreen says why the live screen cannot be shown; "" if it can.
func noScreen(stdin, stdout *os.File, terminal string) string {
	switch {
	case !term.IsTerminal(stdin.Fd()):
		return "standard input is not a terminal"
	case !term.IsTerminal(stdout.Fd()):
		return "standard output is not a terminal"
	case terminal == "" || terminal == "dumb":
		return fmt.Sprintf("the terminal (TERM=%q) cannot show a screen", terminal)
	}
	return ""
}

// gone says whether a terminal has been closed. A hangup tells the program so, unless it was started to ignore that; the
// end of the input alone tells it nothing.
func gone(terminal *os.File) bool {
	_, err := term.GetState(terminal.Fd())
	return err != nil
}

func live(source ui.Source, address string, screen ui.Options, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Each round of decisions of a large fleet is megabytes of JSON that live briefly. A little more memory saves most
	// garbage collections.
	debug.SetGCPercent(400)
	// Any value except the empty one, as no-color.org says; the terminal library would expect a boolean.
	color := os.Getenv("NO_COLOR") == ""
	if err := ui.Run(ctx, ui.New(ctx, source, address, api.Version(), screen), color); err != nil {
		return failed(stderr, err)
	}
	return exitOK
}

// findLoop reports that there is no loop of the name that the screen is to start with. A governor that does not answer is
// the screen's to tell, which tries again.
func findLoop(source ui.Source, screen ui.Options) error {
	if screen.Loop == "" || !screen.At.IsZero() {
		return nil
	}
	all, err := source.Loops(context.Background())
	if names := loops.Names(all); err == nil && !slices.Contains(names, screen.Loop) {
		return loops.Unknown(screen.Loop, names)
	}
	return nil
}

// fetch requests what --once and --check look at, now or at an instant of the past.
func fetch(ctx context.Context, source ui.Source, screen ui.Options) (ui.Snapshot, error) {
	snapshot, err := ui.Fetch(ctx, source)
	if err != nil {
		return snapshot, err
	}
	if at := screen.At; at.Before(snapshot.Status.Now) && !at.IsZero() {
		if snapshot.Loops, err = source.LoopsAt(ctx, at); err != nil {
			return snapshot, err
		}
		if len(snapshot.Loops) == 0 {
			return snapshot, forgotten(ctx, source, at)
		}
		snapshot.Status.Now = at
	}
	if screen.Loop != "" {
		names := loops.Names(snapshot.Loops)
		i := slices.Index(names, screen.Loop)
		if i < 0 {
			return snapshot, loops.Unknown(screen.Loop, names)
		}
		snapshot.Loops = snapshot.Loops[i : i+1]
	}
	return snapshot, nil
}

// forgotten says that the governor remembers nothing of an instant, and how far back it does.
func forgotten(ctx context.Context, source ui.Source, at time.Time) error {
	history, err := source.History(ctx, time.Hour, 30*time.Second)
	if oldest := ui.Reach(history); err == nil && !oldest.IsZero() {
		return fmt.Errorf("nothing is known of %s: this governor remembers back to %s",
			at.UTC().Format(time.RFC3339), oldest.UTC().Format(time.RFC3339))
	}
	return fmt.Errorf("nothing is known of %s: this governor remembers nothing yet", at.UTC().Format(time.RFC3339))
}

func once(ctx context.Context, source ui.Source, o options, filter ui.Filter, stdout, stderr io.Writer) int {
	snapshot, err := fetch(ctx, source, o.screen)
	if err != nil {
		return failed(stderr, err)
	}
	all := len(snapshot.Loops)
	snapshot.Loops = slices.DeleteFunc(snapshot.Loops, func(l api.Loop) bool { return !filter.Match(l) })
	if o.once {
		if err := show(stdout, snapshot, o.output); err != nil {
			return failed(stderr, err)
		}
	}
	if !o.check {
		return exitOK
	}
	if len(snapshot.Loops) == 0 && all > 0 {
		// A check that matches nothing must not pass forever.
		return failed(stderr, fmt.Errorf("--check: none of the %d loops matches --filter=%s", all, o.screen.Filter))
	}
	code := exitOK
	for _, l := range snapshot.Loops {
		if ui.Refuses(l, float64(o.maxRefused)) {
			code = cmp.Or(code, exitRefusals) // a violation outranks it
			fmt.Fprintln(stderr, ui.Refusal(l, float64(o.maxRefused)))
		}
		if ui.Violates(l) {
			code = exitViolation
			fmt.Fprintln(stderr, ui.Violation(l))
		}
	}
	return code
}

func show(w io.Writer, snapshot ui.Snapshot, output string) error {
	if output != "json" {
		return ui.WriteTable(w, snapshot)
	}
	document, err := ui.EncodeJSON(snapshot)
	if err != nil {
		return err
	}
	_, err = w.Write(document)
	return err
}

// save writes an export into the working directory, readable by its owner only, and returns its path. It never
// overwrites a file: the new one gets a number.
func save(name string, content []byte) (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("cannot export: the working directory: %w", err)
	}
	extension := filepath.Ext(name)
	path := filepath.Join(dir, name)
	file, err := create(path)
	for n := 2; errors.Is(err, fs.ErrExist) && n < 100; n++ {
		path = filepath.Join(dir, fmt.Sprintf("%s-%d%s", strings.TrimSuffix(name, extension), n, extension))
		file, err = create(path)
	}
	if err != nil {
		return "", fmt.Errorf("cannot export: %w (exports go to the directory in which govtop was started)", err)
	}
	_, err = file.Write(content)
	if err = errors.Join(err, file.Close()); err != nil {
		_ = os.Remove(path) // do not leave half a document
		return "", fmt.Errorf("cannot export: %w", err)
	}
	return path, nil
}

func create(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func usage(stderr io.Writer, message string) int {
	fmt.Fprintln(stderr, "govtop:", ui.Clean(plain.WithoutCredentials(message)))
	return exitUsage
}

func failed(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "govtop:", ui.Clean(plain.WithoutCredentials(err.Error())))
	if _, ok := errors.AsType[*api.UnreachableError](err); ok {
		return exitUnreachable
	}
	return exitError
}
