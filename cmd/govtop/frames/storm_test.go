package frames

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/test/terminal"
)

// seeds are the seeds of the storms; GOVTOP_STORM_SEED names one to repeat.
func seeds(t *testing.T) []uint64 {
	if text := os.Getenv("GOVTOP_STORM_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return []uint64{seed}
	}
	first := uint64(time.Now().UnixNano())
	seeds := make([]uint64, 12)
	for i := range seeds {
		seeds[i] = first + uint64(i)
	}
	return seeds
}

// strayKeys move the cursor and open screens; escape and home undo their effects.
var strayKeys = []string{"j", "k", "G", "g", "?", "\r", "d", "h", "\x1b[6~", "\x1b[5~", "\x1b[A", "\x1b[B"}

// TestResizeStorm: after any sequence of sizes, from 1×1 to 300×100, and any keys in between, the final screen equals
// that of a govtop started at this size.
func TestResizeStorm(t *testing.T) {
	for _, seed := range seeds(t) {
		t.Run(fmt.Sprintf("GOVTOP_STORM_SEED=%d", seed), func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(seed, 0))
			any := func() size { return size{Width: 1 + random.IntN(300), Height: 1 + random.IntN(100)} }
			first, last := any(), size{Width: 60 + random.IntN(241), Height: 15 + random.IntN(86)}
			if random.IntN(4) == 0 {
				last = any() // too small, as a rule or not
			}
			fresh := show(t, fleet(nil), last, themes[0])
			fresh.Waits("the first frame", whole)
			fresh.Types("g")
			want := fresh.Settle(quiet)

			term := show(t, fleet(nil), first, themes[0])
			for range 40 {
				for range random.IntN(4) {
					term.Types(strayKeys[random.IntN(len(strayKeys))])
				}
				term.Resizes(any())
				if random.IntN(3) == 0 {
					term.Settle(time.Duration(random.IntN(120)) * time.Millisecond)
				}
			}
			term.Resizes(last)
			term.Types(strings.Repeat(escape, 4) + "g")
			if err := term.Within(10*time.Second, want.LooksLike); err != nil {
				got := term.Screen()
				t.Errorf("from %s to %s: the screen differs from that of a fresh start:\n%s%s", first, last,
					difference(got.String(), want.String()), difference(got.Styles(), want.Styles()))
			}
			term.Types("\x03")
			term.Ends(0)
		})
	}
}

// whole reports whether the screen shows the fleet, or says that it cannot.
func whole(s terminal.Screen) bool {
	return s.Shows("10 loops") || s.Size.Width < smallest.Width || s.Size.Height < smallest.Height
}
