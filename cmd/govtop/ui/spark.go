package ui

import (
	"math"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// A sparkline shows the last five minutes of a loop's measurement against its setpoint. Half height is the setpoint,
// full height twice the setpoint or more, so that lines of different loops can be compared. A gap is a time without a
// measurement.
const (
	sparkCells = 10
	sparkStep  = 30 * time.Second
	sparkSpan  = sparkCells * sparkStep
	sparkKept  = int64(sparkCells + memory/sparkStep) // steps: the screen can be rewound
)

var sparkLevels = []rune("▁▂▃▄▅▆▇█")

// spark is the known past of one loop. For each step of the wall clock it keeps the worst value.
type spark struct {
	cells [sparkKept]float32 // measured ÷ setpoint, by step number modulo sparkKept; 0: nothing measured
	last  int64              // newest step
}

func stepOf(t time.Time) int64 { return t.Unix() / int64(sparkStep/time.Second) }

// add adds a measurement. It ignores unknown values and those older than the span.
func (s *spark) add(at time.Time, measured, setpoint control.Number) {
	step := stepOf(at)
	if step <= s.last-sparkKept || !measured.Known() || !setpoint.Known() || setpoint <= 0 {
		return
	}
	for s.last < step {
		s.last = max(s.last+1, step-sparkKept)
		s.cells[s.last%sparkKept] = 0
	}
	cell := &s.cells[step%sparkKept]
	*cell = max(*cell, float32(measured/setpoint), math.SmallestNonzeroFloat32)
}

// draw draws the span that ends at now.
func (s *spark) draw(now time.Time) string {
	if s == nil {
		return ""
	}
	var line strings.Builder
	for step := stepOf(now) - sparkCells + 1; step <= stepOf(now); step++ {
		ratio := 0.0
		if step > s.last-sparkKept && step <= s.last && step >= 0 {
			ratio = float64(s.cells[step%sparkKept])
		}
		if ratio == 0 {
			line.WriteByte(' ')
			continue
		}
		half := float64(len(sparkLevels) / 2)
		level := min(max(int(math.Ceil(ratio*half)), 1), len(sparkLevels))
		line.WriteRune(sparkLevels[level-1])
	}
	return line.String()
}

// sparks are the sparklines of all loops, by name.
type sparks map[string]*spark

func (s sparks) of(name string) *spark {
	if s[name] == nil {
		s[name] = &spark{}
	}
	return s[name]
}

func (s sparks) decided(l api.Loop) {
	s.of(name(l)).add(l.Decision.At, l.Decision.Measured, l.Decision.Setpoint)
}

func (s sparks) remember(h api.History) {
	for _, l := range h.Loops {
		line := s.of(name(api.Loop{Service: l.Service, Knob: l.Knob}))
		for _, p := range l.Points {
			line.add(p.At, p.Measured, p.Setpoint)
		}
	}
}

// keep drops the loops that are gone.
func (s sparks) keep(loops []api.Loop) {
	here := map[string]bool{}
	for _, l := range loops {
		here[name(l)] = true
	}
	for n := range s {
		if !here[n] {
			delete(s, n)
		}
	}
}

// clone returns sparklines that do not change with these.
func (s sparks) clone() sparks {
	c := make(sparks, len(s))
	for n, line := range s {
		cells := *line
		c[n] = &cells
	}
	return c
}
