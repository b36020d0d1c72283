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

// tree is the table as it stands there, from top to bottom: one letter for the place of each row, and its name.
func tree(m Model) (rows []string) {
	for _, r := range m.overview.rows {
		rows = append(rows, string("-v>|'"[r.place])+m.overview.of.called(r))
	}
	return rows
}

// changedFamilies is families with a change of its data.
func changedFamilies(change func(loops map[string]*api.Loop)) heardMsg {
	loops, by := fixture.Routes().Loops, map[string]*api.Loop{}
	for i := range loops {
		by[name(loops[i])] = &loops[i]
	}
	change(by)
	return snapshot(fixture.Status(), loops)
}

// TestFamiliesInEveryOrder: a family stands where its first member would, the service before its routes.
func TestFamiliesInEveryOrder(t *testing.T) {
	for _, c := range []struct {
		keys []string
		want string
	}{
		{nil, "vcheckout/concurrency |checkout/rate |checkout/export/concurrency 'checkout/import/concurrency -payments/shed " +
			"vshop |shop/search/concurrency 'shop/feed/concurrency -billing/concurrency -auth/concurrency -cart/rate"},
		{[]string{"S"}, "-cart/rate -auth/concurrency -billing/concurrency vshop |shop/feed/concurrency " +
			"'shop/search/concurrency -payments/shed vcheckout/concurrency |checkout/rate |checkout/import/concurrency " +
			"'checkout/export/concurrency"},
		{[]string{"s"}, "-auth/concurrency -billing/concurrency -cart/rate vcheckout/concurrency |checkout/rate " +
			"|checkout/export/concurrency 'checkout/import/concurrency -payments/shed vshop |shop/feed/concurrency " +
			"'shop/search/concurrency"},
		{[]string{"z"}, ">checkout/concurrency -payments/shed >shop -billing/concurrency -auth/concurrency -cart/rate"},
		{[]string{"left"}, ">checkout/concurrency -payments/shed vshop |shop/search/concurrency 'shop/feed/concurrency " +
			"-billing/concurrency -auth/concurrency -cart/rate"},
		{[]string{"left", "z", "z"}, "vcheckout/concurrency |checkout/rate |checkout/export/concurrency " +
			"'checkout/import/concurrency -payments/shed vshop |shop/search/concurrency 'shop/feed/concurrency " +
			"-billing/concurrency -auth/concurrency -cart/rate"},
	} {
		m := after(screen(80, 24, families()), press(c.keys...)...)
		if got := strings.Join(tree(m), " "); got != c.want {
			t.Errorf("after %v:\n got %s\nwant %s", c.keys, got, c.want)
		}
	}
}

// TestFamiliesStayTogether: for any fleet, order and filter, each loop that the filter selects has one row, its family
// has one head, right above it and the others, the service comes before its routes, and families are sorted by the
// greatest of their ranks.
func TestFamiliesStayTogether(t *testing.T) {
	numbers := rapid.SampledFrom([]control.Number{none, 0, 0.2, 0.99, 1, 6.1, 14.9, 1e9})
	rapid.Check(t, func(t *rapid.T) {
		services := rapid.SliceOfDistinct(rapid.SampledFrom([]string{
			"a", "a/x", "a/y", "a-b", "a-b/x", "b/x", "b/y", "b/z", "c", "d", "d/x",
		}), func(s string) string { return s }).Draw(t, "services")
		slices.Sort(services)
		var s Snapshot
		for _, service := range services {
			for _, knob := range []control.Knob{"calls/e", control.KnobConcurrency, control.KnobShed} {
				if rapid.Bool().Draw(t, "has "+service+"/"+string(knob)) {
					l := fixture.Loops()[4]
					l.Service, l.Knob = service, knob
					if knob == "calls/e" {
						l.Callee = "e"
					}
					in := &l.Decision.Inputs
					in.Burn5m, in.BadRatio, in.RefusedShare = numbers.Draw(t, "burn"), numbers.Draw(t, "bad"), numbers.Draw(t, "refused")
					l.Decision.Measured, l.Decision.Value = numbers.Draw(t, "measured"), numbers.Draw(t, "value")
					l.Decision.State = rapid.SampledFrom(states).Draw(t, "state")
					s.Loops = append(s.Loops, l)
				}
			}
		}
		f := newFleet(s)
		filter, _ := ParseFilter(rapid.SampledFrom([]string{"", "x", "!x", "shed"}).Draw(t, "filter"))
		for _, by := range orders {
			for _, reverse := range []bool{false, true} {
				loops := arrange(f, by, reverse, filter)
				rows := grow(f, loops, func(string) bool { return false })
				checkTree(t, f, rows, filter)
				checkOrder(t, f, rows, by, reverse, filter)
			}
		}
	})
}

