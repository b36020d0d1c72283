package ui

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// form asks for what an order needs: the value, why, for how long, who, and for a loop that touches its service the
// loop's name. It holds what was typed until the order is recorded; it sends nothing itself.
type form struct {
	kind    actuators.OrderKind
	loop    api.Loop
	fields  []field
	focus   int
	asked   bool   // enter was pressed: what is missing shows
	sending bool   // the order is under way
	refusal string // why the daemon did not take it
}

// outcome is what a key has made of a form.
type outcome struct {
	closed bool         // the user gave up
	order  *api.Command // to send; nil: none yet
}

// field is one line of a form.
type field struct {
	label string
	line  line
	hint  string                  // what belongs here
	check func(text string) error // what is wrong with the text
}

const (
	defaultExpiry = "15m"
	maxWords      = 200 // bytes of a reason or an actor, as package actuators has it
)

// newForm returns the form for an order about a loop, begun with the actor's name.
func newForm(kind actuators.OrderKind, l api.Loop, actor string) form {
	f := form{kind: kind, loop: l}
	if kind == actuators.Override {
		f.fields = append(f.fields, field{
			label: "value", hint: bounds(l) + " " + unitWords(l.Knob), check: func(text string) error {
				_, err := parseValue(l, text)
				return err
			},
		})
	}
	f.fields = append(f.fields, field{label: "reason", hint: "why, for the next person on call", check: words})
	if kind != actuators.Resume {
		f.fields = append(f.fields, field{
			label: "lasts", line: newLine(defaultExpiry), hint: "then the loop goes on by itself: 90s, 15m, 2h30m, at most 7d",
			check: func(text string) error {
				_, err := parseExpiry(text)
				return err
			},
		})
	}
	f.fields = append(f.fields, field{label: "as", line: newLine(actor), hint: "who orders it, for the audit", check: words})
	if l.Mode == control.Enforce {
		f.fields = append(f.fields, field{
			label: "confirm", hint: "type " + name(l) + ": this loop touches its service", check: func(text string) error {
				if strings.TrimSpace(text) != name(l) {
					return errors.New("type " + name(l))
				}
				return nil
			},
		})
	}
	f.focus = max(f.missing(), 0)
	return f
}

// missing is the index of the first field that is not right, -1 if there is none.
func (f form) missing() int {
	return slices.IndexFunc(f.fields, func(field field) bool { return field.check(field.line.text()) != nil })
}

// update makes of the form what a key does to it.
func (f form) update(k tea.KeyPressMsg) (form, outcome) {
	key := k.String()
	if key == "esc" {
		return f, outcome{closed: true}
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
		f.asked = true
		if i := f.missing(); i >= 0 {
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

// paste puts text that was pasted into the field under the cursor.
func (f form) paste(text string) form {
	if f.sending {
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

// refused is the form after the order was sent and not taken: as it was typed, with the reason.
func (f form) refused(err error) form {
	f.sending, f.refusal = false, Clean(err.Error())
	return f
}

// command is the order, which must be complete.
func (f form) command() *api.Command {
	c := api.Command{Actor: strings.TrimSpace(f.typed("as")), Reason: strings.TrimSpace(f.typed("reason"))}
	if f.kind != actuators.Resume {
		d, _ := parseExpiry(f.typed("lasts"))
		c.ExpiresInSeconds = d.Seconds()
	}
	if f.kind == actuators.Override {
		c.Value, _ = parseValue(f.loop, f.typed("value"))
	}
	return &c
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
	case len(text) > maxWords:
		return fmt.Errorf("%d bytes, at most %d", len(text), maxWords)
	}
	return nil
}

// parseValue reads the value of an override in the knob's unit, as the screen writes it: 40, 1800 or 1800/s, 0.45.
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
	case v <= 0:
		return 0, errors.New("must be more than 0")
	case l.Knob == control.KnobConcurrency && v != math.Trunc(v):
		return 0, errors.New("must be a whole number")
	}
	return v, nil
}

// parseExpiry reads how long an order stands: a Go duration that may begin with days, as 1d or 1d12h.
func parseExpiry(text string) (time.Duration, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return 0, errors.New("required")
	}
	var whole time.Duration
	rest := text
	if days, after, found := strings.Cut(text, "d"); found {
		n, err := strconv.ParseUint(days, 10, 16)
		if err != nil {
			return 0, errNotADuration
		}
		whole, rest = time.Duration(n)*24*time.Hour, after
	}
	if rest != "" {
		d, err := time.ParseDuration(rest)
		if err != nil || d < 0 {
			return 0, errNotADuration
		}
		whole += d
	}
	switch {
	case whole <= 0:
		return 0, errors.New("must be more than 0")
	case whole > actuators.MaxOrder:
		return 0, errors.New("at most 7d")
	}
	return whole, nil
}

var errNotADuration = errors.New("not a duration like 90s, 15m, 2h30m or 1d")

// unitWords is the unit of a knob's value.
func unitWords(k control.Knob) string {
	switch k {
	case control.KnobConcurrency:
		return "requests in flight per instance"
	case control.KnobRate:
		return "requests per second of the service"
	case control.KnobShed:
		return "of the limit in flight, 0 to 1"
	case control.KnobRetry:
		return "retries per request"
	}
	return ""
}

// render draws the form as a box in the middle of w×h cells. Where lines are few, explanations leave before fields.
func (f form) render(w, h int) []string { return nil }
