package ui

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

// serviceLoop returns the fixture's loop of a service.
func serviceLoop(service string) api.Loop {
	for _, l := range fixture.Loops() {
		if l.Service == service {
			return l
		}
	}
	panic("no loop of " + service)
}

// pastOf is an hour that leads to the loop's present: a bump of the measurement, a value that was cut and came back,
// and a minute without measurements.
func pastOf(l api.Loop) []api.Point {
	var out []api.Point
	d := l.Decision
	to := float64(d.Measured)
	if math.IsNaN(to) {
		to = 0.7 * float64(d.Setpoint)
	}
	for i := 720; i > 0; i-- {
		p := api.Point{At: fixture.Now.Add(-time.Duration(i) * 5 * time.Second), Setpoint: d.Setpoint, State: control.Steady}
		bump := math.Exp(-math.Pow(float64(i%60-35)/10, 2))
		p.Measured = control.Number(to * (0.7 + 0.05*math.Sin(float64(i)/7) + bump))
		p.Value = control.Number(float64(d.Value) * (1 + 0.5*bump))
		if i > 10 && i < 20 {
			p.Measured, p.State = none, control.Hold
		}
		out = append(out, p)
	}
	return out
}

func viewOf(service string, change func(v *detailView)) detailView {
	v := detailView{loop: serviceLoop(service), loaded: true, now: fixture.Now, span: 5 * time.Minute, graph: graphBraille}
	v.points = pastOf(v.loop)
	v.entries = entriesOf([]api.Record{{Seq: 1, Decision: v.loop.Decision, Wrote: true}}, nil)
	if change != nil {
		change(&v)
	}
	return v
}

func details() map[string]detailView {
	ordered := func(kind actuators.OrderKind, value float64, expires time.Duration) func(v *detailView) {
		return func(v *detailView) {
			v.loop.Order = &actuators.Order{
				Kind: kind, Value: value, Actor: "ana", Reason: "INC-1412", At: fixture.Now.Add(-2 * time.Hour),
			}
			if expires > 0 {
				v.loop.Order.ExpiresAt = fixture.Now.Add(expires)
			}
		}
	}
	return map[string]detailView{
		"cutting":     viewOf("checkout", nil),
		"hold":        viewOf("auth", nil),
		"shadow":      viewOf("cart", nil),
		"frozen":      viewOf("feed", ordered(actuators.Freeze, 0, 117*time.Minute)),
		"killed":      viewOf("feed", ordered(actuators.Freeze, 0, 0)),
		"override":    viewOf("ledger", ordered(actuators.Override, 1800, 6*time.Minute)),
		"ordered":     viewOf("search", ordered(actuators.Override, 250, 15*time.Minute)),
		"shed":        viewOf("payments", nil),
		"ineffective": viewOf("report", nil),
		"infeasible":  viewOf("billing", nil),
		"unwritten": viewOf("checkout", func(v *detailView) {
			v.loop.Published.Error = "consul: 500 Internal Server Error: rpc error making call: No cluster leader"
			v.loop.Decision.Gates.BurnSteps = 2
			v.loop.Decision.Inputs.Outliers = []string{"checkout-7f9c5"}
		}),
		"loading": viewOf("checkout", func(v *detailView) { v.points, v.loaded, v.entries = nil, false, nil }),
		"failed": viewOf("checkout", func(v *detailView) {
			v.points, v.loaded, v.err = nil, false, errors.New("503 Service Unavailable")
		}),
		"stale": viewOf("checkout", func(v *detailView) { v.stale = true }),
		"ascii": viewOf("checkout", func(v *detailView) { v.graph = graphASCII }),
		"block": viewOf("checkout", func(v *detailView) { v.graph = graphBlock }),
		"hour":  viewOf("checkout", func(v *detailView) { v.span = time.Hour }),
		"young": viewOf("checkout", func(v *detailView) { v.points = v.points[len(v.points)-7:] }),
	}
}

// bare returns lines without their colors, and without the blanks at their ends.
func bare(lines []string) string {
	var text strings.Builder
	for _, l := range lines {
		text.WriteString(strings.TrimRight(ansi.Strip(l), " ") + "\n")
	}
	return text.String()
}

