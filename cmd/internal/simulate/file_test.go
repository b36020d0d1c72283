package simulate_test

import (
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/simulate"
	"github.com/seed-de83e32b/governor/models"
	"github.com/seed-de83e32b/governor/models/scenarios"
)

// The manual names every file once, and each scenario runs.
func TestEveryScenarioIsInTheManual(t *testing.T) {
	var listed []string
	for _, s := range simulate.All() {
		listed = append(listed, s.Name+".yml")
		if s.Title == "" || s.Intent == "" {
			t.Errorf("%s has no title or no intent", s.Name)
		}
		if s.Graph != nil {
			simulate.Run{Scenario: shortened(s), Contender: simulate.Governed, Timing: simulate.Usual, Seed: 1}.Do()
			continue
		}
		score := models.NewScore(s.SLO.Latency, s.SLO.Objective, s.Phases)
		p := models.NewFleet(s.Plant(1), func(time.Duration, int) models.Admitter { return models.NewLimiter(8) }, score)
		p.Run(time.Second)
	}
	listed = append(listed, "index.yml")
	slices.Sort(listed)
	files, err := fs.Glob(scenarios.Files, "*.yml")
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(files, listed) {
		t.Errorf("the files are %v, the manual lists %v", files, listed)
	}
}

// shortened is the first seconds of a scenario.
func shortened(s simulate.Scenario) simulate.Scenario {
	s.Phases = []models.Phase{{Name: simulate.Calm, To: 7 * time.Second}}
	return s
}

// A file may say very little: then it is the rig.
func TestRig(t *testing.T) {
	s, err := simulate.Parse("folder/calm.yml", []byte("title: nothing happens"))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Plant(7)
	if s.Name != "calm" || s.Start != 128 || s.Min != 8 || s.Max != 1024 || s.End() != 900*time.Second ||
		s.SLO.Latency != 300*time.Millisecond || s.SLO.Objective != 0.99 || cfg.Seed != 7 ||
		cfg.Load.Rate(0) != 560 || cfg.Load.Peak != 560 || cfg.Mix != [models.Classes]float64{0.2, 0.5, 0.3} ||
		cfg.ServiceTime != 40*time.Millisecond || cfg.ClientTimeout != time.Second || len(cfg.Instances) != 1 ||
		!slices.Equal(cfg.Instances[0].Stages, []models.Stage{{Servers: 32, Slowdown: 1}}) {
		t.Errorf("got %+v, %+v", s, cfg)
	}
}

// The steps of a script become the load, the conditions and the lives of the instances.
func TestScript(t *testing.T) {
	s, err := simulate.Parse("x.yml", []byte(`
title: much happens
service: {servers: 4, instances: 2, warm-up: {for: 30s, slowdown: 3}, dependency: {delay: 1ms, share: 10%}}
load: 100
script:
- {at: 100s, until: 200s, times: 3}
- {at: 150s, until: 160s, load: 50}
- {at: 400s, until: 500s, every: 20s, for: 5s, load: 400}
- {at: 600s, until: 700s, load: 200, ramp: 50s}
- {at: 700s, until: 800s, sine: {low: 20, high: 60, period: 100s}}
- {at: 10s, until: 20s, instance: 2, slowdown: 5}
- {at: 300s, until: 360s, every: 40s, restart: 5s}
- {at: 800s, until: 820s, every: 10s, add: 1}
- {at: 850s, remove: 1}
- {at: 20s, until: 50s, metrics: lost}
`))
	if err != nil {
		t.Fatal(err)
	}
	cfg := s.Plant(1)
	for at, want := range map[time.Duration]float64{
		0: 100, 100: 300, 150: 50, 160: 300, 200: 100, 399: 100, 400: 400, 404: 400, 405: 100, 421: 400, 500: 100,
		600: 100, 625: 150, 650: 200, 699: 200, 700: 20, 750: 60, 775: 40, 800: 100,
	} {
		if got := cfg.Load.Rate(at * time.Second); math.Abs(got-want) > 1e-9 {
			t.Errorf("load at %d s: %v, want %v", at, got, want)
		}
	}
	if cfg.Load.Peak != 400 {
		t.Errorf("peak %v", cfg.Load.Peak)
	}
	var lives []models.Instance
	for _, in := range cfg.Instances {
		lives = append(lives, models.Instance{Name: in.Name, From: in.From / time.Second, To: in.To / time.Second})
	}
	for i, want := range []models.Instance{
		{Name: "simulated-1", To: 300},
		{Name: "simulated-2", To: 340},
		{Name: "simulated-3", From: 305},
		{Name: "simulated-4", From: 345},
		{Name: "simulated-5", From: 800},
		{Name: "simulated-6", From: 810, To: 850},
	} {
		if len(lives) <= i || lives[i].Name != want.Name || lives[i].From != want.From || lives[i].To != want.To {
			t.Fatalf("instances %+v, want %+v as number %d", lives, want, i+1)
		}
	}
	usual := models.Stage{Servers: 4, Slowdown: 1, DependencyDelay: time.Millisecond, DependencyShare: 0.1}
	at := func(s models.Stage, from time.Duration, slowdown float64) models.Stage {
		s.From, s.Slowdown = from*time.Second, slowdown
		return s
	}
	for i, want := range map[int][]models.Stage{
		0: {usual}, 1: {usual, at(usual, 10, 5), at(usual, 20, 1)}, 2: {usual, at(usual, 305, 3), at(usual, 335, 1)},
	} {
		if got := cfg.Instances[i].Stages; !slices.Equal(got, want) {
			t.Errorf("instance %d meets %+v, want %+v", i+1, got, want)
		}
	}
	if want := []simulate.Span{{From: 20 * time.Second, To: 50 * time.Second}}; !slices.Equal(s.Outages, want) {
		t.Errorf("outages %v", s.Outages)
	}
}