// checkTree checks the shape of the table.
func checkTree(t *rapid.T, f *fleet, rows []row, filter Filter) {
	count := map[int]int{}
	heads := map[int]bool{}
	for i, r := range rows {
		if r.loop >= 0 {
			count[r.loop]++
		}
		next := alone
		if i+1 < len(rows) {
			next = rows[i+1].place
		}
		switch r.place {
		case head:
			if heads[r.family] {
				t.Fatalf("%s has two heads", f.families[r.family].service)
			}
			heads[r.family] = true
		case twig, lastTwig:
			if rows[i-1].family != r.family {
				t.Fatalf("%s is not below its family", f.called(r))
			}
			if above := rows[i-1]; above.loop >= 0 && !strings.Contains(f.Loops[r.loop].Service, "/") &&
				strings.Contains(f.Loops[above.loop].Service, "/") {
				t.Fatalf("%s stands below a route", f.called(r))
			}
			if more := next == twig || next == lastTwig; more != (r.place == twig) {
				t.Fatalf("the tree does not end at its last line: %v", rows)
			}
		}
	}
	for i := range f.Loops {
		want := 0
		k := f.family(i)
		if filter.match(f.names[i], &f.Loops[i]) || k >= 0 && f.families[k].head == i && heads[k] {
			want = 1
		}
		if count[i] != want {
			t.Fatalf("%s has %d rows, want %d", f.names[i], count[i], want)
		}
	}
}

// checkOrder checks that families, and services without routes, are sorted by their greatest rank.
func checkOrder(t *rapid.T, f *fleet, rows []row, by order, reverse bool, filter Filter) {
	var greatest []rank
	for _, r := range rows {
		if r.place == alone || r.place == head {
			greatest = append(greatest, rank{none64(), none64(), none64()})
		}
		if l := r.loop; l >= 0 && filter.match(f.names[l], &f.Loops[l]) {
			if own := by.of(&f.Loops[l]); own.compare(greatest[len(greatest)-1]) > 0 {
				greatest[len(greatest)-1] = own
			}
		}
	}
	for i := range greatest[:max(len(greatest)-1, 0)] {
		if c := greatest[i].compare(greatest[i+1]); c < 0 && by.falling != reverse || c > 0 && by.falling == reverse {
			t.Fatalf("sorted by %s, reversed %v: %v above %v", by.name, reverse, greatest[i], greatest[i+1])
		}
	}
}

func none64() float64 { return float64(none) }

