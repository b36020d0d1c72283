package ui

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// connectionView is the state of govtop's own connection to its governor.
type connectionView struct {
	address, version string // of the governor, and of this govtop
	word             string // "LIVE", "STALE 13s, retry in 4s"
	tone             tone
	err              error // why the last connection ended; nil: it is up
}

// healthView is the content of the health screen.
type healthView struct {
	status     api.Status
	loops      []api.Loop
	connection connectionView
	top        int // first line on the screen
	stale      bool
}

const (
	healthLabel    = 12  // cells of a label, with the blank after it
	healthColumns  = 120 // cells; from this width on the Settings go to the side
	mostErrorLines = 4
)

// most is the largest top of a screen of w×h.
func (v healthView) most(w, h int) int { return max(len(v.lines(w))-(h-1), 0) }

// healthScreen draws the governor, its dependencies and the outcome of its writes, into exactly h lines of at most w
// cells.
func healthScreen(v healthView, w, h int) []string {
	if w <= 0 || h <= 0 {
		return fitted(nil, h)
	}
	lines := v.lines(w)
	top := min(max(v.top, 0), max(len(lines)-(h-1), 0))
	title := bold.Render("Health")
	if len(lines) > h-1 {
		title += fmt.Sprintf("  lines %d-%d of %d", top+1, min(top+h-1, len(lines)), len(lines))
	}
	out := append([]string{rule(title, w)}, lines[top:]...)
	return grayed(fitted(out, h), v.stale)
}

// lines are all lines below the title.
func (v healthView) lines(w int) []string {
	facts := []fact{
		v.govtop(), v.governor(), v.leader(), server("Prometheus", v.status.Prometheus, v.status.Now),
		server("Consul", v.status.Consul, v.status.Now), v.config(),
	}
	for i, warning := range v.status.Warnings {
		f := fact{}
		if i == 0 {
			f.label = "warnings"
		}
		f.warn(alarm, "! "+warning)
		facts = append(facts, f)
	}
	all := v.settings()
	facts = append(facts, v.killSwitch(), v.states(), v.modes(), v.slo(), v.refusals(), v.silence(), written(all))
	room, settings := w-2, w-2
	if w >= healthColumns {
		settings = 58
		room = w - 2 - settings - 3
	}
	var system []string
	for _, f := range facts {
		system = append(system, f.labeled(healthLabel, room, 2+mostErrorLines)...)
	}
	applied := v.applied(all, settings)
	if w < healthColumns {
		return indent(append(append(system, ""), applied...))
	}
	var out []string
	for i := range max(len(system), len(applied)) {
		line := ""
		if i < len(system) {
			line = system[i]
		}
		if i < len(applied) {
			line = fit.Left(line, room) + "   " + applied[i]
		}
		out = append(out, line)
	}
	return indent(out)
}

// ok and bad start a fact with glyph and word.
func (f *fact) ok(word string)  { f.warn(calm, "= "+word) }
func (f *fact) bad(word string) { f.warn(alarm, "! "+word) }

func (v healthView) govtop() fact {
	f := fact{label: "govtop"}
	glyph := "= "
	switch v.connection.tone {
	case calm, plain:
	case waiting:
		glyph = "~ "
	default:
		glyph = "! "
	}
	f.warn(v.connection.tone, glyph+v.connection.word)
	f.say(v.connection.address, "version "+v.connection.version)
	if v.connection.err != nil {
		f.bad(v.connection.err.Error())
	}
	return f
}

func (v healthView) governor() fact {
	s := v.status
	f := fact{label: "governor"}
	f.ok(strings.ToUpper(string(s.Role)))
	f.say(s.Instance, "version "+s.Version)
	if !s.StartedAt.IsZero() {
		f.say("up " + remaining(s.Now.Sub(s.StartedAt)))
	}
	return f
}

func (v healthView) leader() fact {
	f, l := fact{label: "leader"}, v.status.Leader
	if l.Instance == "" {
		f.bad("NO LEADER")
		f.say("nothing is written until a leader is elected")
		return f
	}
	f.ok("ELECTED")
	f.say(l.Instance, fmt.Sprintf("epoch %d", l.Epoch), l.API)
	return f
}

// server shows the last answer of a dependency.
func server(name string, d api.Dependency, now time.Time) fact {
	f := fact{label: name}
	if d.OK {
		f.ok("OK")
		if d.Latency.Known() {
			f.say("in " + seconds(d.Latency))
		}
	} else {
		f.bad("DOWN")
	}
	if d.LastOK == nil {
		f.say("has never answered")
	} else {
		f.say("last answer " + format.Age(now.Sub(*d.LastOK)) + " ago")
	}
	f.say(d.Address)
	if !d.OK && d.Error != "" {
		f.warn(alarm, d.Error)
	}
	return f
}

