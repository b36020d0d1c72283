package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// logEntry is one line of the log: a decision of governor, or an action of a person.
type logEntry struct {
	at     time.Time
	loop   string // service/knob; "": all loops
	glyph  string
	word   string
	tone   tone
	change string // "95->72"; "": nothing moved
	reason string
	facts  []item // further facts, for the selected entry
	seq    uint64 // of a decision; 0: an action
}

// mostEntries bounds the log.
const mostEntries = 1000

// entriesOf merges governor's decisions and people's actions, newest first. Duplicates count once.
func entriesOf(records []api.Record, actions []actuators.Action) []logEntry {
	var out []logEntry
	seen := map[uint64]bool{}
	for _, r := range records {
		if r.Seq == 0 || !seen[r.Seq] {
			seen[r.Seq] = true
			out = append(out, decided(r))
		}
	}
	acted := map[string]bool{}
	for _, a := range actions {
		id := fmt.Sprint(a.At.UnixNano(), a.Service, "/", a.Knob, a.Kind, a.Actor)
		if !acted[id] {
			acted[id] = true
			out = append(out, ordered(a))
		}
	}
	// At the same instant the order comes before its effect, so that reading upwards shows what led to what.
	slices.SortStableFunc(out, func(a, b logEntry) int {
		return cmp.Or(b.at.Compare(a.at), cmp.Compare(b.seq, a.seq), cmp.Compare(a.loop, b.loop))
	})
	return out[:min(len(out), mostEntries)]
}

// decided is the entry of a decision.
func decided(r api.Record) logEntry {
	d := r.Decision
	w := wordOf(d.State)
	l := api.Loop{Service: d.Service, Knob: d.Knob, MeasuredUnit: measuredUnit(d.Knob)}
	e := logEntry{at: d.At, loop: name(l), glyph: w.glyph, word: w.word, tone: w.tone, reason: reason(d), seq: r.Seq}
	if d.From.Known() && d.Value.Known() && d.From != d.Value {
		from := strings.TrimSuffix(value(d.Knob, float64(d.From)), "/s")
		e.change = from + "->" + value(d.Knob, float64(d.Value))
	}
	f := fact{}
	if r.WriteError != "" {
		f.warn(alarm, "! not written: "+r.WriteError)
	}
	f.say("mode "+string(d.Mode), "measured "+measure(l, d.Measured), "setpoint "+measure(l, d.Setpoint))
	if d.Inputs.BadRatio.Known() {
		f.say("bad " + times(d.Inputs.BadRatio) + " what the SLO allows")
	}
	if d.Bound != "" {
		f.say("bound by " + strings.ReplaceAll(d.Bound, "_", " "))
	}
	if d.Raw.Known() {
		f.say("asked for " + value(d.Knob, float64(d.Raw)))
	}
	f.say("refused "+percent(float64(d.Inputs.RefusedShare)), "age "+seconds(d.Inputs.AgeSeconds))
	if r.Wrote {
		f.say("written to the KV")
	}
	e.facts = f.items
	return e
}

// measuredUnit is the unit of a knob's measurement, for use without a loop.
func measuredUnit(k control.Knob) api.Unit {
	switch k {
	case control.KnobShed:
		return api.Share
	case control.KnobRetry:
		return api.Retries
	}
	return api.Seconds
}

// ordered is the entry of a person's action.
func ordered(a actuators.Action) logEntry {
	knob := control.Knob(a.Knob)
	e := logEntry{at: a.At, tone: manual, reason: "by " + who(a.Actor, a.Reason)}
	if a.Service != "" {
		e.loop = name(api.Loop{Service: a.Service, Knob: knob})
	}
	switch a.Kind {
	case actuators.Freeze:
		e.glyph, e.word = wordOf(control.Frozen).glyph, "freeze"
	case actuators.Override:
		e.glyph, e.word = wordOf(control.Override).glyph, "override"
		e.change = "to " + value(knob, a.Value)
		e.reason = e.change + " " + e.reason
	case actuators.Resume:
		e.glyph, e.word = "R", "resume"
	default:
		e.glyph, e.word = "?", string(a.Kind)
	}
	switch {
	case !a.ExpiresAt.IsZero():
		e.reason += ", for " + remaining(a.ExpiresAt.Sub(a.At))
		e.facts = []item{{text: "expires " + format.Clock(a.ExpiresAt, a.At)}}
	case a.Kind == actuators.Freeze && a.Service == "":
		e.reason += ", until someone lifts it"
	}
	return e
}

