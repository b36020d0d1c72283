package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/alecthomas/kingpin/v2"
)

// simulated runs a command line of governor simulate and returns what it prints.
func simulated(t *testing.T, args ...string) (out, progress string, err error) {
	t.Helper()
	app := kingpin.New("governor", "")
	app.Terminate(nil)
	var s simulation
	s.register(app)
	nameFlags(app)
	if _, err := app.Parse(append([]string{"simulate"}, args...)); err != nil {
		return "", "", err
	}
	var o, p bytes.Buffer
	err = s.run(t.Context(), &o, &p)
	return o.String(), p.String(), err
}

// scenarioFile is a scenario of a minute.
func scenarioFile(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "mine.yml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

const minute = `
title: offered ×2
limit: {fixed: [40, 128]}
phases: [{calm: 20s}, {fault: 60s}]
script:
- {at: 20s, times: 2}
`

const pair = `
title: the callee loses half of its servers
services:
- {name: front, calls: [back]}
- {name: back, servers: 8}
routes:
- {name: all, load: 150, service: front}
phases: [{calm: 20s}, {fault: 40s}]
script:
- {at: 20s, service: back, servers: 4}
`

func TestSimulateServicesThatCallEachOther(t *testing.T) {
	file := scenarioFile(t, pair)
	out, _, err := simulated(t, file, "--scrape=1s", "--seeds=2")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"% of bound", "mine      naive", "mine      patterns", "mine      governed", "back after"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}
	out, _, err = simulated(t, file, "--seed=1", "--contender=patterns", "--output=json")
	var rows []struct {
		Graph struct {
			Last     string  `json:"last_service"`
			Attempts float64 `json:"attempts_per_request"`
		}
	}
	if err != nil || json.Unmarshal([]byte(out), &rows) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(rows) != 1 || rows[0].Graph.Last != "back" || !(rows[0].Graph.Attempts > 0) {
		t.Errorf("%+v", rows)
	}
	out, _, err = simulated(t, file, "--bounds")
	if err != nil || !strings.Contains(out, `"optimum_per_second": 100`) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, _, err = simulated(t, file, "--explain=30s"); err != nil || !strings.Contains(out, "\nback/concurrency  ") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, _, err = simulated(t, file, "--contender=cascade"); err == nil || !strings.Contains(err.Error(), "no contender for mine") {
		t.Errorf("%v", err)
	}
	if _, _, err = simulated(t, "half", "--contender=naive", "--seeds=1"); err == nil {
		t.Error("naive is accepted for one service")
	}
}

func TestSimulateAFile(t *testing.T) {
	file := scenarioFile(t, minute)
	out, _, err := simulated(t, file, "--contender=cascade", "--contender=static", "--scrape=1s", "--seeds=2")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"S = 1s, W = 4s, T = 1s, 2 seeds", "mine      cascade", "mine      static", "late"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing in\n%s", want, out)
		}
	}

	out, _, err = simulated(t, file, "--seed=7", "--output=json")
	var rows []struct {
		Contender string
		Seeds     []int
	}
	if err != nil || json.Unmarshal([]byte(out), &rows) != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(rows) != 4 || rows[3].Contender != "cascade" || len(rows[0].Seeds) != 1 || rows[0].Seeds[0] != 7 {
		t.Errorf("%+v", rows)
	}

	out, _, err = simulated(t, file, "--explain=30s", "--contender=shed", "--limit=60")
	if err != nil || !strings.Contains(out, "\nconcurrency  ") || !strings.Contains(out, "\nshed  ") {
		t.Errorf("%v\n%s", err, out)
	}
	out, _, err = simulated(t, file, "--output=csv", "--contender=outer")
	if err != nil || strings.Count(out, "\n") != 12 {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestSimulateListsEverything(t *testing.T) {
	out, _, err := simulated(t, "--list")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"x2", "half of the servers lost for 300 s", "the limit follows the capacity down", "endless-declared-x2", "cascade"} {
		if !strings.Contains(out, want) {
			t.Errorf("%q is missing", want)
		}
	}
}

func TestSimulateSaysWhatIsWrong(t *testing.T) {
	broken := scenarioFile(t, "title: a\nservce: {servers: 3}\n")
	good := scenarioFile(t, minute)
	for _, tc := range []struct {
		args []string
		want string
	}{
		{nil, "which scenario?"},
		{[]string{"hlaf"}, `did you mean "half"?`},
		{[]string{broken}, `mine.yml:2: unknown key "servce"`},
		{[]string{filepath.Join(t.TempDir(), "absent.yml")}, "no such file"},
		{[]string{"half", "--all"}, "either --all or names"},
		{[]string{"half", "half"}, "two scenarios are called half"},
		{[]string{"half", "--contender=cascad"}, "--contender=cascad: did you mean cascade?"},
		{[]string{"half", "--contender=nobody"}, "--contender=nobody: expected one of none, static"},
		{[]string{"half", "--seeds=0"}, "--seeds=0: expected 1 to 1000"},
		{[]string{"half", "--scrape=5"}, "--scrape=5: expected a duration with its unit"},
		{[]string{"half", "--scrape=10s", "--window=20s"}, "--window=20s: expected at least four times --scrape=10s"},
		{[]string{"half", "--period=1s"}, "--period=1s: expected at least --scrape=5s"},
		{[]string{"half", "--output=xml"}, "xml"},
		{[]string{"half", "x2", "--explain=310s", "--contender=outer"}, "expected one scenario and one --contender"},
		{[]string{good, "--explain=30s", "--contender=static"}, "static has no loop"},
	} {
		if _, _, err := simulated(t, tc.args...); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("simulate %v: error %v, want it to say %q", tc.args, err, tc.want)
		}
	}
}

// A signal ends a long table.
func TestSimulateIsInterrupted(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	s := simulation{names: []string{"x10"}, contenders: []string{"static"}, seeds: 3}
	if err := s.validate(); err == nil {
		t.Fatal("a scrape interval of zero passes")
	}
	s.scrape, s.window, s.period = 5e9, 20e9, 5e9
	if err := s.run(ctx, &bytes.Buffer{}, &bytes.Buffer{}); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
