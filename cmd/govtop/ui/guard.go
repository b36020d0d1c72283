package ui

import (
	"fmt"
	"reflect"
	"runtime/debug"

	tea "charm.land/bubbletea/v2"
)

// guarded is a model whose commands may panic. After a panic in Update or View, Bubble Tea restores the terminal and
// then reports it. It reports a panic in a batch of commands while the program still owns the terminal, where nobody
// can read it. So guarded turns a panic in a command into one in Update.
type guarded struct{ tea.Model }

// faultMsg is a panic in a command, with its stack trace.
type faultMsg string

func (g guarded) Init() tea.Cmd { return guard(g.Model.Init()) }

func (g guarded) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	if fault, ok := msg.(faultMsg); ok {
		panic(string(fault))
	}
	next, cmd := g.Model.Update(msg)
	return guarded{next}, guard(cmd)
}

// guard turns a panic in the command, or in one that it leads to, into a message.
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
		// A batch or a sequence, whose type Bubble Tea does not export.
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
