package simulate_test

import (
	"bytes"
	"context"
	"encoding/csv"
	"encoding/json"
	"errors"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
)

// brief is a scenario of a minute, with a route beside the fast one.
func brief(t *testing.T) simulate.Scenario {
	t.Helper()
	s, err := simulate.Parse("brief.yml", []byte(`
title: offered ×2 for a minute
limit: {start: 300, min: 8, max: 1024, fixed: [24, 40, 60, .inf]}
phases: [{calm: 30s}, {fault: 90s}]
routes:
- {name: fast, load: 560}
- {name: poll, load: 2, time: 0s, hold: 5s, deadline: 10s}
script:
- {at: 30s, until: 90s, times: 2}
`))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func rowsOf(t *testing.T, s simulate.Scenario, contenders ...simulate.Contender) []simulate.Row {
	t.Helper()
	var runs []simulate.Run
	for _, c := range contenders {
		runs = append(runs, simulate.Run{Scenario: s, Contender: c, Timing: simulate.Fast})
	}
	calls, last := 0, 0
	rows, err := simulate.Rows(t.Context(), runs, seeds, func(done, all int) {
		if calls++; done != last+1 || all != len(runs)*len(seeds) {
			t.Errorf("progress %d of %d after %d", done, all, last)
		}
		last = done
	})
	if err != nil || calls != len(runs)*len(seeds) {
		t.Fatalf("%v after %d calls", err, calls)
	}
	return rows
}

// A row is the mean of its seeds, with the worst beside it, whatever the order in which they finish.
func TestRows(t *testing.T) {
	s := brief(t)
	rows := rowsOf(t, s, simulate.Static, simulate.Cascade)
	var mean float64
	worst := math.Inf(1)
	for _, seed := range seeds {
		r := simulate.Run{Scenario: s, Contender: simulate.Cascade, Timing: simulate.Fast, Seed: seed}.Do()
		share := 100 * float64(r.Score.Phases[1].Good) / float64(simulate.Best(s, seed).Good[1])
		mean += share / float64(len(seeds))
		worst = min(worst, share)
	}
	static, cascade := rows[0], rows[1]
	if cascade.Contender != simulate.Cascade || math.Abs(cascade.OfBest[simulate.Fault]-mean) > 1e-9 ||
		math.Abs(cascade.Worst[simulate.Fault]-worst) > 1e-9 {
		t.Errorf("%+v, want a mean of %v and a worst seed of %v", cascade, mean, worst)
	}
	if static.OfBest[simulate.Fault] > 60 || cascade.OfBest[simulate.Fault] < 95 {
		t.Errorf("limit 300: %.1f%% of the best; cascade %.1f%%", static.OfBest[simulate.Fault], cascade.OfBest[simulate.Fault])
	}
	if static.Late < 50 || cascade.Late > 5 || static.WritesPerMinute != 0 || cascade.WritesPerMinute == 0 {
		t.Errorf("static %+v\ncascade %+v", static, cascade)
	}
	if len(cascade.Routes) != 2 || cascade.Routes[1].Name != "poll" || cascade.Routes[1].Good < 30 {
		t.Errorf("routes %+v", cascade.Routes)
	}
}

func TestOutputs(t *testing.T) {
	s := brief(t)
	rows := rowsOf(t, s, simulate.Cascade)
	var table, machine, trace bytes.Buffer
	if err := errors.Join(simulate.Table(&table, rows), simulate.JSON(&machine, rows)); err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSpace(table.String()), "\n")
	if len(lines) != 2 || !strings.HasPrefix(lines[1], "brief") || !strings.Contains(lines[1], " -  ") ||
		!strings.Contains(lines[1], "fast ") || strings.Contains(lines[1], "NaN") {
		t.Errorf("no phase called after, hence a dash:\n%s", table.String())
	}
	var read []struct {
		Scenario string
		Phases   []struct {
			Name   string
			OfBest float64 `json:"of_best_percent"`
		}
		Seeds []int
	}
	if err := json.Unmarshal(machine.Bytes(), &read); err != nil {
		t.Fatal(err)
	}
	if len(read) != 1 || read[0].Scenario != "brief" || len(read[0].Seeds) != 3 || len(read[0].Phases) != 2 ||
		read[0].Phases[1].Name != simulate.Fault || read[0].Phases[1].OfBest != rows[0].OfBest[simulate.Fault] {
		t.Errorf("%s", machine.String())
	}

	for _, c := range []simulate.Contender{simulate.Shed, simulate.Static} {
		trace.Reset()
		r := simulate.Run{Scenario: s, Contender: c, Timing: simulate.Fast, Seed: 1}
		if err := simulate.CSV(&trace, r.Do()); err != nil {
			t.Fatal(err)
		}
		if records, err := csv.NewReader(&trace).ReadAll(); err != nil || len(records) != 90 {
			t.Errorf("%s: %d lines, %v", c, len(records), err)
		}
	}
}

// An explanation holds the reason of every knob.
func TestExplain(t *testing.T) {
	r := simulate.Run{Scenario: brief(t), Contender: simulate.Shed, Timing: simulate.Fast, Seed: 1}
	result := r.Do()
	var out bytes.Buffer
	if err := simulate.Explain(&out, r, result, 45500*time.Millisecond); err != nil {
		t.Fatal(err)
	}
	for _, p := range result.Points {
		if p.At != 45*time.Second {
			continue
		}
		for _, d := range p.Decisions {
			if !strings.Contains(out.String(), d.Reason) {
				t.Errorf("%q is missing in\n%s", d.Reason, out.String())
			}
		}
	}
	if err := simulate.Explain(&out, r, result, time.Millisecond); err == nil {
		t.Error("nothing is decided after a millisecond")
	}
	r.Contender = simulate.Static
	if err := simulate.Explain(&out, r, r.Do(), time.Minute); err == nil || !strings.Contains(err.Error(), "no loop") {
		t.Errorf("a fixed limit decides nothing: %v", err)
	}
}

// Every contender says who it is.
func TestContendersAreDescribed(t *testing.T) {
	for _, c := range simulate.AllContenders() {
		if c.Describe() == "" {
			t.Errorf("%s has no description", c)
		}
	}
}

// A run that nobody waits for ends.
func TestRowsStop(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	runs := []simulate.Run{{Scenario: brief(t), Contender: simulate.Static, Timing: simulate.Fast}}
	if _, err := simulate.Rows(ctx, runs, seeds, func(int, int) {}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
