package ui

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

func healths() map[string]healthView {
	of := func(change func(v *healthView)) healthView {
		v := healthView{
			status: fixture.Status(), loops: fixture.Loops(),
			connection: connectionView{address: "http://127.0.0.1:9747", version: "0.3.0", word: "LIVE", tone: calm},
		}
		if change != nil {
			change(&v)
		}
		return v
	}
	lost := fixture.Now.Add(-95 * time.Second)
	return map[string]healthView{
		"well": of(nil),
		"ill": of(func(v *healthView) {
			s := &v.status
			s.Prometheus = api.Dependency{
				Address: "http://localhost:9090", Latency: none, LastOK: &lost,
				Error: `Get "http://localhost:9090/api/v1/query": dial tcp 127.0.0.1:9090: connect: connection refused`,
			}
			s.Consul = api.Dependency{Address: "127.0.0.1:8500", Latency: none}
			s.Leader, s.Role = api.LeaderInfo{}, api.Standby
			s.Config.Error = "governor.yml:5:32: services.checkout.slo.objective: 99 has no percent sign; write 99%"
			s.Warnings = []string{"Prometheus scrapes cart, checkout about every 15s, but the configuration says 5s: set " +
				"timing.scrape_interval to the real interval", "the clocks of governor and Prometheus differ by 7s"}
			s.Freeze = &actuators.Order{
				Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412", At: fixture.Now.Add(-30 * time.Hour),
			}
			v.loops[2].Published.Error = "consul: 500 Internal Server Error: rpc error making call: No cluster leader"
			v.loops[6].Decision.At = fixture.Now.Add(-time.Minute)
			v.loops[8].Published = nil
		}),
		"cut off": of(func(v *healthView) {
			v.stale = true
			v.connection.word, v.connection.tone = "STALE 13s, retry in 4s", alarm
			v.connection.err = errors.New("no governor answers at http://127.0.0.1:9747: connection refused")
		}),
		"empty": of(func(v *healthView) { v.loops = nil }),
	}
}

func TestHealthScreens(t *testing.T) {
	for name, v := range healths() {
		for _, size := range [][2]int{{60, 11}, {80, 19}, {120, 25}} {
			t.Run(fmt.Sprintf("%s/%d×%d", name, size[0], size[1]), func(t *testing.T) {
				file := fmt.Sprintf("health-%s-%dx%d.txt", strings.ReplaceAll(name, " ", "-"), size[0], size[1])
				golden.File(t, "testdata/"+file, bare(healthScreen(v, size[0], size[1])))
			})
		}
	}
}

// TestHealthScrollsToItsEnd: every line can be reached, and nothing beyond.
func TestHealthScrollsToItsEnd(t *testing.T) {
	for name, v := range healths() {
		all := bare(v.lines(80))
		seen := ""
		for v.top = 0; v.top <= v.most(80, 10); v.top++ {
			lines := healthScreen(v, 80, 10)
			exactly(t, lines, 80, 10)
			seen += bare(lines[1:])
		}
		for line := range strings.Lines(all) {
			if !strings.Contains(seen, line) {
				t.Errorf("%s: no way to see %q", name, line)
			}
		}
		end := bare(healthScreen(v, 80, 10))
		v.top = 1000
		if got := bare(healthScreen(v, 80, 10)); got != end {
			t.Errorf("%s: beyond the end there is\n%s", name, got)
		}
	}
}

// TestWorstSettingComesFirst: not written, then behind, then never published; services that apply it last.
func TestWorstSettingComesFirst(t *testing.T) {
	loop := func(service string, applied int, p *api.Published, mode control.Mode) api.Loop {
		l := api.Loop{Service: service, Knob: control.KnobConcurrency, Mode: mode, Published: p}
		l.Decision.Inputs.Applied, l.Decision.Inputs.Instances = applied, 9
		return l
	}
	written := &api.Published{Revision: 7}
	calls := loop("applied", 1, written, control.Enforce)
	calls.Knob, calls.Callee = control.KnobCall("payments"), "payments"
	v := healthView{loops: []api.Loop{
		calls,
		loop("applied", 9, written, control.Enforce),
		loop("observed", -1, nil, control.Observe),
		loop("unreported", -1, written, control.Enforce),
		loop("none yet", -1, nil, control.Enforce),
		loop("behind", 8, written, control.Enforce),
		loop("far behind", 2, written, control.Enforce),
		loop("unwritten", 9, &api.Published{Error: "no leader"}, control.Enforce),
		loop("applied", 5, written, control.Enforce), // another knob of the same service, seen a moment earlier
	}}
	var got []string
	for _, s := range v.settings() {
		word, _ := s.word()
		got = append(got, s.service+" "+word)
	}
	want := "unwritten ! NOT WRITTEN, applied/calls/payments ! BEHIND, far behind ! BEHIND, applied ! BEHIND, behind ! BEHIND, none yet ~ NONE YET, " +
		"unreported = WRITTEN, observed . NOT ENFORCED"
	if strings.Join(got, ", ") != want {
		t.Errorf("got  %s\nwant %s", strings.Join(got, ", "), want)
	}
}

// TestHealthSaysItInWords: colored text has a glyph in front, so that it is clear without color.
func TestHealthSaysItInWords(t *testing.T) {
	for name, v := range healths() {
		for _, f := range []fact{
			v.govtop(), v.governor(), v.leader(), server("Prometheus", v.status.Prometheus, v.status.Now), v.config(),
			v.killSwitch(), v.states(), v.slo(), v.silence(), written(v.settings()),
		} {
			for n, i := range f.items {
				if i.tone != plain && n == 0 && !strings.ContainsAny(i.text[:1], "=!~*vM^.R?") {
					t.Errorf("%s: %q begins with no glyph", name, i.text)
				}
			}
		}
	}
}

func TestHealthFits(t *testing.T) {
	views := healths()
	rapid.Check(t, func(t *rapid.T) {
		v := views[rapid.SampledFrom([]string{"well", "ill", "cut off", "empty"}).Draw(t, "view")]
		words := rapid.StringOfN(rapid.SampledFrom([]rune("ab -漢字e\u0301…%/")), 0, 200, -1)
		if rapid.Bool().Draw(t, "foreign words") {
			v.status.Instance, v.status.Consul.Error = words.Draw(t, "instance"), words.Draw(t, "error")
			v.status.Config.File, v.status.Warnings = words.Draw(t, "file"), []string{words.Draw(t, "warning")}
			v.connection.address, v.connection.err = words.Draw(t, "address"), errors.New(words.Draw(t, "why"))
			for i := range v.loops {
				v.loops[i].Service = words.Draw(t, "service")
			}
		}
		v.top = rapid.IntRange(-5, 60).Draw(t, "top")
		w, h := rapid.IntRange(-1, 250).Draw(t, "width"), rapid.IntRange(-1, 60).Draw(t, "height")
		exactly(t, healthScreen(v, w, h), max(w, 0), max(h, 0))
	})
}

func TestStaleScreensHaveNoColorLeft(t *testing.T) {
	v := healths()["cut off"]
	for _, line := range healthScreen(v, 80, 20) {
		if line != "" && line != paint(dim, ansi.Strip(line)) {
			t.Errorf("%q is not gray as a whole", line)
		}
	}
}