func (v healthView) config() fact {
	f, c := fact{label: "config"}, v.status.Config
	if c.Error == "" {
		f.ok("LOADED")
	} else {
		f.bad("NOT RELOADED")
		f.say("the previous one stays in force:")
	}
	f.say(c.File)
	if c.Hash != "" {
		f.say(c.Hash)
	}
	if !c.LoadedAt.IsZero() {
		f.say("since " + format.Clock(c.LoadedAt, v.status.Now))
	}
	if c.Error != "" {
		f.warn(alarm, c.Error)
	}
	return f
}

func (v healthView) killSwitch() fact {
	f, o := fact{label: "kill switch"}, v.status.Freeze
	if o == nil {
		f.ok("NOT PULLED")
		return f
	}
	w := wordOf(control.Frozen)
	f.warn(manual, w.glyph+" PULLED: every loop is frozen")
	f.say("by " + who(o.Actor, o.Reason))
	if !o.At.IsZero() {
		f.say("since " + format.Clock(o.At, v.status.Now))
	}
	return f
}

// states counts the loops by state; states that need a person come first.
func (v healthView) states() fact {
	f := fact{label: "loops"}
	by := map[control.State]int{}
	order := slices.Clone(states)
	for _, l := range v.loops {
		s := stateOf(&l)
		by[s]++
		if !slices.Contains(order, s) {
			order = append(order, s)
		}
	}
	f.say(fmt.Sprintf("%d %s", len(v.loops), plural(len(v.loops), "loop")))
	for _, s := range order {
		if n := by[s]; n > 0 {
			w := wordOf(s)
			f.warn(w.tone, fmt.Sprintf("%s %d %s", w.glyph, n, w.word))
		}
	}
	return f
}

func (v healthView) modes() fact {
	f := fact{label: "modes"}
	by := map[control.Mode]int{}
	var order []control.Mode
	for _, l := range v.loops {
		if by[l.Mode]++; by[l.Mode] == 1 {
			order = append(order, l.Mode)
		}
	}
	slices.SortFunc(order, func(a, b control.Mode) int { return cmp.Compare(by[b], by[a]) })
	for _, m := range order {
		f.say(fmt.Sprintf("%d %s", by[m], modeText(m)))
	}
	return f
}

// slo names the loops whose measurements show that the service misses its SLO.
func (v healthView) slo() fact {
	f := fact{label: "SLO"}
	var missed []string
	measured := 0
	for _, l := range v.loops {
		if l.Decision.Inputs.BadRatio.Known() {
			measured++
		}
		if Violates(l) {
			missed = append(missed, name(l))
		}
	}
	switch {
	case len(missed) > 0:
		f.bad(fmt.Sprintf("%d MISSED", len(missed)))
		f.say(missed...)
	case measured > 0:
		f.ok("MET")
	}
	if unmeasured := len(v.loops) - measured; unmeasured > 0 {
		f.warn(waiting, fmt.Sprintf("~ %d NOT MEASURED", unmeasured))
	}
	return f
}

// refusals names the loops whose service refuses more than MaxRefused, and what it lacks.
func (v healthView) refusals() fact {
	f := fact{label: "refusals"}
	var much []string
	known := false
	for _, l := range v.loops {
		known = known || l.Decision.Inputs.RefusedShare.Known()
		if Refuses(l, MaxRefused) {
			much = append(much, name(l)+" "+percent(float64(l.Decision.Inputs.RefusedShare)))
		}
	}
	switch {
	case len(much) > 0:
		f.bad(fmt.Sprintf("%d ABOVE %s", len(much), percent(MaxRefused)))
		f.say(much...)
	case known:
		f.ok("AT MOST " + percent(MaxRefused))
	default:
		f.warn(waiting, "~ NOT MEASURED")
	}
	return f
}

// silence names the loops that make no decisions.
func (v healthView) silence() fact {
	f := fact{label: "decisions"}
	var newest time.Time
	var silent []string
	for _, l := range v.loops {
		if l.Decision.At.After(newest) {
			newest = l.Decision.At
		}
		if old, is := l.Overdue(v.status.Now); is {
			silent = append(silent, name(l)+" "+format.Age(old))
		}
	}
	switch {
	case newest.IsZero():
		f.warn(waiting, "~ NONE YET")
		return f
	case len(silent) > 0:
		f.bad("OLD")
		f.say(silent...)
	default:
		f.ok("CURRENT")
	}
	f.say("newest " + format.Age(v.status.Now.Sub(newest)) + " ago")
	return f
}

