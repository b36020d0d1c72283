package ui

import (
	"fmt"
	"reflect"
	"runtime/debug"

	tea "charm.land/bubbletea/v2"
)

// guarded is a model whose commands may panic. Bubble Tea restores the terminal and then tells of a panic in Update and
// in View; of one in a batch of commands it tells while the terminal is still the program's, and nobody reads it. So
// a panic in a command becomes one in Update.
type guarded struct{ tea.Model }

// faultMsg is a panic in a command, with the trace of where it was.
type faultMsg string

func (g guarded) Init() tea.Cmd { return guard(g.Model.Init()) }

func (g guarded) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if fault, ok := msg.(faultMsg); ok {
		panic(string(fault))
	}
	next, cmd := g.Model.Update(msg)
	return guarded{next}, guard(cmd)
}

// guard makes a message of a panic in the command, or in one that it leads to.
func guard(cmd tea.Cmd) tea.Cmd {
	if cmd == nil {
		return nil
	}
	return func() (msg tea.Msg) {
		defer func() {
			if r := recover(); r != nil {
				msg = faultMsg(fmt.Sprintf("%v\n\n%s", r, debug.Stack()))
			}
		}()
		msg = cmd()
		// A batch, or a sequence, whose type has no name outside of Bubble Tea.
		if list := reflect.ValueOf(msg); msg != nil && list.Type().ConvertibleTo(commandList) {
			for i := range list.Len() {
				if c, ok := reflect.TypeAssert[tea.Cmd](list.Index(i)); ok {
					list.Index(i).Set(reflect.ValueOf(guard(c)))
				}
			}
		}
		return msg
	}
}

var commandList = reflect.TypeFor[[]tea.Cmd]()
