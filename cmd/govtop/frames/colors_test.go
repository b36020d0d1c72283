package frames

import (
	"image/color"
	"os/exec"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/test/terminal"
)

// TestAutomaticTheme: govtop asks the terminal for its background, and is then as readable as with an explicit theme.
func TestAutomaticTheme(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for name, background := range map[string]color.Color{"dark": color.Black, "light": color.White} {
		t.Run(name, func(t *testing.T) {
			args, variables := fleet(nil).serve(t)
			cmd := exec.Command(path, args...)
			cmd.Env = terminal.Env(variables...)
			term := terminal.Run(t, cmd, usual, terminal.Background(background))
			want := sections("testdata/mixed.style")[name]
			if err := term.Within(patience, func(s terminal.Screen) bool { return s.Styles() == want }); err != nil {
				t.Errorf("on a %s background:\n%s", name, difference(term.Screen().Styles(), want))
			}
			term.Types("\x03")
			term.Ends(0)
		})
	}
}

// TestColorsOfTheTerminal: with 16 colors, 256 colors or all of them, and under tmux, the screen reads the same, and
// govtop uses no color that the terminal lacks.
func TestColorsOfTheTerminal(t *testing.T) {
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name      string
		variables []string
		has       func(color.Color) bool
	}{
		{"16", []string{"TERM=xterm"}, func(c color.Color) bool { _, ok := c.(ansi.BasicColor); return ok }},
		{"256", []string{"TERM=screen-256color"}, func(c color.Color) bool {
			_, rgb := c.(color.RGBA)
			return !rgb
		}},
		{"tmux", []string{"TERM=tmux-256color", "TMUX=/tmp/tmux,1,0", "TERM_PROGRAM=tmux"}, nil},
		{"all", []string{"COLORTERM=truecolor"}, nil},
		{"ssh", []string{"SSH_TTY=/dev/pts/9", "SSH_CONNECTION=192.0.2.1 1 192.0.2.2 22"}, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			args, variables := fleet(nil).serve(t)
			cmd := exec.Command(path, append(args, "--actor=ana")...)
			cmd.Env = terminal.Env(append(variables, c.variables...)...)
			term := terminal.Run(t, cmd, usual)
			want := sections("testdata/mixed.txt")[usual.String()]
			if err := term.Within(patience, func(s terminal.Screen) bool { return s.String() == want }); err != nil {
				t.Fatalf("it reads otherwise:\n%s", difference(term.Screen().String(), want))
			}
			s := term.Screen()
			if !s.Colored() {
				t.Error("it has no color")
			}
			for y, row := range s.Rows {
				for x, cell := range row {
					for _, shade := range []color.Color{cell.Style.Foreground, cell.Style.Background} {
						if shade != nil && c.has != nil && !c.has(shade) {
							t.Fatalf("column %d of line %d asks for %v", x, y, shade)
						}
					}
				}
			}
			term.Types("\x03")
			term.Ends(0)
		})
	}
}
