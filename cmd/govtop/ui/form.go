package ui

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// form asks for what an order needs: the value, why, for how long, who, and, for a loop that affects its service, the
// loop's name. It keeps the typed text until the order is recorded. It sends nothing itself.
type form struct {
	kind    actuators.OrderKind
	loop    api.Loop
	fields  []field
	focus   int
	blocked string // why nothing can be ordered; there are no fields then
	asked   bool   // enter was pressed on an invalid field: show what is missing
	sending bool   // the order has been sent
	refusal string // why the daemon refused it
	undoes  string // what the order takes back; "": it is one of its own
}

// outcome is the effect of a key on a form.
type outcome struct {
	closed bool         // the user gave up
	order  *api.Command // to send; nil: none yet
}

// field is one line of a form.
type field struct {
	label string
	line  line
	cells int                     // of the line; 0: all available
	unit  string                  // after the line
	hint  string                  // what to type
	check func(text string) error // what is wrong with the text
}

const defaultExpiry = "15m"

// newForm returns the form for an order about a loop, filled in with the actor's name.
func newForm(kind actuators.OrderKind, l api.Loop, actor string) form {
	f := form{kind: kind, loop: l}
	if kind == actuators.Override && l.Mode != control.Enforce {
		f.blocked = fmt.Sprintf("%s: nothing is published, so an override would change nothing", l.Mode)
		return f
	}
	if kind == actuators.Override {
		f.fields = append(f.fields, field{
			label: valueField, cells: 10, unit: unitWords(l.Knob), hint: "expected: " + bounds(l),
			check: func(text string) error {
				_, err := parseValue(l, text)
				return err
			},
		})
	}
	f.fields = append(f.fields, field{label: reasonField, hint: "why, for the next person on call", check: words})
	if kind != actuators.Resume {
		f.fields = append(f.fields, field{
			label: expiryField, line: newLine(defaultExpiry), cells: 10, unit: "at most 7d",
			hint: "then the loop resumes by itself; 90s, 2h30m, 1d",
			check: func(text string) error {
				_, err := api.ParseExpiry(text)
				return err
			},
		})
	}
	f.fields = append(f.fields, field{
		label: actorField, line: newLine(actor), hint: "who orders it, for the audit", check: words,
	})
	if l.Mode == control.Enforce {
		f.fields = append(f.fields, field{
			label: confirmField, hint: "type " + name(l) + ": this loop affects its service", check: func(text string) error {
				if strings.TrimSpace(text) != strings.TrimSpace(name(l)) {
					return errors.New("type " + name(l))
				}
				return nil
			},
		})
	}
	f.focus = max(f.missing(), 0)
	return f
}

// The labels of the fields.
const (
	valueField   = "value"
	reasonField  = "reason"
	expiryField  = "lasts"
	actorField   = "as"
	confirmField = "confirm"
)

// fill puts text into a field that the form has, and the cursor on the first one that is not valid.
func (f *form) fill(label, text string) {
	for i := range f.fields {
		if f.fields[i].label == label {
			f.fields[i].line = newLine(text)
		}
	}
	f.focus = max(f.missing(), 0)
}

// missing is the index of the first invalid field; -1 if all are valid.
func (f form) missing() int {
	return slices.IndexFunc(f.fields, func(field field) bool { return field.check(field.line.text()) != nil })
}

// update applies a key to the form.
func (f form) update(k tea.KeyPressMsg) (form, outcome) {
	key := k.String()
	if key == "esc" {
		return f, outcome{closed: true}
	}
	if f.blocked != "" {
		return f, outcome{closed: key == "enter"}
	}
	if f.sending {
		return f, outcome{}
	}
	f.refusal = ""
	switch key {
	case "tab", "down":
		f.focus = (f.focus + 1) % len(f.fields)
	case "shift+tab", "up":
		f.focus = (f.focus + len(f.fields) - 1) % len(f.fields)
	case "enter":
		if i := f.missing(); i >= 0 {
			f.asked = f.asked || i == f.focus // moving on to the next field is not a mistake
			f.focus = i
			break
		}
		f.sending = true
		return f, outcome{order: f.command()}
	default:
		f = f.edit(func(l line) line { l, _ = l.update(k); return l })
	}
	return f, outcome{}
}