// setting is the state of what governor publishes for one service.
type setting struct {
	service            string
	applied, instances int // applied is -1 if it is not reported
	revision           uint64
	changed            time.Time
	published          bool
	enforced           bool
	err                string
}

// rank orders settings: failures first.
func (s setting) rank() int {
	switch {
	case s.err != "":
		return 0
	case s.published && s.applied >= 0 && s.applied < s.instances:
		return 1
	case s.enforced && !s.published:
		return 2
	case s.published && s.applied < 0:
		return 3
	case s.published:
		return 4
	}
	return 5
}

// settings are the Settings of all services, worst first: one document for all knobs of a service.
func (v healthView) settings() []setting {
	by := map[string]*setting{}
	var out []*setting
	for _, l := range v.loops {
		of := l.Service
		if l.Callee != "" { // its calls have a Setting of their own
			of = name(l)
		}
		s := by[of]
		if s == nil {
			s = &setting{service: of, applied: -1}
			by[of] = s
			out = append(out, s)
		}
		s.enforced = s.enforced || l.Mode == control.Enforce
		p, in := l.Published, l.Decision.Inputs
		if p == nil {
			continue
		}
		s.published = true
		s.revision = max(s.revision, p.Revision)
		if p.ChangedAt.After(s.changed) {
			s.changed = p.ChangedAt
		}
		if p.Error != "" {
			s.err = p.Error
		}
		if in.Applied >= 0 && in.Instances > 0 && (s.applied < 0 || in.Applied < s.applied) {
			s.applied, s.instances = in.Applied, in.Instances
		}
	}
	slices.SortFunc(out, func(a, b *setting) int {
		share := func(s *setting) float64 { return float64(s.applied) / float64(max(s.instances, 1)) }
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(share(a), share(b)), cmp.Compare(a.service, b.service))
	})
	sorted := make([]setting, len(out))
	for i, s := range out {
		sorted[i] = *s
	}
	return sorted
}

// written counts the outcomes of the writes.
func written(settings []setting) fact {
	f := fact{label: "settings"}
	by := map[string]int{}
	for _, s := range settings {
		word, _ := s.word()
		by[word]++
	}
	for _, s := range settings {
		word, t := s.word()
		if n := by[word]; n > 0 {
			glyph, rest, _ := strings.Cut(word, " ")
			f.warn(t, fmt.Sprintf("%s %d %s", glyph, n, rest))
			by[word] = 0
		}
	}
	return f
}

// applied is the table of Settings.
func (v healthView) applied(settings []setting, w int) []string {
	if len(settings) == 0 {
		return nil
	}
	const longestName, state, column = 28, 14, 8
	service := len("SERVICE")
	for _, s := range settings {
		service = max(service, fit.Width(s.service))
	}
	service = min(service, longestName, max(w/3, len("SERVICE")))
	row := func(name, word, applied, revision, changed string) string {
		word += strings.Repeat(" ", max(state-fit.Width(word), 0))
		return fit.Left(name, service) + "  " + word + "  " + fit.Right(applied, column) + "  " + fit.Right(revision, column) + "  " +
			changed
	}
	names := make([]string, len(settings))
	for i, s := range settings {
		names[i] = s.service
	}
	names = shortNames(names, service)
	out := []string{bold.Render(fit.Clip(row("SETTING", "STATE", "APPLIED", "REVISION", "CHANGED"), w))}
	for i, s := range settings {
		word, t := s.word()
		applied, revision, changed := unknown, unknown, ""
		if s.published {
			revision = fmt.Sprint(s.revision)
			if s.applied >= 0 {
				applied = fmt.Sprintf("%d/%d", s.applied, s.instances)
			}
			if !s.changed.IsZero() {
				changed = format.Age(v.status.Now.Sub(s.changed)) + " ago"
			}
		}
		out = append(out, fit.Clip(row(names[i], paint(t, word), applied, revision, changed), w))
		if s.err != "" {
			for _, l := range fit.WrapTo(s.err, w-2, mostErrorLines) {
				out = append(out, "  "+paint(alarm, l))
			}
		}
	}
	return out
}

func (s setting) word() (string, tone) {
	switch s.rank() {
	case 0:
		return "! NOT WRITTEN", alarm
	case 1:
		return "! BEHIND", warning
	case 2:
		return "~ NONE YET", waiting
	case 3:
		return "= WRITTEN", calm
	case 4:
		return "= APPLIED", calm
	}
	return ". NOT ENFORCED", dim
}
