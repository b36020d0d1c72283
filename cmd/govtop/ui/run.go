package ui

import (
	"context"
	"errors"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
)

// framesPerSecond is how often the renderer looks for a change, which costs a fiftieth of a percent of a core each.
// Data comes at most four times a second; this is for keys.
const framesPerSecond = 10

// Run shows the model until the user quits or the context ends, and restores the terminal, also after a panic in the
// model or in a command. Without color it still uses bold and faint.
func Run(ctx context.Context, model tea.Model, color bool) error {
	options := []tea.ProgramOption{tea.WithContext(ctx), tea.WithFPS(framesPerSecond)}
	if !color {
		options = append(options, tea.WithColorProfile(colorprofile.ASCII))
	}
	_, err := tea.NewProgram(guarded{model}, options...).Run()
	switch {
	case errors.Is(err, tea.ErrProgramPanic):
		return errors.New("govtop failed on a mistake of its own; the trace above is worth a bug report")
	case errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil:
		return nil
	}
	return err
}
