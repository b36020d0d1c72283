package simulate_test

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/test/golden"
)

// A transcript is everything governor said in one run: the reason of every tick, knob by knob. A change of a law shows
// as a readable difference between two transcripts.
type transcript struct {
	name      string // of the file
	shows     string
	scenario  string
	contender simulate.Contender
	spoil     func(now time.Duration, m *control.Measurement)
}

var transcripts = []transcript{
	{
		name: "half", scenario: "half", contender: simulate.Outer,
		shows: "the concurrency limit by PID, without a reflex in the service",
	},
	{
		name: "slow5-aimd", scenario: "slow5", contender: simulate.OuterAIMD,
		shows: "the concurrency limit by AIMD, and the floor test",
	},
	{
		name: "dependency", scenario: "dep60", contender: simulate.Outer,
		shows: "a limit that cannot help: the floor test halves it, puts it back and says so",
	},
	{
		name: "overload-shed", scenario: "x5", contender: simulate.Shed,
		shows: "governor around a guard with a reflex, and the shed threshold",
	},
	{
		name: "minimum-rate", scenario: "dip256", contender: simulate.CascadeRate,
		shows: "the rate beside a concurrency limit that stands at its minimum",
	},
	{
		name: "bad-data", scenario: "half", contender: simulate.Cascade, spoil: badData,
		shows: "measurements that are missing, partial, stale, impossible or too few, before, in and after a fault",
	},
}

// badData spoils a minute at a time, each in its own way.
func badData(now time.Duration, m *control.Measurement) {
	in := &m.Instances[0]
	switch minute := now.Truncate(time.Minute) / time.Minute; minute {
	case 2:
		m.Invalid, m.Detail, m.Instances = control.Timeout, "no answer within 4.25s", nil
	case 3:
		in.Offered, in.Admitted, in.Completed, in.Fast = control.Read(12), control.Read(12), control.Read(12), control.Read(12)
		in.Classes = [control.Criticalities]control.Class{}
	case 4:
		in.Age = control.Read(42)
	case 6:
		m.Partial = "one of two stores did not answer"
	case 7:
		in.Mean = control.Missing(control.NaN, "guard_latency_seconds_sum reads NaN")
	case 8:
		in.Slow = control.Missing(control.NoData, "no bucket edge at the SLO of 300ms")
	case 11:
		in.Completed = control.Read(70 * in.Completed.Or(0))
	case 12:
		in.Refused = control.Missing(control.ManySeries, "2 series where one was expected")
	}
}

// TestTranscripts holds what governor says in six runs to testdata/transcripts.
//
//	go test ./cmd/internal/simulate -run TestTranscripts -update
func TestTranscripts(t *testing.T) {
	for _, script := range transcripts {
		t.Run(script.name, func(t *testing.T) {
			t.Parallel()
			golden.File(t, filepath.Join("testdata", "transcripts", script.name+".txt"), script.text(t, 0, 0))
		})
	}
}

// TestWorkedExample holds the decisions that docs/concepts.md explains term by term to the transcript of the same run.
func TestWorkedExample(t *testing.T) {
	lines := transcripts[0].text(t, 305*time.Second, 340*time.Second)
	golden.Section(t, "../../../docs/concepts.md", "half", "```\n"+lines+"```\n")
}

// text returns the lines of [from, to), or all of them below a heading where to is 0.
func (s transcript) text(t *testing.T, from, to time.Duration) string {
	t.Helper()
	scenario, err := simulate.Get(s.scenario)
	if err != nil {
		t.Fatal(err)
	}
	r := simulate.Run{Scenario: scenario, Contender: s.contender, Timing: simulate.Usual, Seed: 1, Spoil: s.spoil}
	var b strings.Builder
	if to == 0 {
		to = scenario.End() + 1
		fmt.Fprintf(&b, "%s: %s\ncontender %s, S = %s, seed %d: %s\n\n", scenario.Name, scenario.Title,
			s.contender, r.Timing.Scrape, r.Seed, s.shows)
	}
	for _, p := range r.Do().Points {
		if p.At < from || p.At >= to {
			continue
		}
		for _, d := range p.Decisions {
			knob := ""
			if len(p.Decisions) > 1 {
				knob = fmt.Sprintf("%-12s ", d.Knob)
			}
			fmt.Fprintf(&b, "%4.0f s  %s%s\n", p.At.Seconds(), knob, d.Reason)
		}
	}
	return b.String()
}
