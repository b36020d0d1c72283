package ui

import (
	"context"
	"errors"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/colorprofile"
)

// framesPerSecond is how often the renderer looks for a change; each look per second costs 0.02% of a core. Data
// arrives at most four times a second; the rest is for keys.
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
		return errors.New("govtop crashed; please report the trace above as a bug")
	case errors.Is(err, tea.ErrInterrupted) || ctx.Err() != nil:
		return nil
	}
	return err
}
