package terminal

import (
	"os/exec"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"
)

// printing starts a shell that prints the printf text, and waits for a key.
func printing(t *testing.T, text string) *TestTerminal {
	t.Helper()
	term := Run(t, exec.Command("sh", "-c", "printf '"+text+"'; read key"), Size{20, 4})
	term.Shows("end")
	return term
}

func TestScreen(t *testing.T) {
	term := printing(t, `\033[1;31mred\033[0m plain\r\n結帳 e\314\201\033[7m!\033[0m\r\n\033[38;2;1;2;3mx\033[0mend`)
	s := term.Screen()
	if got, want := s.String(), "red plain\n結帳 e\u0301!\nxend\n\n"; got != want {
		t.Errorf("the screen is %q, want %q", got, want)
	}
	want := "1  \"red\" red bold\n2  \"!\" reverse\n3  \"x\" #010203\n"
	if got := s.Styles(); got != want {
		t.Errorf("the styles are\n%s, want\n%s", got, want)
	}
	if pieces := s.Pieces(1); len(pieces) < 2 || pieces[1].Column != 6 {
		t.Errorf("the piece after two wide characters, a blank and an accent: %+v", pieces)
	}
	if !s.Colored() || !s.Cursor || s.Alt {
		t.Errorf("colored %v, cursor %v, alternate screen %v", s.Colored(), s.Cursor, s.Alt)
	}
	term.Types("\n")
	term.Ends(0)
}

// TestRegionBeyondTheScreen: output that a program still prints for a larger, earlier screen.
func TestRegionBeyondTheScreen(t *testing.T) {
	term := printing(t, `\033[2;90r\033[2;1H\033[5T\033[80;90r\033[1;1Hend`)
	term.Types("\n")
	term.Ends(0)
}

// TestWhatIsLeftBehindIsNoticed: a check that cannot fail would prove nothing about the programs that pass it.
func TestWhatIsLeftBehindIsNoticed(t *testing.T) {
	for text, want := range map[string]string{
		`\033[?1049h`: "the alternate screen is still on",
		`\033[?25l`:   "the cursor is hidden",
		`\033[?1003h`: "still on: mouse motion",
		`\033[?2004h`: "still on: bracketed paste",
		`\033[?7l`:    "lines do not wrap",
	} {
		term := printing(t, text+"end")
		term.Types("\n")
		if _, err := term.Wait(); err != nil {
			t.Fatal(err)
		}
		if err := term.Restored(); err == nil || err.Error() != want {
			t.Errorf("after %s: %v, want %s", text, err, want)
		}
	}
	term := Run(t, exec.Command("sh", "-c", "stty -echo -icanon; printf '\\a'"), Size{20, 4})
	if code, err := term.Wait(); err != nil || code != 0 {
		t.Fatal(code, err)
	}
	if err := term.Restored(); err == nil || !strings.Contains(err.Error(), "the line is in another mode") {
		t.Errorf("after stty -echo -icanon: %v", err)
	}
	if term.Meddled() != 1 {
		t.Error("the bell goes unnoticed")
	}
}

func TestLooksLikeSeesWhatAPersonSees(t *testing.T) {
	faint, under, on := Style{Faint: true}, Style{Underline: true}, Style{Background: ansi.Red}
	screen := func(style Style, text string) Screen { return Screen{Rows: [][]Cell{{{text, 1, style}}}} }
	for _, tc := range []struct {
		a, b Screen
		want bool
	}{
		{screen(faint, " "), screen(Style{}, " "), true},
		{screen(faint, "x"), screen(Style{}, "x"), false},
		{screen(Style{}, "x"), screen(Style{}, "y"), false},
		{screen(under, " "), screen(Style{}, " "), false},
		{screen(on, " "), screen(Style{}, " "), false},
		{screen(Style{}, " "), Screen{}, false},
	} {
		if got := tc.a.LooksLike(tc.b); got != tc.want {
			t.Errorf("%+v and %+v: %v", tc.a, tc.b, got)
		}
	}
}
