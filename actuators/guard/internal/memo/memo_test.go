package memo_test

import (
	"sync"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard/internal/memo"
)

type key struct {
	name string
	n    int
}

// What several goroutines store at once is all there, and looking it up allocates nothing.
func TestMap(t *testing.T) {
	var m memo.Map[key, int]
	if v, ok := m.Load(key{"a", 1}); ok || v != 0 {
		t.Errorf("an empty map has %d", v)
	}
	const each = 50
	var all sync.WaitGroup
	for _, name := range []string{"a", "b", "c"} {
		all.Go(func() {
			for n := range each {
				m.Store(key{name, n}, n)
			}
		})
	}
	all.Wait()
	for _, name := range []string{"a", "b", "c"} {
		for n := range each {
			if v, ok := m.Load(key{name, n}); !ok || v != n {
				t.Errorf("%s %d: %d, %v", name, n, v, ok)
			}
		}
	}
	if n := testing.AllocsPerRun(100, func() { m.Load(key{"b", 7}) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
