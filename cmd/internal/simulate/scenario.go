package simulate

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/configs/suggest"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/models/scenarios"
)

// Phase names. A scenario may have others, or fewer.
const (
	Calm  = "calm"
	Fault = "fault"
	After = "after"
)

// Scenario is one situation, read from a file as package scenarios describes it.
type Scenario struct {
	Name   string // on the command line: that of the file
	Title  string // what happens
	Intent string // what a controller should make of it
	SLO    control.SLO
	// Start is the limit in force at the start, in requests in flight on each instance; a controller may move it within
	// Min..Max.
	Start, Min, Max float64
	// Fixed are the limits among which the best fixed one is looked for.
	Fixed  []float64
	Phases []models.Phase
	// Outages are the spans in which Prometheus does not answer.
	Outages []Span
	// Plant describes the service and its load, for a seed.
	Plant func(seed uint64) models.Config
	// Graph describes several services that call each other, for a seed; nil: there is only one, and Plant describes it.
	Graph func(seed uint64) models.GraphConfig
	Tiers []Tier // the services of Graph
}

// Span is the time from From until To, exclusively.
type Span struct{ From, To time.Duration }

// Contains says whether at lies in the span.
func (s Span) Contains(at time.Duration) bool { return at >= s.From && at < s.To }

// End is when the run is over.
func (s Scenario) End() time.Duration { return s.Phases[len(s.Phases)-1].To }

// Phase returns the index of the phase called name, and -1 where the scenario has none.
func (s Scenario) Phase(name string) int {
	for i, p := range s.Phases {
		if p.Name == name {
			return i
		}
	}
	return -1
}

// Chapter is a part of the manual of scenarios.
type Chapter struct {
	Title     string
	Scenarios []Scenario
}

// Chapters returns every scenario that comes with governor, in the order of the manual. It panics where one of the files
// is malformed: they are part of the program.
var Chapters = sync.OnceValue(func() []Chapter {
	chapters, err := chapters(scenarios.Files)
	if err != nil {
		panic("simulate: " + err.Error())
	}
	return chapters
})

func chapters(files fs.FS) (all []Chapter, err error) {
	const index = "index.yml"
	raw, err := fs.ReadFile(files, index)
	if err != nil {
		return nil, err
	}
	var contents []struct {
		Title     string
		Scenarios []string
	}
	if _, err := decode(index, raw, &contents); err != nil {
		return nil, err
	}
	for _, c := range contents {
		chapter := Chapter{Title: c.Title}
		for _, name := range c.Scenarios {
			raw, err := fs.ReadFile(files, name+".yml")
			if err != nil {
				return nil, err
			}
			s, err := Parse(name+".yml", raw)
			if err != nil {
				return nil, err
			}
			chapter.Scenarios = append(chapter.Scenarios, s)
		}
		all = append(all, chapter)
	}
	return all, nil
}

// All returns the scenarios of all Chapters.
func All() (all []Scenario) {
	for _, c := range Chapters() {
		all = append(all, c.Scenarios...)
	}
	return all
}

// Get returns the scenario called name, or the one in a file where name has a folder or ends in .yml.
func Get(name string) (Scenario, error) {
	if strings.ContainsRune(name, filepath.Separator) || strings.HasSuffix(name, ".yml") || strings.HasSuffix(name, ".yaml") {
		raw, err := os.ReadFile(name)
		if err != nil {
			return Scenario{}, fmt.Errorf("the scenario's file: %w", err)
		}
		return Parse(name, raw)
	}
	var names []string
	for _, s := range All() {
		if s.Name == name {
			return s, nil
		}
		names = append(names, s.Name)
	}
	hint := "governor simulate --list shows them all, and a file of yours has a name that ends in .yml"
	if near := suggest.Nearest(name, names); near != "" {
		hint = fmt.Sprintf("did you mean %q?", near)
	}
	return Scenario{}, fmt.Errorf("no scenario is called %q; %s", name, hint)
}
