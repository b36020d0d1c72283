package ui

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

// happened is a quarter of an hour of the fixture: a decision of every loop every half minute, and the actions of
// people.
func happened() (records []api.Record, actions []actuators.Action) {
	for ago := 15 * time.Minute; ago >= 0; ago -= 30 * time.Second {
		for i, l := range fixture.Loops() {
			d := l.Decision
			d.At = fixture.Now.Add(-ago - time.Duration(10-i)*time.Second)
			r := api.Record{Seq: uint64(len(records) + 1), Decision: d, Wrote: d.From.Known()}
			if l.Service == "search" {
				r.Wrote, r.WriteError = false, "consul: 500 Internal Server Error: rpc error making call: No cluster leader"
			}
			records = append(records, r)
		}
	}
	return records, acted()
}

func acted() []actuators.Action {
	at := func(ago time.Duration) time.Time { return fixture.Now.Add(-ago) }
	return []actuators.Action{
		{
			Service: "feed", Knob: "concurrency", Kind: actuators.Freeze, Actor: "ana", Reason: "INC-1412",
			At: at(50 * time.Second), ExpiresAt: fixture.Now.Add(2 * time.Hour),
		},
		{
			Service: "ledger", Knob: "rate", Kind: actuators.Override, Value: 1800, Actor: "ben", Reason: "retry storm",
			At: at(40 * time.Second), ExpiresAt: at(-14 * time.Minute),
		},
		{Kind: actuators.Freeze, Actor: "ana", Reason: "all stop", At: at(35 * time.Second)},
		{Kind: actuators.Resume, Actor: "ana", Reason: "false alarm", At: at(8 * time.Second)},
		{
			Service: "feed", Knob: "concurrency", Kind: actuators.Resume, Actor: "governor", Reason: "expired: INC-1411",
			At: at(26 * time.Hour),
		},
	}
}

func TestDecisionScreens(t *testing.T) {
	records, actions := happened()
	entries := entriesOf(records, actions)
	for name, v := range map[string]decisionsView{
		"all":     {entries: entries, loaded: true},
		"loop":    {entries: entries, loaded: true, loop: "feed/concurrency"},
		"empty":   {loaded: true},
		"loading": {},
		"failed":  {err: errors.New("503 Service Unavailable")},
		"old":     {entries: entries, loaded: true, err: errors.New("503 Service Unavailable"), stale: true},
	} {
		v.now = fixture.Now
		for _, size := range [][2]int{{60, 11}, {80, 19}, {120, 25}} {
			t.Run(fmt.Sprintf("%s/%d×%d", name, size[0], size[1]), func(t *testing.T) {
				v := v
				v.move(5, size[0], size[1])
				got := bare(decisionsScreen(v, size[0], size[1]))
				golden.File(t, fmt.Sprintf("testdata/decisions-%s-%dx%d.txt", name, size[0], size[1]), got)
			})
		}
	}
	t.Run("panel", func(t *testing.T) {
		golden.File(t, "testdata/"+"decisions-panel.txt", bare(decisionsPanel(entries, 54, 12, fixture.Now)))
	})
}

func TestEntriesAreMerged(t *testing.T) {
	records, actions := happened()
	entries := entriesOf(append(records, records[40:80]...), append(actions, actions...))
	if want := len(records) + len(actions); len(entries) != want {
		t.Errorf("%d entries, want one for each of %d decisions and %d actions", len(entries), len(records), len(actions))
	}
	if !slices.IsSortedFunc(entries, func(a, b logEntry) int { return b.at.Compare(a.at) }) {
		t.Error("the newest does not come first")
	}
	for len(records) < 2*mostEntries {
		r := records[len(records)-1]
		r.Seq++
		r.Decision.At = r.Decision.At.Add(time.Second)
		records = append(records, r)
	}
	entries = entriesOf(records, nil)
	if len(entries) != mostEntries || entries[0].seq != records[len(records)-1].Seq {
		t.Errorf("of %d decisions %d are kept, the first is %d", len(records), len(entries), entries[0].seq)
	}
	if entriesOf(nil, nil) != nil {
		t.Error("there are entries of nothing")
	}
}

