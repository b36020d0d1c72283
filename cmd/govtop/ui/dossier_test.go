package ui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestDossierGoesOnWithTheStream: fetched once, the dossier grows with new decisions, and drops what is older than an
// hour.
func TestDossierGoesOnWithTheStream(t *testing.T) {
	m := after(screen(120, 30, mixed()), press("down", "down")...)
	if m.file.of != "checkout/concurrency" || !m.file.busy {
		t.Fatalf("the loop under the cursor is not asked for: %q, %v", m.file.of, m.file.busy)
	}
	decide := func(seq uint64, ago time.Duration, value control.Number) {
		l := fixture.Loops()[4]
		l.Decision.At, l.Decision.Value = fixture.Now.Add(-ago), value
		m = after(m, heard(began, api.Event{Seq: seq, Loop: &l}))
	}
	decide(1001, -5*time.Second, 60) // before the answer, which was given without it
	m = after(m, told("checkout", control.KnobConcurrency))
	n := len(m.file.points)
	if last := m.file.points[n-1]; last.Value != 60 || m.file.entries[0].seq != 1001 {
		t.Errorf("what was decided while the answer was under way is lost: %v, %v", last, m.file.entries[0])
	}
	decide(1002, -10*time.Second, 60)
	if len(m.file.entries) != 3 {
		t.Errorf("%d entries: a decision that changes nothing counts", len(m.file.entries))
	}
	decide(1003, -15*time.Second, 61)
	if len(m.file.entries) != 4 {
		t.Errorf("%d entries: a value that moved does not count", len(m.file.entries))
	}
	var hours []api.Event
	for i := range 2000 {
		l := fixture.Loops()[4]
		l.Decision.At = fixture.Now.Add(time.Minute + time.Duration(i)*5*time.Second)
		l.Decision.Value = control.Number(50 + i%2)
		hours = append(hours, api.Event{Seq: uint64(2000 + i), Loop: &l})
	}
	m = after(m, heard(began, hours...))
	if len(m.file.points) > 721 || len(m.file.records) > logLength {
		t.Errorf("%d points, %d decisions: they grow for ever", len(m.file.points), len(m.file.records))
	}
	if oldest := m.file.points[0].At; m.file.points[len(m.file.points)-1].At.Sub(oldest) > memory {
		t.Errorf("the oldest point is of %v", oldest)
	}
}

// TestDossierIsOfTheLoopUnderTheCursor: while the cursor moves, one request is in flight; the next is for where it
// stops, and answers about other loops are not shown.
func TestDossierIsOfTheLoopUnderTheCursor(t *testing.T) {
	m := screen(120, 30, mixed())
	m = after(m, press("down", "down", "down", "down", "down")...)
	if m.file.of != "billing/concurrency" || !m.file.busy {
		t.Fatalf("asked for %q", m.file.of)
	}
	next, cmd := m.Update(told("report", control.KnobConcurrency)) // what was asked first
	m = next.(Model)
	if m.file.loaded || len(m.file.points) != 0 {
		t.Error("the past of another loop is shown")
	}
	if cmd == nil || !m.file.busy {
		t.Error("the loop under the cursor is not asked for after the answer about another")
	}
	m = after(m, told("billing", control.KnobConcurrency))
	if !m.file.loaded || len(m.file.points) == 0 {
		t.Error("the answer is not taken over")
	}
}

// TestDossierFailure: a failure shows, and the request is repeated after a while.
func TestDossierFailure(t *testing.T) {
	m := after(screen(120, 30, mixed()), toldMsg{of: "report/concurrency", at: began, err: errors.New("disk on fire")})
	if got := frame(m); !strings.Contains(got, "no history") {
		t.Errorf("the failure does not show:\n%s", got)
	}
	if m.file.busy {
		t.Error("it asks again at once")
	}
	if m = after(m, heard(began.Add(askAgain), api.Event{})); !m.file.busy {
		t.Error("it does not ask again")
	}
}