// paste puts pasted text into the field under the cursor.
func (f form) paste(text string) form {
	if f.sending || f.blocked != "" {
		return f
	}
	f.refusal = ""
	return f.edit(func(l line) line { return l.insert(strings.TrimRight(text, "\r\n")) })
}

func (f form) edit(change func(line) line) form {
	f.fields = slices.Clone(f.fields)
	f.fields[f.focus].line = change(f.fields[f.focus].line)
	return f
}

// refused is the form after the daemon refused the order: as typed, with the reason.
func (f form) refused(err error) form {
	text := err.Error()
	if a, ok := errors.AsType[*api.AnswerError](err); ok {
		text = join("; ", a.Message, a.Hint) // the header already shows the address
	}
	f.sending, f.refusal = false, Clean(text)
	return f
}

// follow updates the form to the current state of its loop, so that it shows the value in force.
func (f form) follow(loops []api.Loop) form {
	if i := slices.IndexFunc(loops, func(l api.Loop) bool { return name(l) == name(f.loop) }); i >= 0 {
		f.loop = loops[i]
	}
	return f
}

// command is the order, which must be complete.
func (f form) command() *api.Command {
	c := api.Command{Actor: strings.TrimSpace(f.typed(actorField)), Reason: strings.TrimSpace(f.typed(reasonField))}
	if f.kind != actuators.Resume {
		d, _ := api.ParseExpiry(f.typed(expiryField))
		c.ExpiresInSeconds = d.Seconds()
	}
	if f.kind == actuators.Override {
		v, _ := parseValue(f.loop, f.typed(valueField))
		c.Value = &v
	}
	return &c
}

// shell is the command that gives the same order.
func (f form) shell() string {
	words := []string{"governor", string(f.kind), name(f.loop)}
	if f.kind == actuators.Override {
		value := strings.TrimSpace(f.typed(valueField))
		if v, err := parseValue(f.loop, value); err == nil {
			value = strconv.FormatFloat(v, 'f', -1, 64)
		}
		words = append(words, cmp.Or(value, "VALUE"))
	}
	words = append(words, "--reason="+quoted(cmp.Or(strings.TrimSpace(f.typed(reasonField)), "TEXT")))
	if f.kind != actuators.Resume {
		words = append(words, "--expires="+quoted(strings.TrimSpace(f.typed(expiryField))))
	}
	if actor := strings.TrimSpace(f.typed(actorField)); actor != "" {
		words = append(words, "--actor="+quoted(actor))
	}
	return strings.Join(words, " ")
}

// quoted writes a word for a shell.
func quoted(word string) string {
	plain := func(r rune) bool {
		return r < 0x80 && (unicode.IsLetter(r) || unicode.IsDigit(r) || strings.ContainsRune("-_./:@%+,", r))
	}
	if word != "" && strings.IndexFunc(word, func(r rune) bool { return !plain(r) }) < 0 {
		return word
	}
	return "'" + strings.ReplaceAll(word, "'", `'\''`) + "'"
}

func (f form) typed(label string) string {
	for _, field := range f.fields {
		if field.label == label {
			return field.line.text()
		}
	}
	return ""
}

func words(text string) error {
	switch {
	case strings.TrimSpace(text) == "":
		return errors.New("required")
	case len(text) > actuators.MaxWords:
		return fmt.Errorf("%d bytes, at most %d", len(text), actuators.MaxWords)
	}
	return nil
}

// parseValue reads the value of an override in the knob's unit, in the screen's notation: 40, 1800 or 1800/s, 0.45.
func parseValue(l api.Loop, text string) (float64, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, errors.New("required, " + bounds(l))
	}
	if l.Knob == control.KnobRate {
		text = strings.TrimSpace(strings.TrimSuffix(text, "/s"))
	}
	v, err := strconv.ParseFloat(text, 64)
	switch {
	case err != nil && !errors.Is(err, strconv.ErrRange), math.IsNaN(v):
		return 0, errors.New("not a number")
	case v < l.Min || v > l.Max:
		return 0, errors.New("outside of " + bounds(l))
	case v <= 0 && l.Knob != control.KnobRetry:
		return 0, errors.New("must be more than 0")
	case l.Knob == control.KnobConcurrency && v != math.Trunc(v):
		return 0, errors.New("must be a whole number")
	}
	return v, nil
}