func TestDetails(t *testing.T) {
	for name, v := range details() {
		for _, size := range [][2]int{{60, 11}, {80, 19}, {120, 25}, {200, 44}} {
			t.Run(fmt.Sprintf("%s/%d×%d", name, size[0], size[1]), func(t *testing.T) {
				w, h := size[0], size[1]
				golden.File(t, fmt.Sprintf("testdata/detail-%s-%dx%d.txt", name, w, h), bare(detailScreen(v, w, h)))
			})
		}
		t.Run(name+"/panel", func(t *testing.T) {
			panels := bare(chartPanel(v, 65, 12)) + "\n" + bare(chartPanel(v, 110, 17))
			golden.File(t, fmt.Sprintf("testdata/detail-%s-panel.txt", name), panels)
		})
	}
}

// TestDetailIsCompleteAt80Columns: whatever the loop does, a terminal of 80×24 shows all its facts. Header and keys
// take five of the 24 lines.
func TestDetailIsCompleteAt80Columns(t *testing.T) {
	for name, v := range details() {
		got := bare(detailScreen(v, 80, 19))
		parts := []string{
			v.loop.Service + "/" + string(v.loop.Knob), modeText(v.loop.Mode), "SLO 99%", wordOf(stateOf(&v.loop)).word,
			"setpoint " + measure(v.loop, v.loop.Decision.Setpoint), "min..max " + bounds(v.loop), "-" + spanText(v.shows()) + " ",
			"\n predictor", "own latency", "\n gates     data", "binds", "occupancy", "\n bounds    ",
			"\n inputs    p99", "slow", "failed", "refused", "age ", "\n kv        ",
			strings.Fields(v.loop.Decision.Reason)[0],
		}
		if v.loop.Order != nil {
			parts = append(parts, "by ana: \"INC-1412\"")
		}
		if p := v.loop.Published; p != nil {
			parts = append(parts, fmt.Sprint("rev ", p.Revision))
		}
		if v.loop.Knob == control.KnobConcurrency {
			parts = append(parts, "Little", "floor", "service")
		}
		if v.loop.Decision.Bound != "" {
			parts = append(parts, "bound by "+strings.ReplaceAll(v.loop.Decision.Bound, "_", " "))
		}
		for _, part := range parts {
			if !strings.Contains(got, part) {
				t.Errorf("%s: nothing is said of %q:\n%s", name, part, got)
			}
		}
	}
}

// TestDetailFits at every size, with every loop, and with strings that are long and wide.
func TestDetailFits(t *testing.T) {
	views := details()
	var names []string
	for name := range views {
		names = append(names, name)
	}
	rapid.Check(t, func(t *rapid.T) {
		v := views[rapid.SampledFrom(names).Draw(t, "view")]
		words := rapid.StringOfN(rapid.SampledFrom([]rune("ab -漢字e\u0301…%")), 0, 300, -1)
		if rapid.Bool().Draw(t, "foreign words") {
			v.loop.Service = words.Draw(t, "service")
			v.loop.Decision.Reason, v.loop.Decision.Detail = words.Draw(t, "reason"), words.Draw(t, "detail")
			v.loop.Decision.Bound, v.loop.Decision.Terms.Event = words.Draw(t, "bound"), words.Draw(t, "event")
			v.loop.Decision.Inputs.Outliers = []string{words.Draw(t, "outlier")}
			v.loop.Published = &api.Published{Key: words.Draw(t, "key"), Error: words.Draw(t, "write error")}
			v.loop.Order = &actuators.Order{Actor: words.Draw(t, "actor"), Reason: words.Draw(t, "order")}
			v.err = errors.New(words.Draw(t, "error"))
		}
		v.span = rapid.SampledFrom(zooms).Draw(t, "span")
		w, h := rapid.IntRange(-1, 250).Draw(t, "width"), rapid.IntRange(-1, 70).Draw(t, "height")
		exactly(t, detailScreen(v, w, h), max(w, 0), max(h, 0))
		exactly(t, chartPanel(v, w, h), max(w, 0), max(h, 0))
		exactly(t, decisionsPanel(v.entries, w, h, v.now), max(w, 0), max(h, 0))
		if lines := detail(v.loop, v.now, w, h, v.stale); len(lines) > max(h, 0) {
			t.Fatalf("%d lines, want at most %d", len(lines), h)
		} else {
			exactly(t, lines, max(w, 0), len(lines))
		}
	})
}

