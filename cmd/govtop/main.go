// Command govtop shows governor's loops: what each one measures, what it decides, and why.
//
// On a terminal it is a live screen; with --once it prints one table, or one JSON document for scripts; with --check it
// answers by its exit code whether any service misses its SLO. It reads governor's HTTP interface and changes nothing.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/alecthomas/kingpin/v2"
	"github.com/charmbracelet/x/term"
	"github.com/prometheus/common/version"

	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// The exit codes are part of the interface.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitUnreachable = 3
	exitViolation   = 4
)

func main() {
	version.Version = api.Version() // everywhere the same word for a build that was not stamped with one
	app := kingpin.New("govtop", "Show governor's loops: what each one measures, decides, and why.\n\n"+
		"Exit codes: 0 ok, 1 error, 2 usage, 3 governor unreachable, 4 (--check) a loop violates its SLO.")
	app.UsageWriter(os.Stdout)
	app.HelpFlag.Short('h')
	app.Version(version.Print("govtop"))
	var o options
	app.Flag("connect", "Address of a governor.").PlaceHolder("URL").Default("http://" + api.DefaultAddress).
		StringVar(&o.address)
	app.Flag("once", "Print the loops once and exit.").BoolVar(&o.once)
	app.Flag("output", "What --once prints: table or json.").PlaceHolder("table").Default("table").
		EnumVar(&o.output, "table", "json")
	app.Flag("check", "Exit with 4 if a loop violates its SLO, naming those that do.").BoolVar(&o.check)

	if _, err := app.Parse(os.Args[1:]); err != nil {
		os.Exit(usage(os.Stderr, err.Error()+"; try govtop --help"))
	}
	os.Exit(run(o, os.Stdin, os.Stdout, os.Stderr))
}

type options struct {
	address string
	once    bool
	output  string
	check   bool
}

func run(o options, stdin, stdout, stderr *os.File) int {
	client, err := api.NewClient(o.address)
	if err != nil {
		return usage(stderr, err.Error())
	}
	defer client.Close()
	if o.once || o.check {
		return once(context.Background(), client, o, stdout, stderr)
	}
	if o.output != "table" {
		return usage(stderr, "--output goes with --once")
	}
	if why := noScreen(stdin, stdout, os.Getenv("TERM")); why != "" {
		return usage(stderr, why+": try govtop --once")
	}
	return live(client, client.Address(), stderr)
}

// noScreen says why the live screen cannot be shown, "" if it can.
func noScreen(stdin, stdout *os.File, terminal string) string {
	switch {
	case !term.IsTerminal(stdin.Fd()):
		return "standard input is not a terminal"
	case !term.IsTerminal(stdout.Fd()):
		return "standard output is not a terminal"
	case terminal == "" || terminal == "dumb":
		return fmt.Sprintf("the terminal (TERM=%q) has no screen", terminal)
	}
	return ""
}

func live(source ui.Source, address string, stderr io.Writer) int {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	// Any value but the empty one, as no-color.org has it; the terminal library would ask for a boolean.
	colour := os.Getenv("NO_COLOR") == ""
	if err := ui.Run(ctx, ui.New(ctx, source, address, api.Version(), ui.Options{}), colour); err != nil {
		return failed(stderr, err)
	}
	return exitOK
}

func once(ctx context.Context, source ui.Source, o options, stdout, stderr io.Writer) int {
	snapshot, err := ui.Fetch(ctx, source)
	if err != nil {
		return failed(stderr, err)
	}
	if o.once {
		if o.output == "json" {
			err = writeJSON(stdout, snapshot)
		} else {
			err = ui.WriteTable(stdout, snapshot)
		}
		if err != nil {
			return failed(stderr, err)
		}
	}
	if !o.check {
		return exitOK
	}
	code := exitOK
	for _, l := range snapshot.Loops {
		if ui.Violates(l) {
			code = exitViolation
			fmt.Fprintln(stderr, ui.Violation(l))
		}
	}
	return code
}

// writeJSON writes v for scripts and for eyes: control characters that JSON lets through, but that some terminals obey,
// are escaped, which changes nothing for a JSON reader.
func writeJSON(w io.Writer, v any) error {
	var document, text strings.Builder
	encoder := json.NewEncoder(&document)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // "148ms > 112ms" reads better
	if err := encoder.Encode(v); err != nil {
		return err
	}
	for _, r := range document.String() {
		if r >= 0x7f && r <= 0x9f {
			fmt.Fprintf(&text, `\u%04x`, r)
			continue
		}
		text.WriteRune(r)
	}
	_, err := io.WriteString(w, text.String())
	return err
}

func usage(stderr io.Writer, message string) int {
	fmt.Fprintln(stderr, "govtop:", ui.Clean(message))
	return exitUsage
}

func failed(stderr io.Writer, err error) int {
	fmt.Fprintln(stderr, "govtop:", ui.Clean(err.Error()))
	if _, ok := errors.AsType[*api.UnreachableError](err); ok {
		return exitUnreachable
	}
	return exitError
}
