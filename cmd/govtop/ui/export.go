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

// Export is what govtop writes for other programs: for --once --output json the Snapshot alone, for the key e also the
// past on the screen. docs/govtop.schema.json describes it.
type Export struct {
	Snapshot
	// Past is the instant of the loops if the screen was rewound; the status is always the present one.
	Past *time.Time `json:"past,omitempty"`
	// History is the data of the charts on the screen.
	History []api.LoopHistory `json:"history,omitempty"`
}

// exportedMsg is the outcome of an export.
type exportedMsg struct {
	path string
	err  error
}

// exportCmd writes the document under a name that contains the time, with Options.Save.
func exportCmd(save func(name string, content []byte) (string, error), now time.Time, e Export) tea.Cmd {
	return func() tea.Msg {
		if save == nil {
			return exportedMsg{err: errors.New("cannot export: this govtop has no place to export to")}
		}
		document, err := EncodeJSON(e.complete())
		if err != nil {
			return exportedMsg{err: fmt.Errorf("cannot export: %w", err)}
		}
		path, err := save("govtop-"+now.UTC().Format("20060102T150405Z")+".json", document)
		return exportedMsg{path, err}
	}
}

// complete replaces null lists by empty ones: the schema does not allow null.
func (e Export) complete() Export {
	e.Loops = append([]api.Loop{}, e.Loops...)
	e.History = slices.Clone(e.History)
	for i := range e.History {
		e.History[i].Points = append([]api.Point{}, e.History[i].Points...)
	}
	return e
}

// EncodeJSON writes v for scripts and for eyes. It escapes characters that JSON allows but a terminal would obey or
// hide; JSON readers see no difference.
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
