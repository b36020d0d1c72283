package ui

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

func pasted(text string) tea.Msg { return tea.PasteMsg{Content: text} }

// boss is a source that takes orders.
type boss struct {
	Source
	orders []string
	err    error
}

func (b *boss) Order(
	_ context.Context, service string, knob control.Knob, kind actuators.OrderKind, c api.Command,
) (api.Receipt, error) {
	b.orders = append(b.orders, string(kind)+" "+service+"/"+string(knob)+" by "+c.Actor+": "+c.Reason)
	return api.Receipt{Leader: "gov-a"}, b.err
}

// freeze fills in the form for a freeze of checkout, and returns what enter leads to.
func freeze(t *testing.T, source Source) (Model, tea.Cmd) {
	t.Helper()
	m := screen(80, 24, mixed())
	m.source, m.options.Actor = source, "ana"
	m = after(m, press("down", "down", "f")...)
	m = after(m, append(append(press("I", "N", "C"), press("tab", "tab", "tab")...), pasted("checkout/concurrency"))...)
	next, cmd := m.Update(press("enter")[0])
	if cmd == nil {
		t.Fatalf("enter does not send the order:\n%s", frame(next.(Model)))
	}
	return next.(Model), cmd
}

func TestOrderIsSentAndTold(t *testing.T) {
	source := &boss{}
	m, cmd := freeze(t, source)
	m = after(m, cmd())
	if want := []string{"freeze checkout/concurrency by ana: INC"}; !slices.Equal(source.orders, want) {
		t.Errorf("ordered %v, want %v", source.orders, want)
	}
	if m.form != nil || !strings.Contains(frame(m), "freeze of checkout/concurrency: recorded; gov-a enforces it") {
		t.Errorf("the receipt does not show:\n%s", frame(m))
	}
	if got := frame(after(m, press("up")...)); strings.Contains(got, "recorded") {
		t.Errorf("the receipt outlives the next key:\n%s", got)
	}
	if !m.file.old || !m.log.old {
		t.Error("the log is not asked for again")
	}
}

// TestRefusedOrderStaysInItsForm with the typed text; if the form was left, a notice shows the refusal.
func TestRefusedOrderStaysInItsForm(t *testing.T) {
	source := &boss{err: errors.New("forbidden:\x1b[2J no token")}
	m, cmd := freeze(t, source)
	refused := cmd()
	if got := frame(after(m, refused)); !strings.Contains(got, "forbidden: no token") || !strings.Contains(got, "INC") {
		t.Errorf("the refusal is not in the form:\n%s", got)
	}
	left := after(m, press("esc")...)
	got := frame(after(left, refused))
	if !strings.Contains(got, "freeze of checkout/concurrency was not recorded: forbidden") {
		t.Errorf("the refusal does not show:\n%s", got)
	}
}

func TestReadOnlyHasNoKeysThatAct(t *testing.T) {
	m := New(context.Background(), nil, "", "0.3.0", Options{ReadOnly: true})
	m = after(m, tea.WindowSizeMsg{Width: 120, Height: 30}, tickMsg(began), mixed())
	if got := frame(m); !strings.Contains(got, "read-only") || strings.Contains(got, "freeze") {
		t.Errorf("the screen does not say that it only reads:\n%s", got)
	}
	for _, k := range []string{"f", "r", "o", "e"} {
		next, cmd := m.Update(press(k)[0])
		if cmd != nil || next.(Model).form != nil || frame(next.(Model)) != frame(m) {
			t.Errorf("key %s acts", k)
		}
	}
	if got := strings.Join(m.help(200), "\n"); strings.Contains(got, "override the loop") {
		t.Errorf("the help explains keys that are not there:\n%s", got)
	}
}

// TestExportIsOfTheScreen: an export has the data on the screen: in the past, the loops of that time.
func TestExportIsOfTheScreen(t *testing.T) {
	var document []byte
	save := func(_ string, content []byte) (string, error) { document = content; return "/tmp/x.json", nil }
	at := fixture.Now.Add(-10 * time.Minute)
	m := screen(120, 30, mixed())
	m.options.Save = save
	m = after(m, append(press("down", "down"), told("checkout", control.KnobConcurrency))...)
	m = after(m, append(press("["), thenAt(at))...)
	next, cmd := m.Update(press("e")[0])
	m = after(next.(Model), first(t, cmd))
	if !strings.Contains(frame(m), "Exported to /tmp/x.json") {
		t.Errorf("where the export went does not show:\n%s", frame(m))
	}
	var got Export
	if err := json.Unmarshal(document, &got); err != nil {
		t.Fatal(err)
	}
	if got.Past == nil || !got.Past.Equal(at) || len(got.Loops) != 10 || len(got.History) != 1 {
		t.Fatalf("past %v, %d loops, %d histories", got.Past, len(got.Loops), len(got.History))
	}
	for _, p := range got.History[0].Points {
		if p.At.After(at) || p.At.Before(at.Add(-5*time.Minute)) {
			t.Errorf("a point of %v in an export of the five minutes before %v", p.At, at)
		}
	}
	m = after(m, exportedMsg{err: errors.New("no space left")})
	if !strings.Contains(frame(m), "no space left") {
		t.Errorf("the failure does not show:\n%s", frame(m))
	}
}

// first is the first message that a command brings.
func first(t *testing.T, cmd tea.Cmd) tea.Msg {
	t.Helper()
	if cmd == nil {
		t.Fatal("there is no command")
	}
	msg := cmd()
	if batch, ok := msg.(tea.BatchMsg); ok {
		return first(t, batch[0])
	}
	return msg
}
