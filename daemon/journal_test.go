package daemon

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// TestJournalKeepsTheLastRecords compares the ring with a slice that drops nothing.
func TestJournalKeepsTheLastRecords(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		start := time.UnixMilli(1_800_000_000_000)
		j := NewJournal(start, rapid.IntRange(0, 2000).Draw(t, "decisions per hour"))
		services := []string{"a", "b"}
		var all []api.Record
		for range rapid.IntRange(0, 3*j.size).Draw(t, "records") {
			l := api.Loop{Service: services[len(all)%3%2], Knob: control.KnobConcurrency}
			l.Decision.Service = l.Service
			j.Append(entry{loop: l, notable: len(all)%5 == 0})
			r := api.Record{Decision: l.Decision}
			r.Seq = uint64(start.UnixMilli()) + uint64(len(all))
			all = append(all, r)
		}
		kept := all[max(0, len(all)-j.size):]

		since := uint64(rapid.Int64Range(start.UnixMilli()-3, start.UnixMilli()+int64(len(all))+3).Draw(t, "since"))
		service := rapid.SampledFrom([]string{"", "a", "b"}).Draw(t, "service")
		limit := rapid.IntRange(1, 2*j.size).Draw(t, "limit")
		got := j.Since(since, selection{service: service}, limit)

		var want []uint64
		ahead := since >= uint64(start.UnixMilli())+uint64(len(all))
		for _, r := range kept {
			if (ahead || r.Seq > since) && (service == "" || r.Decision.Service == service) && len(want) < limit {
				want = append(want, r.Seq)
			}
		}
		if len(got.Decisions) != len(want) {
			t.Fatalf("%d records, want %d", len(got.Decisions), len(want))
		}
		for i, r := range got.Decisions {
			if r.Seq != want[i] {
				t.Fatalf("record %d has seq %d, want %d", i, r.Seq, want[i])
			}
		}
		if n := len(want); n == limit && got.Next != want[n-1] {
			t.Fatalf("next %d after a full page that ends with %d", got.Next, want[n-1])
		}
		again := j.Since(got.Next, selection{service: service}, 1)
		if len(want) < limit && len(kept) > 0 && len(again.Decisions) != 0 {
			t.Fatalf("the cursor %d does not pass over what did not match", got.Next)
		}

		s := selection{service: service, notable: true}
		newest := j.Since(j.Newest(limit, s), s, limit).Decisions
		want = want[:0]
		for _, r := range kept {
			number := r.Seq - uint64(start.UnixMilli())
			if number%5 == 0 && (service == "" || r.Decision.Service == service) {
				want = append(want, r.Seq)
			}
		}
		want = want[max(0, len(want)-limit):]
		if !slices.EqualFunc(newest, want, func(r api.Record, seq uint64) bool { return r.Seq == seq }) {
			t.Fatalf("the newest are %+v, want %v", newest, want)
		}
	})
}

func TestCursorOfAnEarlierDaemonIsOlderThanEverything(t *testing.T) {
	before := NewJournal(time.UnixMilli(1_800_000_000_000), 100)
	for range 500 {
		before.Append(entry{})
	}
	cursor := before.Since(0, selection{}, 1000).Next
	after := NewJournal(time.UnixMilli(1_800_000_001_000), 100)
	after.Append(entry{})
	if n := len(after.Since(cursor, selection{}, 10).Decisions); n != 1 {
		t.Errorf("%d records after a restart, want the new one", n)
	}
}

func TestJournalSpansAnHour(t *testing.T) {
	g := newWorld("a", "b", "c").governor(t, control.Shadow)
	if size, hour := g.recorder.journal.size, 3*int(time.Hour/period); size < hour || size > 2*hour {
		t.Errorf("room for %d records, three loops make %d an hour", size, hour)
	}
}

func TestJournalKnowsHowLoopsStood(t *testing.T) {
	j := NewJournal(time.UnixMilli(1_800_000_000_000), 100)
	start := time.Unix(1_800_000_000, 0)
	for i := range 10 {
		for _, service := range []string{"b", "a"} {
			if service == "b" && i < 5 {
				continue // not configured yet
			}
			l := api.Loop{Service: service, Knob: control.KnobShed}
			l.Decision.At, l.Decision.Value = start.Add(time.Duration(i)*period), control.Number(i)
			j.Append(entry{loop: l})
		}
	}
	for at, want := range map[time.Duration][]string{
		-time.Second: {}, 0: {"a 0"}, 12 * time.Second: {"a 2"}, 25 * time.Second: {"a 5", "b 5"}, time.Hour: {"a 9", "b 9"},
	} {
		got := []string{}
		for _, l := range j.At(start.Add(at)) {
			got = append(got, fmt.Sprintf("%s %v", l.Service, float64(l.Decision.Value)))
		}
		if !slices.Equal(got, want) {
			t.Errorf("after %s: %v, want %v", at, got, want)
		}
	}
}
