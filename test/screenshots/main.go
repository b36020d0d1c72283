// Screenshots takes the pictures of the documentation from a real run: it plays `governor demo` on a terminal, watches
// its leader with govtop on another, and writes both screens as SVG.
//
//	screenshots GOVERNOR GOVTOP DIRECTORY
//
// It takes a minute. The pictures show real measurements, so they differ between runs.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"syscall"
	"time"

	"github.com/seed-de83e32b/governor/test/terminal"
)

func main() {
	if len(os.Args) != 4 {
		fmt.Fprintln(os.Stderr, "usage: screenshots GOVERNOR GOVTOP DIRECTORY")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := take(ctx, os.Args[1], os.Args[2], os.Args[3]); err != nil {
		fmt.Fprintln(os.Stderr, "screenshots:", err)
		os.Exit(1)
	}
}

// The acts of the demo as the screen names them, and the best moment of each for a picture.
const (
	surge, intoSurge   = "2/7 ", 12 * time.Second
	healed, intoHealed = "3/7 ", 8 * time.Second
)

var size = terminal.Size{Width: 120, Height: 30}

// take plays the demo up to its third act and takes the pictures on the way.
func take(ctx context.Context, governor, govtop, directory string) error {
	demo, err := start(governor, "demo")
	if err != nil {
		return err
	}
	defer demo.Close()
	address, err := find(demo, regexp.MustCompile(`govtop --connect (http://\S+)`))
	if err != nil {
		return fmt.Errorf("the demo does not say where its governors are: %w", err)
	}
	watch, err := start(govtop, "--connect", address, "--theme=dark", "--actor=ana")
	if err != nil {
		return err
	}
	defer watch.Close()

	if err := waitFor(ctx, demo, surge, intoSurge); err != nil {
		return err
	}
	title := "govtop: the loops of a service at three times its load"
	if err := save(directory, "govtop-overview", title, watch); err != nil {
		return err
	}
	if err := watch.Type("\r"); err != nil {
		return err
	}
	watch.Settle(100 * time.Millisecond)
	if err := save(directory, "govtop-detail", "govtop: why one loop does what it does", watch); err != nil {
		return err
	}
	if err := waitFor(ctx, demo, healed, intoHealed); err != nil {
		return err
	}
	title = "governor demo: after the surge, the service with a limit set by hand stays under, the governed one is back"
	if err := save(directory, "demo", title, demo); err != nil {
		return err
	}
	for _, t := range []*terminal.Terminal{watch, demo} {
		if err := t.Type("\x03"); err != nil {
			return err
		}
		if code, err := t.Wait(); err != nil {
			return err
		} else if code != 0 {
			return fmt.Errorf("exit code %d", code)
		}
	}
	return nil
}

func start(name string, args ...string) (*terminal.Terminal, error) {
	cmd := exec.Command(name, args...)
	cmd.Env = terminal.Env("COLORTERM=truecolor")
	return terminal.Start(cmd, size)
}

// find waits until the screen matches, and returns the first group of the match.
func find(t *terminal.Terminal, pattern *regexp.Regexp) (found string, err error) {
	err = t.Until(func(s terminal.Screen) bool {
		m := pattern.FindStringSubmatch(s.String())
		if m != nil {
			found = m[1]
		}
		return m != nil
	})
	return found, err
}

// waitFor waits until the demo plays an act, and then a while longer.
func waitFor(ctx context.Context, demo *terminal.Terminal, act string, after time.Duration) error {
	if err := demo.Within(time.Minute, func(s terminal.Screen) bool { return s.Shows(act) }); err != nil {
		return fmt.Errorf("wait for act %s: %w", act, err)
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(after):
		return nil
	}
}

func save(directory, name, title string, t *terminal.Terminal) error {
	path := filepath.Join(directory, name+".svg")
	picture := SVG(t.Screen(), title)
	if err := os.WriteFile(path, []byte(picture), 0o644); err != nil {
		return err
	}
	fmt.Printf("%s: %d kB\n", path, (len(picture)+1023)/1024)
	return nil
}