// TestOrdersAreAskedFor: when somebody else gives an order, the log is fetched again: only the audit says who it was.
func TestOrdersAreAskedFor(t *testing.T) {
	m := after(screen(120, 30, mixed()), append(press("down"), told("payments", control.KnobShed))...)
	if m.file.busy {
		t.Fatal("it asks though it knows")
	}
	l := fixture.Loops()[7]
	l.Order = &actuators.Order{Kind: actuators.Freeze, Actor: "ben", Reason: "INC-7"}
	if m = after(m, heard(began, api.Event{Seq: 1001, Loop: &l})); !m.file.busy {
		t.Error("the log is not asked for again")
	}
	same := l
	same.Order = &actuators.Order{Kind: actuators.Freeze, Actor: "ben", Reason: "INC-7"}
	m = after(m, told("payments", control.KnobShed), heard(began, api.Event{Seq: 1002, Loop: &same}))
	if m.file.busy {
		t.Error("the log is asked for again though nothing has changed")
	}
}

// TestSmallScreensAskLess: govtop does not fetch what it does not show.
func TestSmallScreensAskLess(t *testing.T) {
	m := screen(80, 24, mixed())
	if m.file.busy || m.log.busy {
		t.Error("the overview of a small terminal asks for the past of a loop")
	}
	if m = after(m, press("a")...); !m.log.busy || m.file.busy {
		t.Error("the decisions of all loops are not asked for")
	}
	if m = after(screen(80, 24, mixed()), press("enter")...); !m.file.busy || m.log.busy {
		t.Error("the past of show the loop in detail is not asked for")
	}
}

// TestDecisionsLeadToTheirLoop and back again.
func TestDecisionsLeadToTheirLoop(t *testing.T) {
	m := screen(80, 24, mixed())
	m = after(m, append(press("a"), told("", ""))...)
	e, ok := m.decisions.current()
	if !ok {
		t.Fatal("there is no entry")
	}
	if m = after(m, press("enter")...); m.screen() != onLoop || m.called() != e.loop {
		t.Errorf("enter on an entry about %s leads to %s", e.loop, m.called())
	}
	if m = after(m, press("esc")...); m.screen() != onDecisions {
		t.Error("esc does not lead back to the decisions")
	}
	if m = after(m, press("esc")...); m.screen() != onLoops {
		t.Error("esc does not lead back to the overview")
	}
	m = after(m, append(press("/", "z", "z", "enter", "a"), told("", ""))...)
	if m = after(m, press("enter")...); m.screen() != onDecisions || !strings.Contains(frame(m), "is not in the overview") {
		t.Errorf("enter leads to a loop that the filter hides:\n%s", frame(m))
	}
}

// TestEveryScreenIsLeftTheWayItWasEntered walks every path of three screens, and back.
func TestEveryScreenIsLeftTheWayItWasEntered(t *testing.T) {
	keys := []string{"enter", "a", "h", "?"}
	for i := range 64 {
		way := []string{keys[i%4], keys[i/4%4], keys[i/16]}
		m := after(screen(80, 24, mixed()), press(way...)...)
		for range len(m.above) {
			m = after(m, press("esc")...)
		}
		if m.screen() != onLoops {
			t.Errorf("%v, and back: %s", way, fmt.Sprint(m.above))
		}
	}
}

// TestARestartOfTheGovernorKeepsTheChart: what the screen has shown stays, though the governor remembers nothing of it.
func TestARestartOfTheGovernorKeepsTheChart(t *testing.T) {
	point := func(second int) api.Point { return api.Point{At: began.Add(time.Duration(second) * time.Second)} }
	record := func(seq uint64, second int) api.Record {
		return api.Record{Seq: seq, Decision: control.Decision{At: began.Add(time.Duration(second) * time.Second)}}
	}
	d := dossier{of: "checkout/concurrency", loaded: true}
	d.points = []api.Point{point(0), point(5), point(10), point(30)}
	d.records = []api.Record{record(7, 0), record(9, 10), record(100, 30)}
	d.told(toldMsg{
		of: d.of, points: []api.Point{point(20), point(25)}, records: []api.Record{record(98, 20), record(99, 25)},
	})
	var at []float64
	for _, p := range d.points {
		at = append(at, p.At.Sub(began).Seconds())
	}
	if want := []float64{0, 5, 10, 20, 25, 30}; !slices.Equal(at, want) {
		t.Errorf("the chart has points at %v s, want %v", at, want)
	}
	var seq []uint64
	for _, r := range d.records {
		seq = append(seq, r.Seq)
	}
	if want := []uint64{7, 9, 98, 99, 100}; !slices.Equal(seq, want) {
		t.Errorf("the log has the decisions %v, want %v", seq, want)
	}
	if d.told(toldMsg{of: d.of}); len(d.points) != 6 || len(d.records) != 5 {
		t.Error("a governor that knows nothing yet empties the chart")
	}
}
