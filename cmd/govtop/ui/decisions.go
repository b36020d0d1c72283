package ui

import (
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/internal/api"
)

// logEntry is one line of what happened: a decision of the governor, or an action of a person.
type logEntry struct {
	at     time.Time
	loop   string // service/knob; "": all loops
	glyph  string
	word   string
	tone   tone
	change string // "95->72"; "": nothing moved
	reason string
	facts  string // what else there is to know, for the selected entry
	person bool   // a person did it
	seq    uint64 // of a decision
}

// decisionsView is what the decisions screen shows.
type decisionsView struct {
	entries  []logEntry // newest first
	loop     string     // only this loop (and what was ordered of all loops); "": all
	selected int        // of the entries that are shown
	top      int        // first entry on the screen
	now      time.Time
	loaded   bool  // an answer has come
	err      error // why the last answer did not
	stale    bool
}

// move selects the entry delta further down, and scrolls so that a screen of w×h shows it.
func (v *decisionsView) move(delta, w, h int) {}

// entriesOf merges what the governor decided and what people did, newest first.
func entriesOf(records []api.Record, actions []actuators.Action) []logEntry { return nil }

// decisionsScreen draws the log into exactly h lines of at most w cells.
func decisionsScreen(v decisionsView, w, h int) []string { return fitted(nil, h) }

// decisionsPanel draws the newest entries into exactly h lines of at most w cells.
func decisionsPanel(entries []logEntry, w, h int, now time.Time) []string { return fitted(nil, h) }
