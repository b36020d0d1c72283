package ui

import (
	"errors"
	"fmt"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"
	"github.com/charmbracelet/x/ansi"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/internal/fit"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

// loopOf returns a loop of the fixture.
func loopOf(t *testing.T, called string) api.Loop {
	t.Helper()
	for _, l := range fixture.Loops() {
		if name(l) == called {
			return l
		}
	}
	t.Fatalf("the fixture has no loop %s", called)
	return api.Loop{}
}

// formKey makes the message for a key, by its name, or for typed text.
func formKey(k string) tea.KeyPressMsg {
	special := map[string]tea.Key{
		"enter": {Code: tea.KeyEnter}, "esc": {Code: tea.KeyEscape}, "tab": {Code: tea.KeyTab},
		"shift+tab": {Code: tea.KeyTab, Mod: tea.ModShift}, "up": {Code: tea.KeyUp}, "down": {Code: tea.KeyDown},
		"left": {Code: tea.KeyLeft}, "right": {Code: tea.KeyRight}, "home": {Code: tea.KeyHome}, "end": {Code: tea.KeyEnd},
		"backspace": {Code: tea.KeyBackspace}, "delete": {Code: tea.KeyDelete}, "f1": {Code: tea.KeyF1},
		"ctrl+u": {Code: 'u', Mod: tea.ModCtrl}, "ctrl+k": {Code: 'k', Mod: tea.ModCtrl},
		"ctrl+a": {Code: 'a', Mod: tea.ModCtrl}, "ctrl+e": {Code: 'e', Mod: tea.ModCtrl},
	}
	if key, ok := special[k]; ok {
		return tea.KeyPressMsg(key)
	}
	return tea.KeyPressMsg{Text: k, Code: []rune(k)[0]}
}

// fill presses the named keys, and types everything else letter by letter.
func fill(f form, keys ...string) (form, outcome) {
	var o outcome
	for _, k := range keys {
		if m := formKey(k); m.Text == "" {
			f, o = f.update(m)
			continue
		}
		for _, r := range k {
			f, o = f.update(formKey(string(r)))
		}
	}
	return f, o
}

func TestFormOrders(t *testing.T) {
	const checkout = "checkout/concurrency"
	for _, c := range []struct {
		name string
		kind actuators.OrderKind
		loop string
		keys []string
		want *api.Command // nil: the form stays open
	}{
		{
			"freeze", actuators.Freeze, checkout,
			[]string{"INC-1412", "enter", checkout, "enter"},
			&api.Command{Actor: "ana", Reason: "INC-1412", ExpiresInSeconds: 900},
		},
		{
			"freeze for two days, as somebody else", actuators.Freeze, checkout,
			[]string{"INC-1412", "tab", "ctrl+u", "2d", "down", "ctrl+u", "ben", "down", checkout, "enter"},
			&api.Command{Actor: "ben", Reason: "INC-1412", ExpiresInSeconds: 2 * 24 * 3600},
		},
		{"freeze without the name", actuators.Freeze, checkout, []string{"INC-1412", "enter", "enter", "enter"}, nil},
		{"freeze with another name", actuators.Freeze, checkout, []string{"x", "enter", "search/concurrency", "enter"}, nil},
		{"freeze without a reason", actuators.Freeze, checkout, []string{"  ", "enter", "enter"}, nil},
		{
			"freeze without an actor", actuators.Freeze, checkout,
			[]string{"x", "down", "down", "ctrl+u", "down", checkout, "enter", "enter"},
			nil,
		},
		{
			"freeze for ever", actuators.Freeze, checkout,
			[]string{"x", "down", "ctrl+u", "8d", "down", "down", checkout, "enter"},
			nil,
		},
		{
			"freeze in shadow asks for no name", actuators.Freeze, "cart/rate",
			[]string{" quiet ", "enter"},
			&api.Command{Actor: "ana", Reason: "quiet", ExpiresInSeconds: 900},
		},
		{
			"override", actuators.Override, checkout,
			[]string{"40", "enter", "retry storm", "enter", checkout, "enter"},
			&api.Command{Actor: "ana", Reason: "retry storm", ExpiresInSeconds: 900, Value: new(40.0)},
		},
		{
			"override outside of the bounds", actuators.Override, checkout,
			[]string{"19", "tab", "x", "up", "up", checkout, "enter"},
			nil,
		},
		{"override in shadow", actuators.Override, "cart/rate", []string{"200", "tab", "x", "tab", "tab"}, nil},
		{
			"resume", actuators.Resume, "feed/concurrency",
			[]string{"over", "enter", "feed/concurrency", "enter"},
			&api.Command{Actor: "ana", Reason: "over"},
		},
		{
			"other keys do nothing", actuators.Resume, "cart/rate",
			[]string{"f1", "over", "f1", "enter"},
			&api.Command{Actor: "ana", Reason: "over"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, o := fill(newForm(c.kind, loopOf(t, c.loop), "ana"), c.keys...)
			if o.closed {
				t.Error("the form is closed")
			}
			switch {
			case c.want == nil && o.order != nil:
				t.Errorf("it orders %+v", *o.order)
			case c.want != nil && o.order == nil:
				t.Errorf("it does not order:\n%s", formFrame(f, 80, 24))
			case c.want != nil && !reflect.DeepEqual(o.order, c.want):
				t.Errorf("it orders %+v, want %+v", *o.order, *c.want)
			}
		})
	}
}

func TestFormMoves(t *testing.T) {
	f := newForm(actuators.Override, loopOf(t, "checkout/concurrency"), "ana")
	at := func(want string) {
		t.Helper()
		if got := f.fields[f.focus].label; got != want {
			t.Errorf("the cursor is at %s, want %s", got, want)
		}
	}
	at(valueField)
	for _, step := range []struct{ key, at string }{
		{"tab", reasonField},
		{"down", expiryField},
		{"down", actorField},
		{"tab", confirmField},
		{"tab", valueField},
		{"up", confirmField},
		{"shift+tab", actorField},
		{"enter", valueField},
		{"40", valueField},
		{"enter", reasonField},
	} {
		f, _ = fill(f, step.key)
		at(step.at)
	}
	if _, o := fill(f, "esc"); !o.closed || o.order != nil {
		t.Errorf("esc does not close the form: %+v", o)
	}
}

// The typed text survives a refusal by the daemon, and is not sent twice meanwhile.
func TestFormWaitsForTheAnswer(t *testing.T) {
	f, o := fill(newForm(actuators.Resume, loopOf(t, "cart/rate"), "ana"), "over", "enter")
	if o.order == nil || !f.sending {
		t.Fatal("the order is not sent")
	}
	if f, o = fill(f, "enter", "x"); o.order != nil || f.paste("y").typed(reasonField) != "over" {
		t.Error("a form that waits takes keys")
	}
	if _, o = fill(f, "esc"); !o.closed {
		t.Error("esc does not close a form that waits")
	}
	f = f.refused(errors.New("403 Forbidden:\x1b[2J nobody may"))
	if got := formFrame(f, 80, 24); !strings.Contains(got, "! not recorded: 403 Forbidden: nobody may") {
		t.Errorf("it does not say why:\n%s", got)
	}
	if f, o = fill(f, "!", "enter"); o.order == nil || o.order.Reason != "over!" || f.refusal != "" {
		t.Errorf("it cannot be sent again: %+v", o)
	}
}

// The loop moves while the form is open.
func TestFormFollowsItsLoop(t *testing.T) {
	loops := fixture.Loops()
	f, _ := fill(newForm(actuators.Override, loopOf(t, "checkout/concurrency"), "ana"), "40", "tab", "INC-1412")
	for i := range loops {
		if name(loops[i]) == "checkout/concurrency" {
			loops[i].Decision.Value = 55
		}
	}
	got := formFrame(f.follow(loops), 80, 19)
	if !strings.Contains(got, "55 -> 40") || !strings.Contains(got, "INC-1412") {
		t.Errorf("the form does not show the value in force:\n%s", got)
	}
	if got = formFrame(f.follow(nil), 80, 19); !strings.Contains(got, "73 -> 40") {
		t.Errorf("a form whose loop is gone:\n%s", got)
	}
}

func TestFormWithNothingToOrder(t *testing.T) {
	for _, end := range []string{"enter", "esc"} {
		f := newForm(actuators.Override, loopOf(t, "cart/rate"), "ana").paste("x")
		f, o := fill(f, "x", "tab", "up")
		if o.closed || len(f.fields) > 0 {
			t.Errorf("keys do something: %+v", o)
		}
		if _, o = fill(f, end); !o.closed || o.order != nil {
			t.Errorf("%s does not close it: %+v", end, o)
		}
	}
}

func TestFormTakesPastes(t *testing.T) {
	f := newForm(actuators.Freeze, loopOf(t, "cart/rate"), "ana")
	f = f.paste("\x1b[31mINC-1412\x1b[0m:\tqueue\x07 is\nlong\r\n")
	if got, want := f.typed(reasonField), "INC-1412: queue is long"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	f = f.paste(strings.Repeat("x", 1<<20))
	if got := len(f.typed(reasonField)); got != lineBytes {
		t.Errorf("the line holds %d bytes", got)
	}
	if f, o := fill(f, "enter"); o.order != nil || !strings.Contains(formFrame(f, 80, 24), "! 1000 bytes, at most 200") {
		t.Errorf("a long reason is not refused:\n%s", formFrame(f, 80, 24))
	}
}

func TestParseValue(t *testing.T) {
	loop := func(k control.Knob, low, high float64) api.Loop { return api.Loop{Knob: k, Min: low, Max: high} }
	concurrency, rate := loop(control.KnobConcurrency, 20, 400), loop(control.KnobRate, 100, 5000)
	shed, retry := loop(control.KnobShed, 0.4, 1), loop(control.KnobRetry, 0, 0.2)
	for _, c := range []struct {
		loop api.Loop
		text string
		want float64
		err  string
	}{
		{concurrency, "40", 40, ""},
		{concurrency, " 20 ", 20, ""},
		{concurrency, "400", 400, ""},
		{concurrency, "", 0, "required, 20..400"},
		{concurrency, "19", 0, "outside of 20..400"},
		{concurrency, "401", 0, "outside of 20..400"},
		{concurrency, "-40", 0, "outside of 20..400"},
		{concurrency, "40.5", 0, "must be a whole number"},
		{concurrency, "forty", 0, "not a number"},
		{concurrency, "NaN", 0, "not a number"},
		{concurrency, "inf", 0, "outside of 20..400"},
		{concurrency, "1e999", 0, "outside of 20..400"},
		{concurrency, "40/s", 0, "not a number"},
		{concurrency, "4 0", 0, "not a number"},
		{concurrency, "4e1", 40, ""},
		{rate, "1800", 1800, ""},
		{rate, "1800/s", 1800, ""},
		{rate, "1800.5 /s", 1800.5, ""},
		{rate, "/s", 0, "not a number"},
		{rate, "5001", 0, "outside of 100..5000/s"},
		{shed, "0.45", 0.45, ""},
		{shed, ".5", 0.5, ""},
		{shed, "1", 1, ""},
		{shed, "50%", 0, "not a number"},
		{shed, "0,5", 0, "not a number"},
		{retry, "0.1", 0.1, ""},
		{retry, "0", 0, ""},
		{retry, "-0.1", 0, "outside of 0.00..0.20"},
	} {
		got, err := parseValue(c.loop, c.text)
		if got != c.want || (err == nil) != (c.err == "") || err != nil && err.Error() != c.err {
			t.Errorf("%s %q: got %v, %v; want %v, %q", c.loop.Knob, c.text, got, err, c.want, c.err)
		}
	}
}

// TestFormGivesValidOrders: whatever is typed, the daemon accepts the form's order.
func TestFormGivesValidOrders(t *testing.T) {
	text := rapid.OneOf(rapid.String(), rapid.StringN(1, 120, 250),
		rapid.SampledFrom([]string{"40", "0.05", "1", "90s", "7d", "1d", "checkout/concurrency", "ledger/rate"}))
	orders := 0
	rapid.Check(t, func(t *rapid.T) {
		l := rapid.SampledFrom(fixture.Loops()).Draw(t, "loop")
		kind := rapid.SampledFrom([]actuators.OrderKind{actuators.Freeze, actuators.Override, actuators.Resume}).
			Draw(t, "kind")
		f := newForm(kind, l, text.Draw(t, "actor"))
		for range len(f.fields) {
			if f.fields[f.focus].label == confirmField {
				f, _ = fill(f, name(l))
			}
			f, _ = f.paste(text.Draw(t, "text")).update(formKey("tab"))
		}
		_, o := f.update(formKey("enter"))
		if o.order == nil {
			return
		}
		orders++
		now := fixture.Now
		a := actuators.Action{
			Service: l.Service, Knob: string(l.Knob), Kind: kind,
			Actor: o.order.Actor, Reason: o.order.Reason, At: now,
		}
		if kind == actuators.Override {
			a.Value = *o.order.Value
		}
		if kind != actuators.Resume {
			a.ExpiresAt = now.Add(time.Duration(o.order.ExpiresInSeconds * float64(time.Second)))
		}
		if err := a.Validate(); err != nil {
			t.Errorf("%+v: %v", a, err)
		}
		if kind == actuators.Override && (a.Value < l.Min || a.Value > l.Max || math.IsNaN(a.Value)) {
			t.Errorf("the value %v is outside of the bounds", a.Value)
		}
	})
	if orders == 0 {
		t.Error("nothing was ordered in any round")
	}
}

// formScenes are the states of a form that its golden frames show.
func formScenes(t *testing.T) map[string]form {
	about := func(kind actuators.OrderKind, loop string, keys ...string) form {
		f, _ := fill(newForm(kind, loopOf(t, loop), "ana"), keys...)
		return f
	}
	ordered := func(kind actuators.OrderKind, loop string, o actuators.Order, keys ...string) form {
		l := loopOf(t, loop)
		l.Order = &o
		f, _ := fill(newForm(kind, l, "ana"), keys...)
		return f
	}
	incident := actuators.Order{
		Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412", ExpiresAt: fixture.Now.Add(time.Hour),
	}
	pulled := actuators.Order{Kind: actuators.Freeze, Actor: "ben", Reason: "INC-1500"}
	long := loopOf(t, "search/concurrency")
	long.Service = strings.Repeat("search-", 18) + "ü"
	named, _ := fill(newForm(actuators.Freeze, long, "ana"), "x", "enter")
	sent := about(actuators.Override, "checkout/concurrency", "40", "enter", "x", "enter", "checkout/concurrency", "enter")
	return map[string]form{
		"freeze":           about(actuators.Freeze, "checkout/concurrency"),
		"freeze-missing":   about(actuators.Freeze, "checkout/concurrency", "enter"),
		"freeze-confirm":   about(actuators.Freeze, "checkout/concurrency", "INC-1412 日本 queue", "enter", "checkout/c"),
		"freeze-shadow":    about(actuators.Freeze, "cart/rate", "INC-1412"),
		"freeze-killed":    ordered(actuators.Freeze, "feed/concurrency", pulled),
		"freeze-long":      newForm(actuators.Freeze, long, "ana").paste(strings.Repeat("long ", 30)),
		"freeze-name":      named,
		"override":         about(actuators.Override, "checkout/concurrency"),
		"override-outside": about(actuators.Override, "checkout/concurrency", "4000"),
		"override-complete": about(actuators.Override, "payments/shed",
			"0.55", "enter", "INC-1412", "enter", "payments/shed"),
		"override-shadow": about(actuators.Override, "cart/rate"),
		"override-replaces": ordered(actuators.Override, "feed/concurrency", incident,
			"200", "tab", "x", "tab", "ctrl+u", "1y"),
		"override-sending": sent,
		"override-refused": sent.refused(&api.AnswerError{
			Method: "POST", URL: "http://127.0.0.1:9747/api/v1/loops/checkout/concurrency/override", Code: 403,
			Message: "write governor/services/checkout/operator: Permission denied: token with AccessorID " +
				"'00000000-0000-0000-0000-000000000002' lacks permission 'key:write'",
			Hint: "this governor's token may not write it: see docs/consul-acl.md",
		}),
		"resume":           ordered(actuators.Resume, "feed/concurrency", incident, "INC-1412 over"),
		"resume-automatic": about(actuators.Resume, "checkout/concurrency"),
		"resume-killed":    ordered(actuators.Resume, "feed/concurrency", pulled),
	}
}

func TestFormFrames(t *testing.T) {
	for scene, f := range formScenes(t) {
		for _, size := range [][2]int{{60, 15}, {80, 19}, {120, 25}} {
			name := fmt.Sprintf("form-%s-%dx%d", scene, size[0], size[1])
			t.Run(name, func(t *testing.T) { golden.File(t, "testdata/"+name+".txt", formFrame(f, size[0], size[1])) })
		}
	}
}

// formFrame returns the drawn form, with ▏ in front of the cursor's position.
func formFrame(f form, w, h int) string {
	var text strings.Builder
	for _, line := range f.render(w, h) {
		line = strings.ReplaceAll(line, "\x1b[7m", "▏")
		text.WriteString(strings.TrimRight(ansi.Strip(line), " ") + "\n")
	}
	return text.String()
}

// TestFormFits: on every screen size, a form fits and shows its fields, its problem and how to leave.
func TestFormFits(t *testing.T) {
	for scene, f := range formScenes(t) {
		for w := 60; w <= 124; w += 1 + w/70 {
			for h := 12; h <= 40; h += 1 + h/16 {
				lines := f.render(w, h)
				if len(lines) != h {
					t.Fatalf("%s at %dx%d: %d lines", scene, w, h, len(lines))
				}
				for _, line := range lines {
					if fit.Width(line) > w {
						t.Fatalf("%s at %dx%d: a line of %d cells: %s", scene, w, h, fit.Width(line), line)
					}
				}
				all := ansi.Strip(strings.Join(lines, "\n"))
				for _, field := range f.fields {
					if !strings.Contains(all, " "+field.label+" ") {
						t.Fatalf("%s at %dx%d: no field %s:\n%s", scene, w, h, field.label, all)
					}
				}
				if !strings.Contains(all, "esc") || !strings.Contains(all, "└") {
					t.Fatalf("%s at %dx%d: no way out:\n%s", scene, w, h, all)
				}
			}
		}
		for w := range 60 { // too small is said elsewhere; it must only not fail
			for h := range 15 {
				f.render(w, h)
			}
		}
	}
}