// decisionsView is the content of the decisions screen. The selection is an entry, not a line: it stays with its entry
// when newer ones arrive; at the top it stays at the top.
type decisionsView struct {
	entries  []logEntry // newest first
	loop     string     // only this loop, and orders for all loops; "": everything
	selected int        // last known index of the selected entry among those shown
	chosen   entryID    // the selected entry; zero: the newest
	top      int        // last known first entry on the screen
	now      time.Time
	loaded   bool  // an answer has come
	err      error // why the last request failed
	stale    bool
}

// entryID identifies an entry.
type entryID struct {
	seq        uint64
	at         time.Time
	loop, word string
}

func (e logEntry) id() entryID { return entryID{e.seq, e.at, e.loop, e.word} }

// shown are the entries that belong on the screen.
func (v decisionsView) shown() []logEntry {
	if v.loop == "" {
		return v.entries
	}
	return slices.DeleteFunc(slices.Clone(v.entries), func(e logEntry) bool { return e.loop != v.loop && e.loop != "" })
}

// current returns the selected entry; false if there is none.
func (v decisionsView) current() (logEntry, bool) {
	shown := v.shown()
	v.settle(shown)
	if len(shown) == 0 {
		return logEntry{}, false
	}
	return shown[v.selected], true
}

// settle finds the selected entry again.
func (v *decisionsView) settle(shown []logEntry) {
	i := 0
	if v.chosen != (entryID{}) {
		if i = slices.IndexFunc(shown, func(e logEntry) bool { return e.id() == v.chosen }); i < 0 {
			i = v.selected // it has been dropped
		}
	}
	i = min(max(i, 0), max(len(shown)-1, 0))
	v.top, v.selected = max(v.top+i-v.selected, 0), i
}

// move selects the entry delta lines further down, and scrolls so that a screen of w×h shows it.
func (v *decisionsView) move(delta, w, h int) {
	shown := v.shown()
	v.settle(shown)
	if len(shown) == 0 {
		return
	}
	v.selected = min(max(v.selected+delta, 0), len(shown)-1)
	v.chosen = entryID{}
	if v.selected > 0 {
		v.chosen = shown[v.selected].id()
	}
	v.scroll(shown, w, h)
}

// scroll brings the selected entry onto the screen.
func (v *decisionsView) scroll(shown []logEntry, w, h int) {
	if len(shown) == 0 {
		return
	}
	room := h - 1 - len(v.layout(w).unfolded(shown[v.selected], v.now))
	v.top = min(v.top, v.selected)
	v.top = max(v.top, v.selected-max(room, 0))
}

// logLayout is the layout of the log's columns.
type logLayout struct {
	w      int
	loops  int               // width of the column for loops
	change int               // width of the column for changes; 0: there is none
	short  map[string]string // the loops' names as the column shows them
}

const (
	mostUnfolded    = 8  // lines of the selected entry
	reasonIndent    = 11 // below the time
	loopColumnLeast = 12
	loopColumnMost  = 32
	changeLeast     = 9
	changeMost      = 16  // "12000->13000/s" and a little more
	wordColumn      = 13  // "! INEFFECTIVE"
	changeFrom      = 100 // cells; on a narrower screen the reason mentions the change
)

func (v *decisionsView) layout(w int) logLayout {
	l := logLayout{w: w, loops: loopColumnLeast}
	change := changeLeast
	for _, e := range v.entries {
		l.loops, change = max(l.loops, fit.Width(e.about())), max(change, fit.Width(e.change))
	}
	if w >= changeFrom {
		l.change = min(change, changeMost)
	}
	l.loops = min(l.loops, loopColumnMost, max(w/4, loopColumnLeast))
	var names []string
	l.short = map[string]string{}
	for _, e := range v.entries {
		if _, ok := l.short[e.about()]; !ok {
			names, l.short[e.about()] = append(names, e.about()), ""
		}
	}
	for i, short := range shortNames(names, l.loops) {
		l.short[names[i]] = short
	}
	return l
}