// Everything that is wrong with a file is told at once, with its line.
func TestErrorsOfFiles(t *testing.T) {
	for _, c := range []struct{ file, want string }{
		{"", "f.yml:1: the file is empty"},
		{"title: a\ntitle: b", `f.yml:2: mapping key "title" already defined at line 1`},
		{"title: a\n\tx", "f.yml:2: found a tab character that violates indentation"},
		{"load: 5", "f.yml:1: title is missing; expected a line that says what happens"},
		{"title: a\nservce: {}", `f.yml:2: unknown key "servce"`},
		{"title: a\nservice: {server: 3}", `f.yml:2: unknown key "server"`},
		{"title: a\nload: many", `f.yml:2: "many"; expected a number`},
		{"title: a\nservice: 3\nroutes: 4", "f.yml:2: \"3\"; expected a section of keys\nf.yml:3: \"4\"; expected a list"},
		{
			"title: a\nslo:\n  latency: 300\n  objective: 99",
			"f.yml:3: \"300\"; expected a duration with its unit, like 300ms or 30s\nf.yml:4: \"99\"; expected a share, like 99%",
		},
		{"title: a\nmix: {critical: 20%}", "f.yml:2: mix: the shares do not add up to 100%"},
		{"title: a\nservice: {law: bimodal 10%}", `f.yml:2: "bimodal 10%"; expected the share of slow requests and their multiple of the mean, like bimodal 10% 5.5`},
		{"title: a\nlimit: {start: 4}", "f.yml:2: limit: start 4, min 8, max 1024; expected 1 ≤ min ≤ start ≤ max"},
		{"title: a\nload: 0", "f.yml:2: load: it never exceeds 0 requests/s; expected more, and at most a million"},
		{"title: a\nphases: [{calm: 10s}, {fault: 5s}]", "f.yml:2: phases: expected {NAME: END}, with ends in whole seconds that grow"},
		{"title: a\nscript:\n- {until: 3s, times: 2}", "f.yml:3: at is missing; expected when the step begins"},
		{"title: a\nscript:\n- at: 3s\n  until: 2s\n  times: 2", "f.yml:4: the step is over at 2s, before it begins"},
		{"title: a\nscript: [{at: 3s}]", "f.yml:2: the step says when, and not what"},
		{"title: a\nscript:\n- {at: 3s, route: b, load: 2}", `f.yml:3: no route is called "b"`},
		{"title: a\nscript:\n- {at: 3s, surge: {important: 2}}", "f.yml:3: surge: expected one criticality and its multiple, like {sheddable: 12}, in a scenario without routes"},
		{"title: a\nscript:\n- {at: 3s, instance: 2, servers: 1}", "f.yml:3: instance: 2; expected 1 to 1"},
		{"title: a\nscript:\n- {at: 3s, instance: 1, times: 2}", "f.yml:3: instance: expected what happens to it: servers, slowdown, slower or dependency"},
		{"title: a\nscript:\n- {at: 3s, surge: {critical: 2}}\n- {at: 3s, times: 2}", "f.yml:3: surge: expected no other step that changes the load"},
		{"title: a\nscript:\n- {at: 3s, ramp: 2s, servers: 1}", "f.yml:3: ramp: expected the load that it leads to"},
		{"title: a\nscript:\n- {at: 3s, restart: 2s}", "f.yml:3: restart: expected every to say when the next one goes"},
		{"title: a\nscript:\n- {at: 3s, every: 1us, for: 1us, servers: 1}", "f.yml:3: every: 1µs; it would come back more than 2000 times"},
		{"title: a\nroutes:\n- {name: a, load: 3, time: 0s}", "f.yml:3: time: 0s; a route without a hold needs a service"},
		{"title: a\nservice: {unguarded: true}", "f.yml:2: service: name, calls, limit, unguarded and slo are keys of services, where there are several"},
		{"title: a\nscript:\n- {at: 3s, away: silent}", "f.yml:3: service, away: expected a file with several services"},
		{"title: a\nscript:\n- {at: 3s, away: lost}", `f.yml:3: "lost"; expected refuses, for connections that fail at once, or silent`},
		{"title: a\nservices: [{name: a}]", "f.yml:2: routes are missing; expected where requests enter, each with a load and a service"},
		{
			"title: a\nservices:\n- {name: a, calls: [b]}\n- {name: b, calls: [[c, a]]}\nroutes: [{name: r, load: 1, service: a}]",
			"f.yml:3: calls: a calls b, which leads back to it\nf.yml:4: calls: no service is called \"c\"\n" +
				"f.yml:4: calls: b calls a, which leads back to it",
		},
		{
			"title: a\nservices: [{name: a}]\nroutes:\n- {name: r, load: 1, service: b}\n- {name: s, load: 1, service: a, hold: 3s}",
			"f.yml:4: service: \"b\"; expected one of the services\nf.yml:5: hold, deadline, endless, tenants: not where there are several services",
		},
		{
			"title: a\nservice: {instances: 3}\nservices: [{name: a}, {name: a, servers: -1}]\nroutes: [{name: r, load: 1, service: a}]\n" +
				"calls: {retries: {times: 2}}\nscript:\n- {at: 3s, servers: 4}\n- {at: 3s, service: a, times: 2}",
			"f.yml:2: service: there are services, and each has its own keys\n" +
				"f.yml:3: name: \"a\"; expected one that no other service has, of letters, digits and dashes\n" +
				"f.yml:3: servers: -1; expected 0 to a million\n" +
				"f.yml:5: retries: expected times, 0 to 20, and a wait\n" +
				"f.yml:7: service: \"\"; expected the service that this happens to\n" +
				"f.yml:8: service: expected what happens to it",
		},
	} {
		_, err := simulate.Parse("f.yml", []byte(c.file))
		if err == nil || err.Error() != c.want {
			t.Errorf("%q\n got %v\nwant %s", c.file, err, c.want)
		}
	}
}