// TestChartsOfAYoungHistory: they show all that is known, at most a third of them is empty, and none shows more than
// what is zoomed to.
func TestChartsOfAYoungHistory(t *testing.T) {
	for _, c := range []struct{ age, span, want time.Duration }{
		{0, time.Minute, 10 * time.Second},
		{10 * time.Second, time.Minute, 10 * time.Second},
		{11 * time.Second, time.Minute, 15 * time.Second},
		{61 * time.Second, time.Minute, time.Minute},
		{61 * time.Second, time.Hour, 90 * time.Second},
		{31 * time.Minute, time.Hour, 45 * time.Minute},
		{31 * time.Minute, 15 * time.Minute, 15 * time.Minute},
		{time.Hour + time.Second, time.Hour, time.Hour},
	} {
		v := detailView{now: fixture.Now, span: c.span, loaded: true}
		v.points = []api.Point{{At: v.now.Add(-c.age)}, {At: v.now}}
		if got := v.shows(); got != c.want {
			t.Errorf("a history of %s, zoomed to %s, is shown in %s, want %s", c.age, c.span, got, c.want)
		}
		v.loaded = false // more of it may be known to the governor
		if got := v.shows(); got != c.span {
			t.Errorf("before the history is here, %s are shown, want %s", got, c.span)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := detailView{now: fixture.Now, span: rapid.SampledFrom(zooms).Draw(t, "span"), loaded: true}
		age := time.Duration(rapid.Int64Range(int64(youngSpans[0]), int64(memory)).Draw(t, "age"))
		v.points = []api.Point{{At: v.now.Add(-age)}}
		switch got := v.shows(); {
		case got > v.span || got < min(age, v.span):
			t.Fatalf("%s of %s, zoomed to %s", got, age, v.span)
		case age < got && 3*age < 2*got:
			t.Fatalf("%s of %s: more than a third is empty", got, age)
		}
	})
}

// TestZoomOfAYoungHistory: a key that changes nothing on the screen says why.
func TestZoomOfAYoungHistory(t *testing.T) {
	young := told("checkout", control.KnobConcurrency)
	young.points = young.points[len(young.points)-7:]
	m := after(screen(120, 30, mixed()), append(press("down", "down"), young)...)
	if got := frame(m); !strings.Contains(got, "-30s └") {
		t.Errorf("a history of half a minute does not fill the chart:\n%s", got)
	}
	got := frame(after(m, press("-")...))
	if !strings.Contains(got, "-30s └") || !strings.Contains(got, "up to 15m; the history of checkout/concurrency is only") {
		t.Errorf("zooming out says nothing:\n%s", got)
	}
	if got := frame(after(m, press("-", "h")...)); strings.Contains(got, "up to 15m") {
		t.Errorf("it is said for ever:\n%s", got)
	}
}

// TestRewoundDetailKnowsNothingLater: in the past, charts end with what is shown.
func TestRewoundDetailKnowsNothingLater(t *testing.T) {
	v := viewOf("checkout", nil)
	v.now = fixture.Now.Add(-30 * time.Minute)
	v.loop.Decision.At = v.now
	past := v.past()
	if len(past) < 55 || len(past) > 65 {
		t.Errorf("five minutes of decisions every five seconds are %d points", len(past))
	}
	if got := past[len(past)-1].At; !got.Equal(v.now) {
		t.Errorf("the chart ends at %v, want %v", got, v.now)
	}
	v.now = v.now.Add(-2 * time.Second) // between two decisions, and the newer one is not known yet
	if past := v.past(); !past[len(past)-1].At.Equal(v.now.Add(-3 * time.Second)) {
		t.Errorf("the chart ends at %v, want 3s before %v", past[len(past)-1].At, v.now)
	}
	if len(v.points) != 720 {
		t.Error("the history itself was cut")
	}
}