// TestFoldingHidesNoAlarm: whatever is red in a family is red in its folded line, whoever it is, and the state says whose
// it is.
func TestFoldingHidesNoAlarm(t *testing.T) {
	troubles := map[string]func(l *api.Loop){
		"BAD/SLO": func(l *api.Loop) { l.Decision.Inputs.BadRatio, l.Decision.Inputs.SlowRatio = 8, 0.08 },
		"REFUSED": func(l *api.Loop) { l.Decision.Inputs.RefusedShare = 0.5 },
		"STATE":   func(l *api.Loop) { l.Decision.State = control.Ineffective },
	}
	calm := fixture.Calm().Loops[4]
	for _, own := range []bool{true, false} {
		var services []string
		if own {
			services = append(services, "checkout")
		}
		services = append(services, "checkout/export", "checkout/import")
		for title, trouble := range troubles {
			for i := range services {
				var loops []api.Loop
				for j, service := range services {
					l := calm
					l.Service = service
					if j == i {
						trouble(&l)
					}
					loops = append(loops, l)
				}
				m := after(screen(80, 24, snapshot(fixture.Status(), loops)), press("z")...)
				o := &m.overview
				if len(o.rows) != 1 {
					t.Fatalf("%d rows, want one:\n%s", len(o.rows), frame(m))
				}
				for _, c := range columns {
					if c.tone == nil || c.worst == nil {
						continue
					}
					text, tone := o.cell(o.rows[0], c, fixture.Now)
					if (tone == alarm) != (c.title == title) {
						t.Errorf("%s of %v has %s: column %s reads %q, red: %v", services[i], services, title, c.title, text, tone == alarm)
					}
				}
				if _, route, ok := strings.Cut(services[i], "/"); ok && title == "STATE" && !strings.Contains(frame(m), "! INEFFECTIVE "+route[:2]) {
					t.Errorf("it does not say that it is %s:\n%s", route, frame(m))
				}
			}
		}
	}
}

// TestFoldedFamilyThatDecidesNothing: one loop that should have decided shows, and the line turns gray only when all are
// old.
func TestFoldedFamilyThatDecidesNothing(t *testing.T) {
	age := func(names ...string) heardMsg {
		return changedFamilies(func(loops map[string]*api.Loop) {
			for n, l := range loops {
				l.Decision.State = control.Steady
				if slices.Contains(names, n) {
					l.Decision.At = fixture.Now.Add(-90 * time.Second)
				}
			}
		})
	}
	m := after(screen(120, 30, age("shop/feed/concurrency")), press("s", "z")...)
	if got := frame(m); !strings.Contains(got, "= STEADY 1m old feed") {
		t.Errorf("it does not say that feed is old:\n%s", got)
	}
	row := func() row { return m.overview.rows[len(m.overview.rows)-1] }
	if m.overview.old(row(), fixture.Now) {
		t.Error("the whole family is gray")
	}
	m = after(m, age("shop/feed/concurrency", "shop/search/concurrency"))
	if !m.overview.old(row(), fixture.Now) {
		t.Error("nobody of the family decides, and it is not gray")
	}
}

// TestSelectionSurvivesFolding: the head stands for a folded loop, whatever comes, and unfolding returns to it.
func TestSelectionSurvivesFolding(t *testing.T) {
	m := after(screen(80, 24, families()), press("down", "down", "down")...)
	const chosen = "checkout/import/concurrency"
	if m.called() != chosen {
		t.Fatalf("the cursor is on %s", m.called())
	}
	m = after(m, press("left")...)
	if m.called() != "checkout/concurrency" || m.overview.rows[m.overview.index].place != folded {
		t.Fatalf("folded, the cursor is on %s", m.called())
	}
	was := m
	m = after(m, changedFamilies(func(loops map[string]*api.Loop) { loops["payments/shed"].Decision.Inputs.Burn5m = 500 }))
	if m.called() != "checkout/concurrency" || m.overview.index != 1 {
		t.Errorf("after an update the cursor is on %s, row %d", m.called(), m.overview.index)
	}
	if m = after(m, press("right")...); m.called() != chosen {
		t.Errorf("unfolded, the cursor is on %s", m.called())
	}
	if m = after(m, press("z", "z")...); m.called() != chosen {
		t.Errorf("after all were folded and unfolded, the cursor is on %s", m.called())
	}
	if got := frame(after(was, families())); !strings.Contains(got, "checkout +2") {
		t.Errorf("unfolding in one model has changed an earlier one:\n%s", got)
	}
	// A decision leads to its loop, folded or not.
	m = after(screen(80, 24, families()), press("z", "a")...)
	m = after(m, toldMsg{records: fixture.Routes().Decisions, at: began})
	i := slices.IndexFunc(m.decisions.entries, func(e logEntry) bool { return e.loop == chosen })
	m = after(m, press(append(slices.Repeat([]string{"down"}, i), "enter")...)...)
	if m.called() != chosen || m.screen() != onLoop {
		t.Errorf("enter on a decision of %s leads to %s", chosen, m.called())
	}
}