// unitWords is the unit of a knob's value.
func unitWords(k control.Knob) string {
	switch k {
	case control.KnobConcurrency:
		return "in flight per instance"
	case control.KnobRate:
		return "requests/s of the service"
	case control.KnobShed:
		return "occupancy from which to shed"
	case control.KnobRetry:
		return "retries per request"
	}
	return ""
}

const (
	formWidth  = 76 // at most: very long lines are hard to read
	labelCells = 11 // marker, label, gap
)

// render draws the form as a box in the middle of w×h cells, h lines in all. If there are few lines, the command
// and the space between the parts go first, then the explanation.
func (f form) render(w, h int) []string {
	inner := max(min(w, formWidth)-4, 1)
	head := f.explanation(inner)
	fields := f.lines(inner)
	foot := slices.Concat(f.same(inner), f.footer(inner, h-len(fields)-3))
	room := h - 2 - len(fields) - len(foot)
	if room < len(head) {
		foot = f.footer(inner, h-len(fields)-3)
		room = h - 2 - len(fields) - len(foot)
	}
	if room < len(head)+2 {
		fields, foot = slices.DeleteFunc(fields, blank), slices.DeleteFunc(foot, blank)
		room = h - 2 - len(fields) - len(foot)
	}
	head = head[:max(0, min(len(head), room))]
	if len(head) > 0 && room > len(head) {
		head = append(head, "")
	}

	title := fit.Clip(" "+verbs[f.kind]+" "+name(f.loop)+"  "+modeText(f.loop.Mode)+" ", inner)
	box := []string{"┌─" + bold.Render(title) + strings.Repeat("─", inner+1-fit.Width(title)) + "┐"}
	for _, line := range slices.Concat(head, fields, foot) {
		box = append(box, "│ "+fit.Left(line, inner)+" │")
	}
	box = append(box, "└"+strings.Repeat("─", inner+2)+"┘")

	margin := strings.Repeat(" ", max(0, (w-inner-4)/2))
	out := make([]string, max(0, (h-len(box))/2))
	for _, line := range box {
		out = append(out, fit.Clip(margin+line, w))
	}
	for len(out) < h {
		out = append(out, "")
	}
	return out[:max(h, 0)]
}

func blank(line string) bool { return line == "" }

var verbs = map[actuators.OrderKind]string{
	actuators.Freeze: "Freeze", actuators.Override: "Override", actuators.Resume: "Resume",
}

// explanation says what the order does, and what else the user should know about the loop.
func (f form) explanation(w int) []string {
	does := map[actuators.OrderKind]string{
		actuators.Freeze:   "Keeps the value in force, whatever the measurements.",
		actuators.Override: "Puts a value in force, whatever the measurements.",
		actuators.Resume:   "Ends the order: the loop decides again from its next tick.",
	}[f.kind]
	var lines []string
	if f.blocked == "" {
		lines = fit.WrapTo(does, w, 2)
	}
	for _, note := range f.notes() {
		for _, line := range fit.WrapTo(note, w, 3) {
			lines = append(lines, paint(warning, line))
		}
	}
	return lines
}

func (f form) notes() (notes []string) {
	l, o := f.loop, f.loop.Order
	if f.undoes != "" {
		notes = append(notes, f.undoes)
	}
	switch {
	case f.blocked != "":
		notes = append(notes, "! "+f.blocked)
	case l.Mode == control.Shadow && f.kind == actuators.Freeze:
		notes = append(notes, "! shadow: nothing is published; this freezes only what governor would do")
	case l.Mode == control.Shadow:
		notes = append(notes, "! shadow: nothing is published; this resumes only what governor would do")
	case l.Mode != control.Enforce:
		notes = append(notes, fmt.Sprintf("! %s: nothing is published; the order is recorded but changes nothing", l.Mode))
	}
	switch {
	case o != nil && o.ExpiresAt.IsZero():
		notes = append(notes, "! the kill switch holds every loop, whatever you order here; governor resume --all lifts it")
	case f.kind == actuators.Resume && o == nil && !byHand(l):
		notes = append(notes, "! nobody has frozen or overridden this loop: there is nothing to resume")
	case f.kind != actuators.Resume && o != nil:
		notes = append(notes, "! replaces "+standing(*o))
	}
	return notes
}

