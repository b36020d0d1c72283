package guard

import (
	"reflect"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// What requests write shares no cache line with anything else, wherever the allocator puts it: in each of these types, those
// fields are at least a line away from all others, and from both ends of the type.
func TestWhatRequestsWriteHasCacheLinesOfItsOwn(t *testing.T) {
	const lineSize = 64
	for _, c := range []struct {
		of      any
		written []string
	}{
		{gate{}, []string{"word"}},
		{bucket{}, []string{"perSecond", "burst", "interval", "slack", "kept", "tat"}}, // a bucket is read where it is written
		{failures{}, []string{"n"}},
		{refusals{}, []string{"byClass"}},
		{ticket{}, []string{
			"word", "work", "guard", "pool", "place", "shard", "arrival", "bare", "tenant", "since", "idle", "of",
		}},
		{tickets{}, []string{"next"}},
		{fair{}, []string{
			"mu", "demand", "used", "done", "seconds", "refused", "until", "at", "since", "calm", "usual", "part", "mix",
		}},
	} {
		typ := reflect.TypeOf(c.of)
		var found []string
		for f := range typ.Fields() {
			if !slices.Contains(c.written, f.Name) {
				continue
			}
			found = append(found, f.Name)
			begin, end := f.Offset, f.Offset+f.Type.Size()
			if begin < lineSize-8 || typ.Size()-end < lineSize-8 { // words are aligned to 8 bytes
				t.Errorf("%v.%s, bytes %d to %d of %d, shares a line with what is beside it", typ, f.Name, begin, end, typ.Size())
			}
			for other := range typ.Fields() {
				if other.Name == "_" || slices.Contains(c.written, other.Name) {
					continue
				}
				if other.Offset < end+lineSize-8 && begin < other.Offset+other.Type.Size()+lineSize-8 {
					t.Errorf("%v.%s and %s share a line", typ, f.Name, other.Name)
				}
			}
		}
		if len(found) != len(c.written) {
			t.Errorf("%v: found %v of %v", typ, found, c.written)
		}
	}
	shards := newLatency(time.Second).shards
	for i, shard := range shards {
		if after := cap(shard) - len(shard); after*8 < lineSize {
			t.Errorf("shard %d of the latencies ends %d words before its memory", i, after)
		}
		for _, other := range shards[:i] {
			begin, theirs := uintptr(unsafe.Pointer(&shard[0])), uintptr(unsafe.Pointer(&other[0]))
			if size := uintptr(8 * len(shard)); begin < theirs+size+lineSize && theirs < begin+size+lineSize {
				t.Errorf("the shards at %x and %x share a line", begin, theirs)
			}
		}
	}
}

// A ticket keeps everything that its request brings along, whatever the one before it did.
func TestTicketKeepsTheArrival(t *testing.T) {
	full := Arrival{Criticality: Sheddable, Key: "k", Route: "/r", Entry: "e", Rank: Rank{1, true, true, 2, 3}, Early: 4}
	arrivals := []Arrival{{Criticality: Default}, full, {Criticality: Background}}
	v := reflect.ValueOf(full)
	for i := range v.NumField() {
		one := reflect.New(v.Type()).Elem()
		if v.Field(i).IsZero() {
			t.Fatalf("the test does not know %s", v.Type().Field(i).Name)
		}
		one.Field(i).Set(v.Field(i))
		arrivals = append(arrivals, one.Interface().(Arrival), Arrival{Criticality: Critical})
	}
	ticket := ticket{bare: true}
	for _, a := range arrivals {
		if ticket.keep(&a); ticket.arrival != a {
			t.Errorf("kept %+v of %+v", ticket.arrival, a)
		}
	}
}
