package main

import (
	"fmt"
	"html"
	"image/color"
	"strings"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/test/terminal"
)

// The picture's grid, in pixels. A character of a monospaced font is 0.6 of the font size wide.
const (
	fontSize   = 14
	cellWidth  = 8.4
	cellHeight = 18
	baseline   = 13.5 // below the top of a cell
	margin     = 14
	overlap    = 0.4 // of what stands on each other
)

// The terminal's own colors.
const (
	foreground = "#d0d4dc"
	background = "#16181d"
)

var basic = []string{
	"#3b4048", "#e0626c", "#8fc46c", "#dcb860", "#62a8ea", "#c47fd8", "#56b8c2", "#c8ccd4",
	"#6b7280", "#f08080", "#a8d888", "#ecd080", "#88c0f4", "#d8a0e8", "#78d0d8", "#ffffff",
}

// SVG draws a screen. It sets text on the grid run by run. It draws lines, blocks and Braille dots as paths, since
// fonts differ in whether they have them and how large they are.
func SVG(s terminal.Screen, title string) string {
	width := float64(s.Size.Width)*cellWidth + 2*margin
	height := s.Size.Height*cellHeight + 2*margin
	var b strings.Builder
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %s %d" role="img">`+"\n",
		short(width), height)
	fmt.Fprintf(&b, "<title>%s</title>\n", html.EscapeString(title))
	fmt.Fprintf(&b, `<rect width="%s" height="%d" rx="8" fill="%s"/>`+"\n", short(width), height, background)
	fmt.Fprintf(&b, `<g font-family="ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace" font-size="%d" `+
		`fill="%s" style="white-space:pre">`+"\n", fontSize, foreground)
	for y := range s.Rows {
		for _, piece := range s.Pieces(y) {
			draw(&b, piece, y)
		}
	}
	b.WriteString("</g>\n</svg>\n")
	return b.String()
}

// draw draws one piece of a row.
func draw(b *strings.Builder, p terminal.Piece, row int) {
	x, y := margin+float64(p.Column)*cellWidth, float64(margin+row*cellHeight)
	ink, paper := hex(p.Style.Foreground, foreground), hex(p.Style.Background, "")
	if p.Style.Reverse {
		ink, paper = hex(p.Style.Background, background), hex(p.Style.Foreground, foreground)
	}
	if paper != "" {
		fmt.Fprintf(b, `<rect x="%s" y="%s" width="%s" height="%d" fill="%s"/>`+"\n",
			short(x), short(y), short(float64(p.Width)*cellWidth), cellHeight, paper)
	}
	look := ""
	if ink != foreground {
		look += fmt.Sprintf(` fill="%s"`, ink)
	}
	if p.Style.Faint {
		look += ` opacity=".6"`
	}
	text, shapes := split(p, x, y)
	if shapes != "" {
		fmt.Fprintf(b, `<path%s d="%s"/>`+"\n", look, shapes)
	}
	if p.Style.Bold {
		look += ` font-weight="bold"`
	}
	if p.Style.Underline {
		look += ` text-decoration="underline"`
	}
	for _, word := range text {
		fmt.Fprintf(b, `<text x="%s" y="%s" textLength="%s"%s>%s</text>`+"\n",
			short(margin+float64(word.Column)*cellWidth), short(y+baseline), short(float64(word.Width)*cellWidth), look,
			html.EscapeString(word.Text))
	}
}

// split splits a piece: runs of text without the gaps between them, and the path of the drawn characters.
func split(p terminal.Piece, x, y float64) (text []terminal.Piece, path string) {
	var shapes strings.Builder
	var run terminal.Piece
	flush := func() {
		if trimmed := strings.TrimRight(run.Text, " "); trimmed != "" {
			run.Width -= len(run.Text) - len(trimmed)
			run.Text = trimmed
			text = append(text, run)
		}
		run = terminal.Piece{}
	}
	column, rest := p.Column, p.Text
	for rest != "" {
		cluster, width := ansi.FirstGraphemeCluster(rest, ansi.GraphemeWidth)
		rest = rest[len(cluster):]
		if shape := shapeOf([]rune(cluster)[0], x+float64(column-p.Column)*cellWidth, y); shape != "" {
			flush()
			shapes.WriteString(shape)
		} else if cluster != " " || run.Text != "" {
			if run.Text == "" {
				run.Column = column
			}
			run.Text += cluster
			run.Width += width
		}
		if strings.HasSuffix(run.Text, "  ") { // a gap
			flush()
		}
		column += width
	}
	flush()
	return text, shapes.String()
}

// arms are the directions of a box's lines from the middle of their cell: left, right, up, down.
var arms = map[rune]string{
	'─': "lr", '│': "ud", '┌': "rd", '┐': "ld", '└': "ru", '┘': "lu", '├': "rud", '┤': "lud", '┬': "lrd", '┴': "lru",
	'┼': "lrud", '╴': "l", '╵': "u", '╶': "r", '╷': "d",
}

// shapeOf is the path of a drawn character in the cell at x, y; "" for characters set as text.
func shapeOf(r rune, x, y float64) string {
	box := func(x, y, w, h float64) string {
		return fmt.Sprintf("M%s %sh%sv%sh-%sz", short(x), short(y), short(w), short(h), short(w))
	}
	const line = 1.2
	middleX, middleY := x+(cellWidth-line)/2, y+(cellHeight-line)/2
	switch {
	case arms[r] != "":
		var path strings.Builder
		for _, direction := range arms[r] {
			switch direction {
			case 'l':
				path.WriteString(box(x, middleY, cellWidth/2, line))
			case 'r':
				path.WriteString(box(x+cellWidth/2, middleY, cellWidth/2, line))
			case 'u':
				path.WriteString(box(middleX, y, line, cellHeight/2))
			case 'd':
				path.WriteString(box(middleX, y+cellHeight/2, line, cellHeight/2))
			}
		}
		return path.String()
	case r == '┃':
		return box(middleX-0.6, y, 2*line, cellHeight)
	case r >= '▁' && r <= '█': // from below, in eighths, and a little lower, lest a seam show between two rows
		h := float64(r-'▁'+1) / 8 * cellHeight
		return box(x, y+cellHeight-h, cellWidth, h+overlap)
	case r >= '▉' && r <= '▏': // from the left, in eighths
		return box(x, y, float64('▏'-r+1)/8*cellWidth, cellHeight+overlap)
	case r > 0x2800 && r <= 0x28ff: // two columns of four dots
		var path strings.Builder
		for bit, at := range [8][2]float64{{0, 0}, {0, 1}, {0, 2}, {1, 0}, {1, 1}, {1, 2}, {0, 3}, {1, 3}} {
			if r&(1<<bit) != 0 {
				path.WriteString(box(x+(at[0]+.5)*cellWidth/2-1, y+(at[1]+.5)*cellHeight/4-1, 2, 2))
			}
		}
		return path.String()
	}
	return ""
}

// hex formats a color in six digits.
func hex(c color.Color, otherwise string) string {
	switch c := c.(type) {
	case nil:
		return otherwise
	case ansi.BasicColor:
		return basic[c%16]
	}
	r, g, b, _ := c.RGBA()
	return fmt.Sprintf("#%02x%02x%02x", r>>8, g>>8, b>>8)
}

// short formats a number of pixels with at most one digit after the point.
func short(v float64) string { return strings.TrimSuffix(fmt.Sprintf("%.1f", v), ".0") }