// byHand says whether a person has put the loop into its state.
func byHand(l api.Loop) bool {
	return l.Decision.State == control.Frozen || l.Decision.State == control.Override
}

// standing describes the order in force: what, by whom, and why.
func standing(o actuators.Order) string {
	return fmt.Sprintf("the %s by %s: %q", o.Kind, Clean(o.Actor), Clean(o.Reason))
}

// lines are the value and the fields. Below the field under the cursor is its hint, or what is wrong with it.
func (f form) lines(w int) []string {
	if f.blocked != "" {
		return nil
	}
	now := setTo(f.loop, float64(f.loop.Decision.Value))
	var out []string
	switch f.kind {
	case actuators.Freeze:
		out = append(out, fit.Left("  "+valueField, labelCells)+now+"  stays")
	case actuators.Resume:
		out = append(out, fit.Left("  "+valueField, labelCells)+now+"  until the loop moves it")
		if o := f.loop.Order; o != nil && !o.ExpiresAt.IsZero() {
			out = append(out, fit.Left("  ends", labelCells)+fit.Clip(standing(*o), w-labelCells))
		}
	}
	for i, field := range f.fields {
		problem := field.check(field.line.text())
		shown := problem != nil && f.shows(field)
		marker := "  "
		switch {
		case i == f.focus:
			marker = "> "
		case shown:
			marker = "! "
		}
		label := fit.Left(marker+field.label, labelCells)
		if i == f.focus {
			label = bold.Render(label)
		}
		if field.label == valueField {
			label += now + " -> "
		}
		cells := w - fit.Width(label)
		after := ""
		if field.cells > 0 {
			cells = min(field.cells, cells)
			after = "  " + field.unit
		}
		text := field.line.render(cells, i == f.focus && !f.sending)
		if i != f.focus && field.line.text() == "" {
			text = paint(dim, fit.Left("required", cells))
		}
		out = append(out, fit.Clip(label+text+paint(dim, after), w))
		if i != f.focus || f.refusal != "" {
			continue
		}
		below, tone := field.hint, dim
		if shown {
			below, tone = "! "+problem.Error(), alarm
		}
		for _, line := range hardWrap(below, w-labelCells, 4) { // a name may be long
			out = append(out, strings.Repeat(" ", labelCells)+paint(tone, line))
		}
	}
	return append(out, "")
}

// hardWrap breaks s into at most n lines of w cells. It breaks words that are longer than a line in the middle, not
// before.
func hardWrap(s string, w, n int) []string {
	lines := fit.WrapTo(s, w, n)
	if slices.ContainsFunc(strings.Fields(s), func(word string) bool { return fit.Width(word) > w }) {
		lines = strings.Split(ansi.Hardwrap(s, max(w, 1), false), "\n")
	}
	return lines[:min(n, len(lines))]
}

// shows reports whether to say that a field is invalid: not while it is still empty, nor while a name is being typed.
func (f form) shows(field field) bool {
	text := field.line.text()
	if field.label == confirmField && strings.HasPrefix(name(f.loop), text) {
		return f.asked
	}
	return f.asked || text != ""
}

// same is the command that gives the same order, in at most three lines.
func (f form) same(w int) (out []string) {
	if f.blocked != "" || f.sending {
		return nil
	}
	for i, line := range fit.WrapTo(f.shell(), w-4, 3) {
		lead := "or: "
		if i > 0 {
			lead = "    "
		}
		out = append(out, paint(dim, fit.Clip(lead+line, w)))
	}
	return append(out, "")
}

// footer shows the keys, and above them, in at most lines lines, why the daemon refused the order.
func (f form) footer(w, lines int) []string {
	if f.blocked != "" {
		return []string{paint(dim, "esc back")}
	}
	if f.sending {
		return []string{
			fit.Clip("~ asking the governor ...", w), paint(dim, fit.Clip("esc back, without waiting for the answer", w)),
		}
	}
	var out []string
	if f.refusal != "" {
		for _, line := range fit.WrapTo("! not recorded: "+f.refusal, w, max(lines, 1)) {
			out = append(out, paint(alarm, line))
		}
	}
	enter := "enter " + string(f.kind)
	if f.missing() >= 0 {
		enter = "enter next field"
	}
	return append(out, paint(dim, spread(w, "   ", enter, "up/down, tab move", "esc cancel", "ctrl+y copy")))
}
