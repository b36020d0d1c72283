package ui

import (
	"fmt"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// large is a screen with 500 loops in all states, and an event for each.
func large(w, h int) (Model, []api.Event) {
	return largeOf(w, h, func(i int) string { return fmt.Sprintf("service-%03d", i) })
}

// largeOf names the services.
func largeOf(w, h int, service func(i int) string) (Model, []api.Event) {
	var loops []api.Loop
	var events []api.Event
	for i := range 500 {
		l := fixture.Loops()[i%10]
		l.Service = service(i)
		l.Decision.Inputs.Burn5m = control.Number(i % 37)
		loops = append(loops, l)
		l.Decision.Value++
		events = append(events, api.Event{Seq: uint64(2000 + i), Loop: &l})
	}
	return screen(w, h, snapshot(fixture.Status(), loops)), events
}

// BenchmarkTickOfFiveHundredLoops is govtop's work for one tick of a large fleet: take over a decision of every loop,
// sort, and draw. At a period of 5 s, 1% of a core is 50 ms.
func BenchmarkTickOfFiveHundredLoops(b *testing.B) {
	m, events := large(120, 30)
	for b.Loop() {
		m = after(m, heard(began, events...))
		_ = m.View()
	}
}

// BenchmarkTickOfAHundredFamilies is the same for services with four routes each.
func BenchmarkTickOfAHundredFamilies(b *testing.B) {
	m, events := largeOf(120, 30, func(i int) string {
		if i%5 == 0 {
			return fmt.Sprintf("service-%03d", i/5)
		}
		return fmt.Sprintf("service-%03d/route-%d", i/5, i%5)
	})
	if len(m.overview.of.families) != 100 {
		b.Fatalf("%d families", len(m.overview.of.families))
	}
	for b.Loop() {
		m = after(m, heard(began, events...))
		_ = m.View()
	}
}

// BenchmarkKey is the cost of a cursor move in a large fleet.
func BenchmarkKey(b *testing.B) {
	m, _ := large(120, 30)
	keys := press("down", "up")
	for b.Loop() {
		m = after(m, keys...)
		_ = m.View()
	}
}

// BenchmarkQuietSecond is the cost of a second without decisions.
func BenchmarkQuietSecond(b *testing.B) {
	m, _ := large(120, 30)
	quiet := []tea.Msg{tickMsg(began.Add(time.Second)), heard(began.Add(time.Second), api.Event{})}
	for b.Loop() {
		m = after(m, quiet...)
		_ = m.View()
	}
}

// BenchmarkFilter is the cost of a letter of the filter in a large fleet.
func BenchmarkFilter(b *testing.B) {
	m, _ := large(120, 30)
	m = after(m, press("/")...)
	keys := press("7", "backspace")
	for b.Loop() {
		m = after(m, keys...)
		_ = m.View()
	}
}
