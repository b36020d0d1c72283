package terminal

import (
	"fmt"
	"image/color"
	"slices"
	"strings"

	"github.com/charmbracelet/x/ansi"
)

// Screen is the content of the terminal at an instant.
type Screen struct {
	Size   Size
	Rows   [][]Cell // Size.Height rows of Size.Width cells
	Alt    bool     // it is the alternate screen
	Cursor bool     // the cursor is visible
}

// Size is a number of cells in each direction.
type Size struct{ Width, Height int }

// String writes 80x24.
func (s Size) String() string { return fmt.Sprintf("%dx%d", s.Width, s.Height) }

// Cell is one cell. The cell behind a wide character is empty and of width 0.
type Cell struct {
	Text  string
	Width int
	Style Style
}

// Style is the look of a cell. Its colors are nil for the terminal's own; otherwise an ansi.BasicColor, an
// ansi.IndexedColor or an RGB color, as the program chose them.
type Style struct {
	Foreground, Background                         color.Color
	Bold, Faint, Italic, Underline, Reverse, Blink bool
}

// String names what differs from plain text: "red bold", "on #1e1e2e"; "" for plain text.
func (s Style) String() string {
	var words []string
	if s.Foreground != nil {
		words = append(words, colorName(s.Foreground))
	}
	if s.Background != nil {
		words = append(words, "on "+colorName(s.Background))
	}
	for _, a := range []struct {
		is   bool
		word string
	}{
		{s.Bold, "bold"},
		{s.Faint, "faint"},
		{s.Italic, "italic"},
		{s.Underline, "underline"},
		{s.Reverse, "reverse"},
		{s.Blink, "blink"},
	} {
		if a.is {
			words = append(words, a.word)
		}
	}
	return strings.Join(words, " ")
}

var basicNames = []string{"black", "red", "green", "yellow", "blue", "magenta", "cyan", "white"}

func colorName(c color.Color) string {
	switch c := c.(type) {
	case ansi.BasicColor:
		if c >= 8 {
			return "bright-" + basicNames[c%8]
		}
		return basicNames[c]
	case ansi.IndexedColor:
		return fmt.Sprintf("color-%d", uint8(c))
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}

// String returns the text, one line per row, without trailing blanks.
func (s Screen) String() string {
	var text strings.Builder
	for _, row := range s.Rows {
		text.WriteString(strings.TrimRight(rowText(row), " "))
		text.WriteByte('\n')
	}
	return text.String()
}

func rowText(row []Cell) string {
	var text strings.Builder
	for _, c := range row {
		text.WriteString(c.Text)
	}
	return text.String()
}

// Shows reports whether a line of the screen contains the text.
func (s Screen) Shows(text string) bool { return strings.Contains(s.String(), text) }

// Piece is a part of a row in one style.
type Piece struct {
	Column, Width int
	Text          string
	Style         Style
}

// Pieces splits a row into parts of equal style, from left to right.
func (s Screen) Pieces(row int) []Piece {
	var pieces []Piece
	column := 0
	for _, c := range s.Rows[row] {
		if n := len(pieces); n > 0 && (pieces[n-1].Style == c.Style || c.Width == 0) {
			pieces[n-1].Text += c.Text
			pieces[n-1].Width += c.Width
		} else {
			pieces = append(pieces, Piece{Column: column, Width: c.Width, Text: c.Text, Style: c.Style})
		}
		column += c.Width
	}
	return pieces
}

// Styles lists every piece of text that is not plain, one line per row that has any:
//
//	3  "checkout/concurrency" bold | "v CUTTING" cyan
func (s Screen) Styles() string {
	var text strings.Builder
	for y := range s.Rows {
		var parts []string
		for _, r := range s.Pieces(y) {
			name := r.Style.String()
			blank := strings.TrimRight(r.Text, " ") == ""
			if name != "" && (!blank || r.Style.Reverse || r.Style.Background != nil) {
				parts = append(parts, fmt.Sprintf("%q %s", r.Text, name))
			}
		}
		if len(parts) > 0 {
			fmt.Fprintf(&text, "%-3d%s\n", y+1, strings.Join(parts, " | "))
		}
	}
	return text.String()
}

// LooksLike reports whether the two screens look the same to a person: every cell has the same text and style, except
// for invisible styles of blanks, since a program may clear a cell or write a faint blank into it.
func (s Screen) LooksLike(other Screen) bool {
	return slices.EqualFunc(s.Rows, other.Rows, func(a, b []Cell) bool {
		return slices.EqualFunc(a, b, func(a, b Cell) bool { return a.seen() == b.seen() })
	})
}

// seen is the cell as a person sees it.
func (c Cell) seen() Cell {
	if c.Text == "" && c.Width == 1 {
		c.Text = " "
	}
	if s := c.Style; c.Text == " " && s.Background == nil && !s.Reverse && !s.Underline {
		c.Style = Style{}
	}
	return c
}

// Colored reports whether any cell has its own color.
func (s Screen) Colored() bool {
	for _, row := range s.Rows {
		for _, c := range row {
			if c.Style.Foreground != nil || c.Style.Background != nil {
				return true
			}
		}
	}
	return false
}