// decisionsScreen draws the log into exactly h lines of at most w cells: one line per entry, and the selected one in
// full.
func decisionsScreen(v decisionsView, w, h int) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	shown := v.shown()
	v.settle(shown)
	v.scroll(shown, w, h)
	about := "all loops"
	if v.loop != "" {
		about = v.loop
	}
	title := []string{bold.Render("Decisions"), about}
	if len(shown) > 0 {
		title = append(title, fmt.Sprintf("%d of %d", v.selected+1, len(shown)))
	}
	if v.err != nil && v.loaded {
		title = append(title, paint(alarm, "! not up to date: "+v.err.Error()))
	}
	out := []string{rule(spread(w-4, "  ", title...), w)}
	if len(shown) == 0 {
		out = append(out, indent(fit.WrapTo(v.nothing(), w-2, h-1))...)
	}
	layout := v.layout(w)
	for i := v.top; i < len(shown) && len(out) < h; i++ {
		if i == v.selected {
			out = append(out, layout.unfolded(shown[i], v.now)...)
			continue
		}
		out = append(out, layout.line(shown[i], v.now))
	}
	return grayed(fitted(out, h), v.stale)
}

func (v decisionsView) nothing() string {
	switch {
	case v.err != nil:
		return "no log: " + v.err.Error()
	case !v.loaded:
		return "loading ..."
	case v.loop != "":
		return "No moves and no orders for this loop, as far back as the journal reaches."
	}
	return "No moves and no orders, as far back as the journal reaches."
}

// line is an entry in one line.
func (l logLayout) line(e logEntry, now time.Time) string {
	why := e.reason
	if l.change > 0 {
		why = e.because()
	}
	return fit.Clip(" "+l.head(e, now, strings.Clone)+why, l.w)
}

// unfolded is the selected entry: its line, then all its details.
func (l logLayout) unfolded(e logEntry, now time.Time) []string {
	out := []string{fit.Clip(">"+strings.TrimRight(l.head(e, now, embolden), " "), l.w)}
	room := l.w - reasonIndent - 1
	more := fit.WrapTo(e.reason, room, mostUnfolded-2)
	more = append(more, flow(e.facts, room, mostUnfolded-1-len(more))...)
	for _, line := range more {
		out = append(out, fit.Clip(strings.Repeat(" ", reasonIndent)+line, l.w))
	}
	return out
}

// head is an entry up to its reason.
func (l logLayout) head(e logEntry, now time.Time, emphasis func(string) string) string {
	head := emphasis(fit.Left(stamp(e.at, now), 8)+"  "+fit.Left(l.short[e.about()], l.loops)) + "  " +
		paint(e.tone, fit.Left(e.glyph+" "+e.word, wordColumn)) + "  "
	if l.change > 0 {
		head += fit.Left(e.change, l.change) + "  "
	}
	return head
}

func (e logEntry) about() string {
	if e.loop == "" {
		return "all loops"
	}
	return e.loop
}

// because is the reason, without what glyph, word and change already say.
func (e logEntry) because() string {
	for _, verb := range []string{"cut ", "raise ", "keep ", "hold "} {
		if strings.HasPrefix(e.reason, verb) {
			if _, why, ok := strings.Cut(e.reason, ": "); ok {
				return why
			}
		}
	}
	return e.reason
}

// stamp is a clock time, or a date for an entry older than a day.
func stamp(at, now time.Time) string {
	if d := now.Sub(at); d > 24*time.Hour || d < -24*time.Hour {
		return at.UTC().Format("02 Jan")
	}
	return format.TimeOfDay(at)
}

// decisionsPanel draws the newest entries into exactly h lines of at most w cells.
func decisionsPanel(entries []logEntry, w, h int, now time.Time) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	out := []string{rule(bold.Render("Decisions"), w)}
	loops := map[string]bool{}
	for _, e := range entries {
		loops[e.loop] = e.loop != ""
	}
	delete(loops, "")
	for _, e := range entries {
		if len(out) >= h {
			break
		}
		head := stamp(e.at, now) + " " + paint(e.tone, e.glyph)
		about := ""
		if len(loops) > 1 || e.loop == "" {
			about = e.about()
		}
		what := join(" ", about, e.change)
		if e.change == "" {
			what = join(" ", about, strings.ToLower(e.word))
		}
		hang := fit.Width(head) + 1
		for i, line := range fit.WrapTo(what+"  "+e.because(), w-hang-1, min(2, h-len(out))) {
			if i == 0 {
				out = append(out, fit.Clip(" "+head+" "+line, w))
				continue
			}
			out = append(out, fit.Clip(strings.Repeat(" ", hang+1)+line, w))
		}
	}
	if len(entries) == 0 {
		out = append(out, fit.Clip(paint(dim, " none to show"), w))
	}
	return fitted(out, h)
}

func embolden(s string) string { return bold.Render(s) }
