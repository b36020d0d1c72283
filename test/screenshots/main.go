// Screenshots takes the pictures of the documentation from a real run: it plays `governor demo` on a terminal, watches
// its leader with govtop on another, and writes both screens as SVG.
//
//	screenshots GOVERNOR GOVTOP DIRECTORY
//
// It takes as long as the demo, somewhat more than a minute. What the pictures show is what was measured meanwhile, so
// every run gives others.
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
	surge, intoSurge   = "2/7 ", 8 * time.Second
	healed, intoHealed = "3/7 ", 6 * time.Second
	killed             = "7/7 "
	// tookOver is said when the governor that stood by leads and none stands by any more. It decides some seconds later.
	tookOver, intoTookOver = " leads  Prometheus", 4 * time.Second
)

var size = terminal.Size{Width: 120, Height: 30}

// take plays the demo and takes the pictures on the way.
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
	if err := waitFor(ctx, demo, healed, intoHealed); err != nil {
		return err
	}
	if err := save(directory, "govtop-detail", "govtop: why one loop does what it does", watch); err != nil {
		return err
	}
	if err := quit(watch); err != nil { // its governor is the one that the last act kills
		return fmt.Errorf("govtop: %w", err)
	}
	if err := waitFor(ctx, demo, killed, 0); err != nil {
		return err
	}
	if err := demo.Type("a"); err != nil { // the story waits, for however long Consul takes to find the leader dead
		return err
	}
	if err := waitFor(ctx, demo, tookOver, intoTookOver); err != nil {
		return err
	}
	title = "governor demo: since the surge, the service with a limit set by hand is down; the governed one serves all"
	if err := save(directory, "demo", title, demo); err != nil {
		return err
	}
	if err := quit(demo); err != nil {
		return fmt.Errorf("governor demo: %w", err)
	}
	return nil
}

func quit(t *terminal.Terminal) error {
	if err := t.Type("\x03"); err != nil {
		return err
	}
	code, err := t.Wait()
	if err == nil && code != 0 {
		err = fmt.Errorf("exit code %d", code)
	}
	return err
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

// waitFor waits until the demo says something, and then for a while more.
func waitFor(ctx context.Context, demo *terminal.Terminal, says string, after time.Duration) error {
	if err := demo.Within(time.Minute, func(s terminal.Screen) bool { return s.Shows(says) }); err != nil {
		return fmt.Errorf("wait for %q: %w", says, err)
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
