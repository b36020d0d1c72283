package ui

import (
	"fmt"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/daemon/api"
)

func TestMisfit(t *testing.T) {
	for _, c := range []struct {
		ours, theirs string
		warns        bool
	}{
		{"0.3.0", "0.3.0", false},
		{"0.3.0", "0.3.9", false},
		{"v0.3.1", "0.3.0-rc.1", false},
		{"0.3.0", "0.4.0", true},
		{"1.3.0", "0.3.0", true},
		{"devel", "0.3.0", false},
		{"0.3.0", "devel", false},
		{"0.3.0", "", false},
		{"0.10.0", "0.1.0", true},
		{"nonsense.x", "0.1.0", false},
	} {
		if got := misfit(c.ours, c.theirs); (got != "") != c.warns {
			t.Errorf("govtop %s and governor %s: %q", c.ours, c.theirs, got)
		}
	}
}

// TestTroublesLeaveRoomForLoops: however much is wrong, the header stays a header.
func TestTroublesLeaveRoomForLoops(t *testing.T) {
	for _, h := range []int{15, 24, 30, 60} {
		m := screen(80, h, changed(func(s *api.Snapshot) {
			for i := range 50 {
				long := strings.Repeat("far too long ", 30)
				s.Status.Warnings = append(s.Status.Warnings, fmt.Sprintf("warning %d: %s", i, long))
			}
		}))
		if n := len(m.top); n > 3+max(h/4, 2) {
			t.Errorf("a header of %d lines on a terminal of %d", n, h)
		}
		got := frame(m)
		if !strings.Contains(got, "more problems: h for health") || !strings.Contains(got, ">report") {
			t.Errorf("on %d lines:\n%s", h, got)
		}
	}
}
