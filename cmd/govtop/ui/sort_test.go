package ui

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// shown are the services on the screen, from top to bottom.
func shown(m Model) (services []string) {
	for _, row := range m.overview.rows {
		services = append(services, m.overview.of.Loops[row.loop].Service)
	}
	return services
}

func TestOrders(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want string
	}{
		{nil, "report payments checkout search batch billing auth ledger feed cart"},
		{[]string{"S"}, "cart feed ledger auth billing batch search checkout payments report"},
		{[]string{"S", "S"}, "report payments checkout search batch billing auth ledger feed cart"},
		{[]string{"s"}, "auth batch billing cart checkout feed ledger payments report search"},
		{[]string{"s", "S"}, "search report payments ledger feed checkout cart billing batch auth"},
		{[]string{"s", "s"}, "billing report payments batch auth ledger feed checkout search cart"},
		{[]string{"s", "s", "s"}, "payments checkout billing report feed search cart ledger batch auth"},
		{[]string{"s", "s", "s", "s"}, "cart ledger feed search auth checkout batch billing report payments"},
		{[]string{"s", "s", "s", "s", "S", "s"}, "report payments checkout search batch billing auth ledger feed cart"},
	} {
		m := after(screen(80, 24, mixed()), press(c.keys...)...)
		if got := strings.Join(shown(m), " "); got != c.want {
			t.Errorf("after %v:\n got %s\nwant %s", c.keys, got, c.want)
		}
	}
}

// TestOrderIsTotal: for any numbers, including unknown ones, sorting gives one order, and reversing gives its reverse.
func TestOrderIsTotal(t *testing.T) {
	numbers := rapid.SampledFrom([]control.Number{none, 0, 0.2, 0.99, 1, 1.01, 6.1, 6.14, 14.9, 1e9})
	rapid.Check(t, func(t *rapid.T) {
		var s Snapshot
		for i := range rapid.IntRange(0, 12).Draw(t, "loops") {
			l := fixture.Loops()[4]
			l.Service = fmt.Sprintf("service-%02d", i)
			in := &l.Decision.Inputs
			in.Burn5m, in.Burn1h = numbers.Draw(t, "burn 5m"), numbers.Draw(t, "burn 1h")
			in.BadRatio, l.Decision.Measured = numbers.Draw(t, "bad"), numbers.Draw(t, "measured")
			l.Decision.State = rapid.SampledFrom(append(slices.Clone(states), "brand_new")).Draw(t, "state")
			s.Loops = append(s.Loops, l)
		}
		f := newFleet(s)
		for _, o := range orders {
			rows := arrange(f, o, false, Filter{})
			backwards := arrange(f, o, true, Filter{})
			slices.Reverse(backwards)
			if !slices.Equal(rows, backwards) {
				t.Fatalf("%s: %v, and the other way round %v", o.name, rows, backwards)
			}
			for i := range rows[:max(len(rows)-1, 0)] {
				a, b := o.of(&s.Loops[rows[i]]), o.of(&s.Loops[rows[i+1]])
				if o.falling && a.compare(b) < 0 || a == b && rows[i] > rows[i+1] {
					t.Fatalf("%s: %v stands above %v", o.name, a, b)
				}
			}
		}
	})
}

// TestRowsDoNotJump: invisible changes move no row, and a row that moves takes the cursor along.
func TestRowsDoNotJump(t *testing.T) {
	m := after(screen(80, 24, mixed()), press("down", "down")...)
	was := shown(m)
	m = after(m, changed(func(s *api.Snapshot) {
		for i := range s.Loops {
			in := &s.Loops[i].Decision.Inputs
			if in.Burn5m < 1 {
				in.Burn5m = control.Number(0.1 * float64(i)) // within the budget
			} else {
				in.Burn5m *= 1.001
			}
		}
	}))
	if got := shown(m); !slices.Equal(got, was) {
		t.Errorf("rows moved for nothing: from %v to %v", was, got)
	}
	m = after(m, changed(func(s *api.Snapshot) { s.Loops[4].Decision.Inputs.Burn5m = 99 }))
	if got := shown(m); got[0] != "checkout" || m.called() != "checkout/concurrency" || m.overview.index != 0 {
		t.Errorf("%v, and the cursor is on row %d, %s", got, m.overview.index, m.called())
	}
}

