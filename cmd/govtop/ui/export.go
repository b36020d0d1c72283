package ui

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	tea "charm.land/bubbletea/v2"

	safe "github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Export is what govtop writes for other programs: of --once --output json the Snapshot alone, of the key e also the
// past that the screen shows. docs/govtop.schema.json describes it.
type Export struct {
	Snapshot
	// Past is the instant of the loops, where the screen was rewound; the status is that of now.
	Past *time.Time `json:"past,omitempty"`
	// History is what the chart on the screen shows.
	History []api.LoopHistory `json:"history,omitempty"`
}

// exportedMsg tells how an export ended.
type exportedMsg struct {
	path string
	err  error
}

// exportCmd writes the document under a name with the time in it. save is that of Options.
func exportCmd(save func(name string, content []byte) (string, error), now time.Time, e Export) tea.Cmd {
	return func() tea.Msg {
		if save == nil {
			return exportedMsg{err: errors.New("cannot export: this govtop was not told where to")}
		}
		document, err := EncodeJSON(e.complete())
		if err != nil {
			return exportedMsg{err: fmt.Errorf("cannot export: %w", err)}
		}
		path, err := save("govtop-"+now.UTC().Format("20060102T150405Z")+".json", document)
		return exportedMsg{path, err}
	}
}

// complete has empty lists where there are none: the schema knows no null there.
func (e Export) complete() Export {
	e.Loops = append([]api.Loop{}, e.Loops...)
	e.History = slices.Clone(e.History)
	for i := range e.History {
		e.History[i].Points = append([]api.Point{}, e.History[i].Points...)
	}
	return e
}

// EncodeJSON writes v for scripts and for eyes: characters that JSON lets through, but that a terminal would obey or
// hide, are escaped, which changes nothing for a JSON reader.
func EncodeJSON(v any) ([]byte, error) {
	var document bytes.Buffer
	encoder := json.NewEncoder(safe.NewLogWriter(&document))
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false) // "148ms > 112ms" reads better
	if err := encoder.Encode(v); err != nil {
		return nil, err
	}
	return document.Bytes(), nil
}