// TestFilterFindsRoutes: a route is found by its name, with its service above it, even if it was folded.
func TestFilterFindsRoutes(t *testing.T) {
	m := after(screen(80, 24, families()), press("z", "/", "i", "m", "p", "o", "r", "t", "enter")...)
	if got, want := strings.Join(tree(m), " "), "vcheckout/concurrency 'checkout/import/concurrency"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if got := frame(m); !strings.Contains(got, "filter:import  1/10") {
		t.Errorf("the head counts as found:\n%s", got)
	}
	for _, key := range []string{"left", "z"} {
		if got := frame(after(m, press(key)...)); !strings.Contains(got, "nothing is folded until esc") {
			t.Errorf("%s does not say why nothing is folded:\n%s", key, got)
		}
	}
	if m = after(m, press("esc")...); len(m.overview.rows) != 6 {
		t.Errorf("without the filter the families are not folded: %v", tree(m))
	}
	m = after(screen(80, 24, families()), press("/", "f", "e", "e", "d", "enter")...)
	if got, want := strings.Join(tree(m), " "), "vshop 'shop/feed/concurrency"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestServiceWithoutALoop: what needs a loop says that there is none.
func TestServiceWithoutALoop(t *testing.T) {
	m := after(screen(80, 24, families()), press("s", "G", "z")...)
	for _, key := range []string{"enter", "f", "y", "e", "right", "left", "a"} {
		got := frame(after(m, press(key)...))
		if (key == "enter" || key == "f") && !strings.Contains(got, "shop has no loop of its own: governor steers its 2 routes") {
			t.Errorf("%s:\n%s", key, got)
		}
	}
	if got := frame(after(screen(80, 24, mixed()), press("left")...)); !strings.Contains(got, "report has no routes to fold") {
		t.Errorf("a service without routes:\n%s", got)
	}
}

// TestTreeInASCII draws the tree with characters that every font has.
func TestTreeInASCII(t *testing.T) {
	m := New(t.Context(), nil, "http://127.0.0.1:9747", "0.3.0", Options{Graph: string(graphASCII)})
	m.width, m.height = 80, 24
	got := frame(after(m, tickMsg(began), families()))
	for _, want := range []string{"\n | export/con", "\n ` import/con"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not draw %q:\n%s", want, got)
		}
	}
}

// TestRoutesAreToldApart: in a table of 80 columns no two members of a family read the same, however long their names are.
func TestRoutesAreToldApart(t *testing.T) {
	var loops []api.Loop
	for _, service := range []string{"payments-gateway-europe", "payments-gateway-europe-canary"} {
		for i := -1; i < 12; i++ {
			for _, knob := range []control.Knob{control.KnobConcurrency, control.KnobShed} {
				l := fixture.Loops()[4]
				l.Service, l.Knob = service, knob
				if i >= 0 {
					l.Service += fmt.Sprintf("/reservations-by-customer-%d", i)
				}
				loops = append(loops, l)
			}
		}
	}
	for _, w := range []int{loopWidthLeast, loopWidthWanted, loopWidthMost} {
		f := newFleet(Snapshot{Loops: loops})
		seen := map[string]bool{}
		for i, short := range f.shortNames(w) {
			key := fmt.Sprint(f.familyOf[i], short)
			if seen[key] {
				t.Errorf("in %d cells %s reads like another: %q", w, f.names[i], short)
			}
			seen[key] = true
		}
	}
}

// TestEveryPolicyThatRefusesIsShown, under its name in the API.
func TestEveryPolicyThatRefusesIsShown(t *testing.T) {
	l := fixture.Loops()[4]
	l.Decision.Inputs.RefusedBy = control.RefusedBy{Concurrency: 0.11, Shed: 0.12, Rate: 0.13, Callee: 0.14}
	got := strings.Join(refusals(l)[0].lines(400, 1), "")
	for _, want := range []string{"11% by concurrency", "12% by shed", "13% by rate", "14% by callee"} {
		if !strings.Contains(got, want) {
			t.Errorf("it does not say %q: %s", want, got)
		}
	}
}