// TestSortAndFilterSurvive a snapshot, which comes with a reload and with a new connection.
func TestSortAndFilterSurvive(t *testing.T) {
	m := after(screen(80, 24, mixed()), press("s", "/", "e", "n", "f", "o", "r", "c", "e", "enter", "down")...)
	want, called := shown(m), m.called()
	m = after(m, failure(began), tickMsg(began.Add(time.Second)), mixed())
	if got := shown(m); !slices.Equal(got, want) || m.called() != called {
		t.Errorf("%v with %s, want %v with %s", got, m.called(), want, called)
	}
	if !strings.Contains(frame(m), "sort:name ^  filter:enforce  9/10") {
		t.Errorf("the title does not say what is shown:\n%s", frame(m))
	}
}

func TestFilter(t *testing.T) {
	type want struct{ text, services string }
	const all = "auth batch billing cart checkout feed ledger payments report search"
	for _, c := range []want{
		{"", all},
		{"PAY", "payments"},
		{"^(cart|feed)/", "cart feed"},
		{"shadow", "cart"},
		{"hold", "auth"},
		{"at min", "payments"},
		{"/concurrency", "auth batch billing checkout feed report search"},
		{"!/concurrency", "cart ledger payments"},
		{"!", all},
		{"a.*zz", ""},
	} {
		f, err := ParseFilter(c.text)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, l := range fixture.Loops() {
			if f.Match(l) {
				got = append(got, l.Service)
			}
		}
		if strings.Join(got, " ") != c.services {
			t.Errorf("filter %q chooses %v, want %s", c.text, got, c.services)
		}
	}
	for text, want := range map[string]string{"(": `missing closing ): "("`, "!a**": "invalid nested repetition operator"} {
		if _, err := ParseFilter(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("filter %q: %v, want %s", text, err, want)
		}
	}
}

// TestFilterWhileTyping: every letter applies at once, a mistake keeps the last valid filter, esc clears.
func TestFilterWhileTyping(t *testing.T) {
	m := screen(80, 24, mixed())
	for _, c := range []struct {
		key  string
		rows int
		says string
	}{
		{"/", 10, "filter:"},
		{"a", 7, "7/10"},
		{"u", 1, "1/10"},
		{"t", 1, "filter:aut"},
		{"(", 1, "missing closing )"},
		{"h", 1, "missing closing )"},
		{")", 1, "filter:aut(h)"},
		{"backspace", 1, "missing closing )"},
		{"enter", 1, "filter:aut"},
		{"/", 1, "filter:aut"},
		{"q", 0, "no loop matches"},
		{"esc", 10, "filter:none"},
		{"/", 10, ""},
		{"!", 10, ""},
		{"/", 0, ""},
		{"enter", 0, "filter:!/"},
		{"esc", 10, "filter:none"},
	} {
		m = after(m, press(c.key)...)
		if got := frame(m); len(m.overview.rows) != c.rows || !strings.Contains(got, c.says) {
			t.Fatalf("after %q %d loops, want %d and %q:\n%s", c.key, len(m.overview.rows), c.rows, c.says, got)
		}
	}
}

// TestPasteIsText: pasted text goes into the line being typed, and is never a sequence of commands.
func TestPasteIsText(t *testing.T) {
	was := screen(80, 24, mixed())
	m := after(was, pasted("qsf?"))
	if frame(m) != frame(was) {
		t.Errorf("pasting onto the overview changes it:\n%s", frame(m))
	}
	m = after(m, append(press("/"), pasted("pay\x1b[2Jments\n"))...)
	if got := shown(m); !slices.Equal(got, []string{"payments"}) {
		t.Errorf("pasting into the filter leaves %v:\n%s", got, frame(m))
	}
}
