package ui

import (
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// linkView is how govtop itself stands to the governor that it asks.
type linkView struct {
	address, version string // of the governor asked, and of this govtop
	word             string // "LIVE", "STALE 13s, retry in 4s"
	tone             tone
	err              error // why the last connection ended; nil: it stands
}

// healthView is what the health screen shows.
type healthView struct {
	status api.Status
	loops  []api.Loop
	link   linkView
	top    int // first line on the screen
	stale  bool
}

// most is the highest top of a screen of w×h.
func (v healthView) most(w, h int) int { return 0 }

// healthScreen draws the governor and what it depends on into exactly h lines of at most w cells.
func healthScreen(v healthView, w, h int) []string { return fitted(nil, h) }
