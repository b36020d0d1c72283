package main

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/signals"
)

// C29: what is learned stands until something else was found twice in a row; what the file says is never asked about.
func TestScrapeIntervalsAreLearned(t *testing.T) {
	config, _, err := configs.Parse("governor.yml", []byte(`prometheus: {url: "http://127.0.0.1:1"}
services:
  checkout: {slo: {latency: 300ms}, concurrency: {min: 20, max: 400}}
  search: {slo: {latency: 300ms}, concurrency: {min: 20, max: 400}, timing: {scrape_interval: 7s}}
`))
	if err != nil {
		t.Fatal(err)
	}
	found := map[string]signals.Learned{}
	l := newLearner(slog.New(slog.DiscardHandler))
	l.look = func(_ context.Context, _ *configs.Config, services []signals.Service) map[string]signals.Learned {
		seen := map[string]signals.Learned{}
		for _, s := range services {
			if f, ok := found[s.Name]; ok {
				seen[s.Name] = f
			}
		}
		return seen
	}
	every := func(d time.Duration) {
		found = map[string]signals.Learned{"checkout": {Scrape: d}, "search": {Scrape: d}}
	}
	pace := func(checkout time.Duration) {
		t.Helper()
		setup, err := l.setup(l.configOr(config))
		if err != nil {
			t.Fatal(err)
		}
		defer setup.Close()
		for _, g := range setup.Groups {
			name, timing := g.Specs[0].Service, g.Specs[0].Timing
			want := map[string]time.Duration{"checkout": checkout, "search": 7 * time.Second}[name]
			if timing.Scrape != want || timing.Window != 4*want || timing.Period != min(want, time.Minute) ||
				g.Learned != (name == "checkout") {
				t.Errorf("%s: %+v, learned %v, want %s", name, timing, g.Learned, want)
			}
		}
	}
	again := func(want bool) {
		t.Helper()
		all, _ := l.services()
		if got := l.again(t.Context(), all); got != want {
			t.Errorf("rebuilds: %v, want %v", got, want)
		}
	}
	pace(5 * time.Second) // nothing is known yet
	unsettled := func(want ...string) {
		t.Helper()
		var names []string
		_, services := l.services()
		for _, s := range services {
			names = append(names, s.Name)
		}
		if !slices.Equal(names, want) {
			t.Errorf("unsettled: %q, want %q", names, want)
		}
	}
	unsettled("checkout", "search")
	found["search"] = signals.Learned{Scrape: 15 * time.Second}
	again(false)          // the file gives its interval
	unsettled("checkout") // and only that one is asked about
	every(15 * time.Second)
	again(true) // the first that is found
	pace(15 * time.Second)
	unsettled()
	again(false)
	every(time.Minute)
	again(false) // once
	unsettled("checkout")
	every(15 * time.Second)
	again(false) // and back
	every(time.Minute)
	again(false)
	again(true) // twice in a row
	pace(time.Minute)
	every(5 * time.Minute)
	again(false)
	again(true)
	pace(5 * time.Minute) // a period of a third of the lease
	found["search"] = signals.Learned{Scrape: 5 * time.Minute, Native: true}
	again(false)
	again(true) // its histogram has become a native one
	found = nil
	again(false)
	pace(5 * time.Minute) // Prometheus is down
}

func (l *learner) configOr(c *configs.Config) *configs.Config {
	if l.config != nil {
		return l.config
	}
	return c
}

// One service that nobody finds does not make the learner ask about the others, and about itself less and less often.
func TestLearnerLooksLessAndLessOften(t *testing.T) {
	start := time.Date(2026, 11, 28, 12, 0, 0, 0, time.UTC)
	r := newRounds(start)
	all, typo := make([]signals.Service, 3), make([]signals.Service, 1)
	var looks []string
	for at := learnUnknown; at <= 8*time.Minute; at += learnUnknown {
		unsettled := typo
		if at > 6*time.Minute {
			unsettled = nil // found
		}
		if n := len(r.due(start.Add(at), all, unsettled)); n > 0 {
			looks = append(looks, fmt.Sprintf("%v: %d", at, n))
		}
	}
	want := "15s: 1, 45s: 1, 1m45s: 1, 2m45s: 1, 3m0s: 3, 4m0s: 1, 5m0s: 1, 6m0s: 3"
	if got := strings.Join(looks, ", "); got != want {
		t.Errorf("looks at %s, want %s", got, want)
	}
}