func TestEntriesTellWhatHappened(t *testing.T) {
	cut := fixture.Loops()[4].Decision
	cut.Reason = "cut 86->73: mean 148 ms > setpoint 112 ms"
	hold := fixture.Loops()[0].Decision
	hold.Reason = "hold 150: stale, the newest sample is 31s old"
	hold.Detail = ""
	for _, c := range []struct {
		entry                                  logEntry
		loop, glyph, word, change, why, reason string
	}{
		{
			decided(api.Record{Decision: cut}), "checkout/concurrency", "v", "CUTTING", "86->73",
			"mean 148 ms > setpoint 112 ms", "cut 86->73: mean 148 ms > setpoint 112 ms",
		},
		{
			decided(api.Record{Decision: hold}), "auth/concurrency", "~", "HOLD", "", "stale, the newest sample is 31s old",
			"hold 150: stale, the newest sample is 31s old",
		},
		{
			ordered(acted()[0]), "feed/concurrency", "*", "freeze", "", `by ana: "INC-1412", for 2h00m`,
			`by ana: "INC-1412", for 2h00m`,
		},
		{
			ordered(acted()[1]), "ledger/rate", "M", "override", "to 1800/s", `to 1800/s by ben: "retry storm", for 14m`,
			`to 1800/s by ben: "retry storm", for 14m`,
		},
		{
			ordered(acted()[2]), "", "*", "freeze", "", `by ana: "all stop", until someone lifts it`,
			`by ana: "all stop", until someone lifts it`,
		},
		{ordered(acted()[3]), "", "R", "resume", "", `by ana: "false alarm"`, `by ana: "false alarm"`},
	} {
		e := c.entry
		got := []string{e.loop, e.glyph, e.word, e.change, e.because(), e.reason}
		if want := []string{c.loop, c.glyph, c.word, c.change, c.why, c.reason}; !slices.Equal(got, want) {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	failed := decided(api.Record{Decision: cut, WriteError: "no cluster leader"})
	if failed.facts[0].text != "! not written: no cluster leader" {
		t.Errorf("a write that failed is told as %q", failed.facts[0].text)
	}
}

// TestSelectedEntryStays when newer entries arrive, and stays on the screen while the cursor moves; the newest stays
// the newest.
func TestSelectedEntryStays(t *testing.T) {
	records, actions := happened()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, len(records)-40).Draw(t, "decisions")
		v := decisionsView{entries: entriesOf(records[:n], actions), loaded: true, now: fixture.Now}
		v.loop = rapid.SampledFrom([]string{"", "feed/concurrency"}).Draw(t, "loop")
		w, h := rapid.IntRange(30, 200).Draw(t, "width"), rapid.IntRange(10, 60).Draw(t, "height")
		for range rapid.IntRange(0, 5).Draw(t, "moves") {
			v.move(rapid.IntRange(-300, 300).Draw(t, "delta"), w, h)
		}
		before, ok := v.current()
		more := rapid.IntRange(n, len(records)).Draw(t, "more")
		v.entries = entriesOf(records[:more], actions)
		after, _ := v.current()
		if v.chosen != (entryID{}) && before.id() != after.id() {
			t.Fatalf("the selection went from %v to %v", before.id(), after.id())
		}
		if v.chosen == (entryID{}) && ok && after.id() != v.shown()[0].id() {
			t.Fatalf("the newest is not selected: %v", after.id())
		}
		lines := decisionsScreen(v, w, h)
		exactly(t, lines, w, h)
		stamped := ">" + after.at.UTC().Format("15:04")
		if now := fixture.Now.Sub(after.at); now > 24*time.Hour {
			stamped = ">" + after.at.UTC().Format("02 Jan")
		}
		if !strings.Contains(bare(lines), stamped) {
			t.Fatalf("the selected entry %s is not on the screen:\n%s", stamped, bare(lines))
		}
	})
}

// TestLogOfALoop has the loop's decisions and orders and the orders for all loops, but nothing about other loops.
func TestLogOfALoop(t *testing.T) {
	records, actions := happened()
	v := decisionsView{entries: entriesOf(records, actions), loop: "ledger/rate"}
	loops := map[string]int{}
	for _, e := range v.shown() {
		loops[e.loop]++
	}
	if len(loops) != 2 || loops[""] != 2 || loops["ledger/rate"] != 32 {
		t.Errorf("the log of ledger/rate has %v", loops)
	}
	v.loop = "nothing/rate"
	v.entries = entriesOf(records, nil)
	v.move(3, 80, 20)
	if e, ok := v.current(); ok {
		t.Errorf("the log of a loop that does not exist has %v", e)
	}
}

func TestDecisionsFit(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.StringOfN(rapid.SampledFrom([]rune("ab -漢字e\u0301…%/")), 0, 200, -1)
		var records []api.Record
		var actions []actuators.Action
		for i := range rapid.IntRange(0, 10).Draw(t, "decisions") {
			records = append(records, api.Record{Seq: uint64(i), WriteError: words.Draw(t, "error"), Decision: control.Decision{
				Service: words.Draw(t, "service"), Knob: control.Knob(words.Draw(t, "knob")),
				State: control.State(words.Draw(t, "state")), Reason: words.Draw(t, "reason"), Bound: words.Draw(t, "bound"),
				At: fixture.Now.Add(time.Duration(rapid.Int64().Draw(t, "ago"))), From: none, Value: control.Number(i),
			}})
			actions = append(actions, actuators.Action{
				Service: words.Draw(t, "service"), Knob: words.Draw(t, "knob"),
				Kind: actuators.OrderKind(words.Draw(t, "kind")), Actor: words.Draw(t, "actor"), Reason: words.Draw(t, "why"),
			})
		}
		v := decisionsView{entries: entriesOf(records, actions), loaded: true, now: fixture.Now}
		w, h := rapid.IntRange(-1, 200).Draw(t, "width"), rapid.IntRange(-1, 60).Draw(t, "height")
		v.move(rapid.IntRange(0, 20).Draw(t, "delta"), w, h)
		exactly(t, decisionsScreen(v, w, h), max(w, 0), max(h, 0))
		exactly(t, decisionsPanel(v.entries, w, h, v.now), max(w, 0), max(h, 0))
	})
}
