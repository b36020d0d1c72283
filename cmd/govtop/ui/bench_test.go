package ui

import (
	"fmt"
	"testing"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// BenchmarkTickOfFiveHundredLoops is what govtop does for one tick of a large fleet: take over a decision of every
// loop, and draw. At a period of 5 s, 1 % of a core is 50 ms.
func BenchmarkTickOfFiveHundredLoops(b *testing.B) {
	var loops []api.Loop
	var events []api.Event
	for i := range 500 {
		l := fixture.Loops()[4]
		l.Service = fmt.Sprintf("service-%03d", i)
		loops = append(loops, l)
		events = append(events, api.Event{Seq: uint64(2000 + i), Loop: &l})
	}
	m := screen(120, 30, snapshot(fixture.Status(), loops))
	for b.Loop() {
		m = after(m, heard(began, events...))
		_ = m.View()
	}
}