func TestOrderText(t *testing.T) {
	l := serviceLoop("checkout")
	for _, c := range []struct {
		order actuators.Order
		state control.State
		want  string
	}{
		{
			actuators.Order{Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1", ExpiresAt: fixture.Now.Add(90 * time.Minute)},
			control.Frozen, `* FROZEN by ana: "INC-1", expires in 1h30m (15:33:27 UTC)`,
		},
		{
			actuators.Order{Kind: actuators.Override, Value: 250, Actor: "ben", ExpiresAt: fixture.Now.Add(45 * time.Second)},
			control.Override, `M OVERRIDE 250 by ben, expires in 45s (14:04:12 UTC)`,
		},
		{
			actuators.Order{Kind: actuators.Freeze, Actor: "ana", Reason: "x"},
			control.Frozen, `* FROZEN by ana: "x", all loops, until someone lifts the kill switch`,
		},
		{
			actuators.Order{Kind: actuators.Freeze, Actor: "ana", ExpiresAt: fixture.Now.Add(72 * time.Hour)},
			control.Steady, `* FROZEN by ana, expires in 3d0h (2026-11-27 14:03:27 UTC); not in force yet`,
		},
		{
			actuators.Order{Kind: actuators.Freeze, Actor: "ana", ExpiresAt: fixture.Now},
			control.Steady, `* FROZEN by ana, expired`,
		},
	} {
		l.Order, l.Decision.State = &c.order, c.state
		if got := orderText(l, fixture.Now); got != c.want {
			t.Errorf("got  %s\nwant %s", got, c.want)
		}
	}
}

// TestFlowLosesNothing: if there is room, every item appears whole and in order; if not, an ellipsis says so.
func TestFlowLosesNothing(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		f := fact{label: "label"}
		var all []string
		for range rapid.IntRange(1, 12).Draw(t, "items") {
			text := rapid.StringMatching(`[a-z漢]{1,9}( [a-z]{1,9})?`).Draw(t, "item")
			f.warn(rapid.SampledFrom([]tone{plain, alarm}).Draw(t, "tone"), text)
			all = append(all, text)
		}
		w, n := rapid.IntRange(40, 100).Draw(t, "width"), rapid.IntRange(1, 20).Draw(t, "lines")
		lines := f.lines(w, n)
		if len(lines) > n {
			t.Fatalf("%d lines, want at most %d", len(lines), n)
		}
		exactly(t, lines, w, len(lines))
		text := strings.Join(strings.Fields(ansi.Strip(strings.Join(lines, " "))), " ")
		want := "label " + strings.Join(all, " ")
		if head, _, cut := strings.Cut(text, fit.Ellipsis); cut && n < 12 {
			head = strings.TrimSpace(head)
			if !strings.HasPrefix(want, head) {
				t.Fatalf("%q is not the beginning of %q", head, want)
			}
		} else if text != want {
			t.Fatalf("got %q, want %q", text, want)
		}
	})
}

// TestEveryReasonToHoldHasWords, and every constraint.
func TestEveryReasonToHoldHasWords(t *testing.T) {
	for _, r := range []control.Reason{
		control.NaN, control.NotFinite, control.NoData, control.Idle, control.ManySeries, control.Partial,
		control.TooLittleTraffic, control.Stale, control.Implausible, control.Timeout, control.QueryError, control.Clock,
		control.Starting,
	} {
		d := serviceLoop("auth").Decision
		d.HoldReason = r
		got := bare(gates(d).lines(200, 1))
		if holds[r] == "" || !strings.Contains(got, "~ "+strings.ReplaceAll(string(r), "_", " ")) {
			t.Errorf("%s reads %q", r, got)
		}
	}
	for _, b := range []string{
		control.BoundDeadband, control.BoundSlew, control.BoundFloor, control.BoundMin, control.BoundMax,
		control.BoundTighten,
	} {
		if constraintWords[b] == "" {
			t.Errorf("the constraint %s has no words", b)
		}
	}
}

// TestManualShowsTheDetail: the frame in the manual is the one that govtop draws.
func TestManualShowsTheDetail(t *testing.T) {
	golden.Section(t, manualPath, "detail", "```\n"+bare(detailScreen(details()["cutting"], 80, 19))+"```\n")
}
