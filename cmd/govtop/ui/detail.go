package ui

import (
	"fmt"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// detailLines is the height of the detail where the screen has room for all of it.
const detailLines = 7

// detail explains the selected loop: its reason first, then what the reason rests on. It draws at most lines lines.
func detail(l api.Loop, now time.Time, w, lines int, stale bool) []string {
	if lines < 2 {
		return nil
	}
	protects := ""
	if l.Protect != "" {
		protects = "protects " + l.Protect
	}
	title := spread(w-4, "  ", bold.Render(name(l)), modeText(l.Mode), protects, objective(l.SLO))
	out := []string{rule(title, w)}

	d := l.Decision
	reason := d.Reason
	if !strings.Contains(reason, string(d.HoldReason)) {
		reason = join(": ", string(d.HoldReason), reason)
	}
	if d.Detail != "" && !strings.Contains(reason, d.Detail) {
		reason = join("; ", reason, d.Detail)
	}
	if reason == "" {
		reason = "no reason given"
	}
	why := wrap(reason, w-2, max(1, min(2, lines-1)))
	for _, line := range why {
		out = append(out, " "+line)
	}
	for _, line := range []string{inputs(l, w-1), terms(l, w-1), gates(d, w-1), published(l, now, w-1)} {
		out = append(out, " "+line)
	}
	out = out[:min(len(out), lines)]
	if stale {
		for i := range out {
			out[i] = paint(dim, out[i])
		}
	}
	return out
}

// rule is a horizontal line with a title in it.
func rule(title string, w int) string {
	title = "─ " + title + " "
	return clip(title+strings.Repeat("─", max(0, w-width(title))), w)
}

func objective(s api.SLO) string {
	if s.LatencySeconds == 0 {
		return ""
	}
	text := fmt.Sprintf("SLO %s within %s", percent(s.Objective), seconds(control.Number(s.LatencySeconds)))
	if s.Errors > 0 {
		text += ", errors " + percent(s.Errors)
	}
	return text
}

// inputs are the readings behind the decision: n arrivals in the window, and the age of the oldest sample among them.
func inputs(l api.Loop, w int) string {
	in := l.Decision.Inputs
	quantile := "p" + decimal(l.SLO.Objective*100, 2) + " "
	if in.Censored {
		quantile += "> " // above the highest bucket
	}
	outliers := ""
	if len(in.Outliers) > 0 {
		outliers = paint(warning, "outliers "+strings.Join(in.Outliers, ", "))
	}
	return spread(w, "  ",
		quantile+seconds(in.Quantile),
		"slow "+percent(float64(in.SlowRatio)),
		"failed "+percent(float64(in.FailedRatio)),
		"refused "+percent(float64(in.RefusedShare)),
		outliers,
		"n "+number(in.Requests)+" in "+seconds(in.WindowSeconds),
		"age "+seconds(in.AgeSeconds),
		fmt.Sprintf("%d %s", in.Instances, plural(in.Instances, "instance")))
}

// terms are what the controller added up.
func terms(l api.Loop, w int) string {
	d := l.Decision
	t := d.Terms
	bound := ""
	if d.Bound != "" {
		bound = "bound by " + strings.ReplaceAll(d.Bound, "_", " ")
	}
	law := t.Law
	if law == "" {
		law = "law"
	}
	own := ""
	if known(t.P) || known(t.I) || known(t.D) {
		own = "P " + signed(t.P) + "  I " + signed(t.I) + "  D " + signed(t.D)
	}
	ceiling := ""
	if known(d.Ceiling) && d.Ceiling > 0 {
		ceiling = "ceiling " + number(d.Ceiling)
	}
	raw := "raw " + value(d.Knob, float64(d.Raw)) + " in " + bounds(l)
	return spread(w, "  ", law, "error "+signed(t.Error), own, t.Event, raw, bound, ceiling)
}

// gates are the findings made before the controller was asked.
func gates(d control.Decision, w int) string {
	g := d.Gates
	overloaded := "no"
	if g.Overloaded {
		overloaded = "yes"
	}
	floor := ""
	if d.Knob == control.KnobConcurrency {
		floor = "floor " + number(g.Floor)
	}
	if floor != "" && g.FloorTest != "" {
		floor += " (test " + strings.ReplaceAll(g.FloorTest, "_", " ") + ")"
	}
	service := ""
	if known(g.ServiceTimeSeconds) && g.ServiceTimeSeconds > 0 {
		service = "service time " + seconds(g.ServiceTimeSeconds)
	}
	return spread(w, "  ", "gates",
		"overloaded "+overloaded,
		"occupancy "+percent(float64(g.Occupancy)),
		floor,
		"own latency "+seconds(g.OwnLatencySeconds), service)
}

// published says what readers of the KV see, and how many have taken it up.
func published(l api.Loop, now time.Time, w int) string {
	p := l.Published
	if p == nil && l.Mode == control.Enforce {
		return "kv nothing published yet"
	} else if p == nil {
		return "kv nothing published: the mode is " + string(l.Mode)
	}
	if p.Error != "" {
		return paint(alarm, clip("kv ! not written: "+p.Error, w))
	}
	applied := "written"
	if in := l.Decision.Inputs; in.Applied >= 0 && in.Instances > 0 {
		applied = fmt.Sprintf("applied %d/%d", in.Applied, in.Instances)
	}
	note := ""
	if l.Mode != control.Enforce {
		note = "no longer renewed: the mode is " + string(l.Mode)
	}
	changed := ""
	if !p.ChangedAt.IsZero() {
		changed = "changed " + age(now.Sub(p.ChangedAt)) + " ago"
	}
	return spread(w, "  ", "kv "+setTo(l, p.Value), fmt.Sprintf("rev %d", p.Revision), applied, changed,
		note, p.Key)
}

// detailView is what the detail of one loop shows.
type detailView struct {
	loop    api.Loop
	points  []api.Point // oldest first; nil while they are loaded
	entries []logEntry  // of this loop, newest first; shown where there is room
	loaded  bool        // an answer has come
	err     error       // why the last answer did not
	now     time.Time   // the right end of the charts
	span    time.Duration
	graph   graph
	stale   bool
}

// zooms are the spans of the charts.
var zooms = []time.Duration{time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour}

// detailScreen explains one loop in exactly h lines of at most w cells.
func detailScreen(v detailView, w, h int) []string { return fitted(nil, h) }

// chartPanel draws the charts of a loop, and what its controller added up, in exactly h lines of at most w cells.
func chartPanel(v detailView, w, h int) []string { return fitted(nil, h) }
