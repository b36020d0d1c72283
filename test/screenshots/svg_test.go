package main

import (
	"encoding/xml"
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/test/terminal"
)

func screen(style terminal.Style, text string) terminal.Screen {
	var row []terminal.Cell
	for rest := text; rest != ""; {
		cluster, width := ansi.FirstGraphemeCluster(rest, ansi.GraphemeWidth)
		rest = rest[len(cluster):]
		row = append(row, terminal.Cell{Text: cluster, Width: width, Style: style})
	}
	return terminal.Screen{Size: terminal.Size{Width: 40, Height: 1}, Rows: [][]terminal.Cell{row}}
}

// TestSVG: each piece is placed at its cells with their width, and the document is well-formed.
func TestSVG(t *testing.T) {
	for _, c := range []struct {
		text  string
		style terminal.Style
		want  []string
	}{
		{"  a<b  c", terminal.Style{}, []string{
			`<text x="30.8" y="27.5" textLength="25.2">a&lt;b</text>`, `<text x="72.8" y="27.5" textLength="8.4">c</text>`,
		}},
		{"結 x", terminal.Style{Bold: true, Foreground: ansi.Red}, []string{
			`<text x="14" y="27.5" textLength="33.6" fill="#e0626c" font-weight="bold">結 x</text>`,
		}},
		{"─a", terminal.Style{Faint: true}, []string{
			`<path opacity=".6" d="M14 22.4h4.2v1.2h-4.2zM18.2 22.4h4.2v1.2h-4.2z"/>`,
			`<text x="22.4" y="27.5" textLength="8.4" opacity=".6">a</text>`,
		}},
		{"▄⡀", terminal.Style{}, []string{`<path d="M14 23h8.4v9.4h-8.4zM23.5 28.8h2v2h-2z"/>`}},
		{"r", terminal.Style{Reverse: true}, []string{
			`<rect x="14" y="14" width="8.4" height="18" fill="#d0d4dc"/>`, `fill="#16181d">r</text>`,
		}},
	} {
		got := SVG(screen(c.style, c.text), "a & b")
		for _, part := range append(c.want, "<title>a &amp; b</title>") {
			if !strings.Contains(got, part) {
				t.Errorf("%q: no %s in\n%s", c.text, part, got)
			}
		}
		for d := xml.NewDecoder(strings.NewReader(got)); ; {
			if _, err := d.Token(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatalf("%q: %v", c.text, err)
			}
		}
	}
}