// Whatever a file says, it is read or refused.
func FuzzParse(f *testing.F) {
	files, err := fs.Glob(scenarios.Files, "*.yml")
	if err != nil {
		f.Fatal(err)
	}
	for _, name := range files {
		raw, err := fs.ReadFile(scenarios.Files, name)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(raw))
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := simulate.Parse("f.yml", []byte(text))
		if err != nil {
			return
		}
		score := models.NewScore(s.SLO.Latency, s.SLO.Objective, s.Phases[:1])
		if s.Graph != nil {
			models.NewGraph(s.Graph(1), models.Controls{
				Admitter: func(time.Duration, int, int) models.Admitter { return models.NewLimiter(8) },
				Caller:   func(time.Duration, int, int) models.Caller { return models.NaiveCaller{} },
			}, score)
			return
		}
		models.NewFleet(s.Plant(1), func(time.Duration, int) models.Admitter { return models.NewLimiter(8) }, score)
	})
}

func TestGet(t *testing.T) {
	file := filepath.Join(t.TempDir(), "mine.yml")
	if err := os.WriteFile(file, []byte("title: mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := simulate.Get(file); err != nil || s.Name != "mine" {
		t.Errorf("got %v, %v", s.Name, err)
	}
	for name, want := range map[string]string{
		"hlaf": `did you mean "half"?`, "x1": `did you mean "x2"?`, "nonsense": "--list",
		"./absent.yml": "no such file",
	} {
		if _, err := simulate.Get(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want it to say %q", name, err, want)
		}
	}
}
