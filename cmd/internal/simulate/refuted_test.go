package simulate_test

import (
	"testing"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
)

// blips is a minute of tiers-blips.
const blips = `
title: three tiers; the last is away for 0.3 s every 5 s
services:
- {name: gateway, time: 1ms, calls: [front], drops-abandoned: true}
- {name: front, servers: 48, time: 20ms, calls: [middle], drops-abandoned: true}
- {name: middle, servers: 48, time: 20ms, calls: [last], drops-abandoned: true}
- {name: last, servers: 16, time: 20ms, drops-abandoned: true}
calls: {timeout: 1s, retries: {times: 3, wait: 100ms}}
routes:
- {name: all, load: 560, service: gateway}
phases: [{calm: 10s}, {fault: 60s}]
script:
- {at: 10s, until: 60s, every: 5s, for: 300ms, service: last, away: refuses}
`

// What was refuted stays refuted: a loop at the entry is worse than what calls do by themselves, and adds nothing to it; a
// law adds nothing to a constant retry budget. "Nothing" is less than the points in docs/compartments.md.
func TestRefuted(t *testing.T) {
	several, err := simulate.Get("seq4-small-x5")
	if err != nil {
		t.Fatal(err)
	}
	tiers, err := simulate.Parse("blips.yml", []byte(blips))
	if err != nil {
		t.Fatal(err)
	}
	var runs []simulate.Run
	add := func(s simulate.Scenario, timing control.Timing, contenders ...simulate.Contender) {
		for _, c := range contenders {
			runs = append(runs, simulate.Run{Scenario: s, Contender: c, Timing: timing})
		}
	}
	add(several, simulate.Usual, simulate.Guards, simulate.Entry, simulate.EntryPatterns, simulate.Patterns)
	add(several, simulate.Fast, simulate.Entry)
	add(tiers, simulate.Usual, simulate.RetryLaw, simulate.Patterns)
	rows, err := simulate.Rows(t.Context(), runs, []uint64{1}, func(int, int) {})
	if err != nil {
		t.Fatal(err)
	}
	good := make([]float64, len(rows))
	for i, r := range rows {
		good[i] = r.OfBest[simulate.Fault]
		t.Logf("%s, S = %v, %s: %.2f%% of the bound", r.Scenario, r.Timing.Scrape, r.Contender, good[i])
	}
	guards, entry, entryPatterns, patterns, entryFast, law, constant := good[0], good[1], good[2], good[3], good[4], good[5], good[6]
	if entry < guards+10 || entryFast < guards+10 {
		t.Error("the loop at the entry does not work at all, so that it refutes nothing")
	}
	if entry > patterns-3 || entryFast > patterns-3 {
		t.Error("the loop at the entry is as good as the patterns: tell docs/compartments.md")
	}
	if entryPatterns > patterns+3 {
		t.Error("the loop at the entry adds to the patterns: tell docs/compartments.md")
	}
	if law == constant {
		t.Error("the law of the retry budget does nothing, so that it refutes nothing")
	}
	if law > constant+1 {
		t.Error("the law of the retry budget is better than a constant: tell docs/compartments.md")
	}
}
