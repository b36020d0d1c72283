// Package api is governor's HTTP interface seen from outside: the wire types of /api/v1 and a client for them. The
// daemon serves these types; govtop and the command line read them. The two sides share nothing else.
package api

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// Prefix is the path under which every resource of this version lives.
const Prefix = "/api/v1"

// Role is the role of a governor in the fleet.
type Role string

// The roles: one Leader writes. Every Standby measures and is ready to take over.
const (
	Leader  Role = "leader"
	Standby Role = "standby"
)

// Status answers GET /api/v1/status: the daemon and what it depends on.
type Status struct {
	Version    string     `json:"version"`
	Instance   string     `json:"instance"`
	Now        time.Time  `json:"now"`
	StartedAt  time.Time  `json:"started_at"`
	Role       Role       `json:"role"`
	Leader     LeaderInfo `json:"leader"`
	Prometheus Dependency `json:"prometheus"`
	Consul     Dependency `json:"consul"`
	Config     ConfigInfo `json:"config"`
	// ForeignLock is the session that holds the leader's lock and is no governor's: nobody can lead.
	ForeignLock *ForeignLock `json:"foreign_lock,omitempty"`
	// Loops counts the loops by state.
	Loops map[control.State]int `json:"loops"`
	// Freeze is the kill switch if somebody has pulled it: every loop is frozen.
	Freeze *actuators.Order `json:"freeze,omitempty"`
	// Warnings are problems in governor's surroundings that a person should fix.
	Warnings []string `json:"warnings,omitempty"`
}

// ForeignLock is a session in Consul.
type ForeignLock struct {
	Session string `json:"session"`
	Name    string `json:"name,omitempty"`
	Node    string `json:"node,omitempty"`
}

// LeaderInfo names the governor that holds the lock. It is empty if none does or if Consul cannot be reached. It is
// also the value of the key governor/leader.
type LeaderInfo struct {
	Instance string `json:"instance"`
	API      string `json:"api"`   // base URL of the leader's HTTP interface
	Epoch    uint64 `json:"epoch"` // of the Settings it writes
}

// Dependency is the last answer of a server that governor needs.
type Dependency struct {
	Address string         `json:"address"`
	OK      bool           `json:"ok"`
	Error   string         `json:"error,omitempty"`   // of the last failure, while not OK
	Latency control.Number `json:"latency_seconds"`   // of the last answer
	LastOK  *time.Time     `json:"last_ok,omitempty"` // nil: never
}

// ConfigInfo identifies the configuration in force.
type ConfigInfo struct {
	File     string    `json:"file"`
	Hash     string    `json:"hash"` // first 12 hex digits of the file's SHA-256
	LoadedAt time.Time `json:"loaded_at"`
	// Error says why the last reload changed nothing, with the position of every problem; "" if it succeeded.
	Error string `json:"error,omitempty"`
}

// Unit is what a number counts.
type Unit string

// The units.
const (
	Requests  Unit = "requests"            // in flight, per instance
	PerSecond Unit = "requests_per_second" // of the whole service
	Occupancy Unit = "occupancy"           // in flight ÷ limit, 0 to 1
	Seconds   Unit = "seconds"             // of mean latency of admitted requests, or of calls
	Share     Unit = "share"               // of the protected requests, refused: 0 to 1
	Retries   Unit = "retries_per_request" // of the calls to dependencies
)

// Loop is one knob of one service, or of one of its routes: an element of GET /api/v1/loops, and the answer of
// /api/v1/loops/{service}/{knob}.
type Loop struct {
	Service string       `json:"service"` // of a route: <service>/<route>
	Knob    control.Knob `json:"knob"`
	// Callee is the dependency whose calls the knob is for; "": it is for the service itself.
	Callee string       `json:"callee,omitempty"`
	Mode   control.Mode `json:"mode"`
	// Unit is the unit of the knob: of Min, Max and Fallback, and of the decision's From, Raw, Value and Ceiling.
	// MeasuredUnit is the unit of the decision's Setpoint and Measured.
	Unit         Unit    `json:"unit"`
	MeasuredUnit Unit    `json:"measured_unit"`
	Min          float64 `json:"min"`
	Max          float64 `json:"max"` // for the rate: off
	// Fallback is the value that readers drift to without a live lease.
	Fallback float64 `json:"fallback"`
	SLO      SLO     `json:"slo"`
	// Timing is the pace of the loop.
	Timing Timing `json:"timing"`
	// Protect is the least important class that shedding protects; for the knob shed only.
	Protect string `json:"protect,omitempty"`
	// Since is when the loop entered State.
	Since     time.Time        `json:"since"`
	Decision  control.Decision `json:"decision"`
	Published *Published       `json:"published,omitempty"` // nil: nothing in the KV
	// Missing is the capacity that would have carried what the service refused in the window; nil: nothing is refused, or
	// it is not known.
	Missing *Missing `json:"missing,omitempty"`
	// Order is the order in force for the loop: its own, or the kill switch. nil: the loop is automatic.
	Order *actuators.Order `json:"order,omitempty"`
}

// Missing is what a service lacks to carry all that it is offered.
type Missing struct {
	Capacity  float64 `json:"capacity"`  // as a share of what it has: 0.5 is half as much again; above 0
	Instances int     `json:"instances"` // the same in instances like those that it has, rounded up
}

// MissingOf derives the missing capacity from a decision's inputs. Of a share r of the requests that is refused, n
// instances carry 1-r; to carry all, n/(1-r) are needed, which is r/(1-r) more. It returns nil below one refusal in a
// thousand, and if everything is refused: then nothing shows what an instance carries.
func MissingOf(in control.Inputs) *Missing {
	r := float64(in.RefusedShare)
	if !in.RefusedShare.Known() || r < 0.001 || r >= 1 || in.Instances == 0 {
		return nil
	}
	more := r / (1 - r)
	return &Missing{Capacity: more, Instances: int(math.Ceil(more * float64(in.Instances)))}
}

// Overdue returns the age of the loop's decision at now, and whether a newer one is overdue. A loop decides every
// period, from a few seconds to a minute; its window is always longer than that.
func (l Loop) Overdue(now time.Time) (time.Duration, bool) {
	allowed := 15 * time.Second
	if w := l.Decision.Inputs.WindowSeconds; w.Known() {
		allowed = max(allowed, 2*time.Duration(float64(w)*float64(time.Second)))
	}
	old := now.Sub(l.Decision.At)
	return old, !l.Decision.At.IsZero() && old > allowed
}

// Timing is the pace of a loop, in seconds. All zero: not known.
type Timing struct {
	Scrape float64 `json:"scrape_interval_seconds"` // how often Prometheus scrapes the service
	Window float64 `json:"window_seconds"`
	Period float64 `json:"period_seconds"` // how often the loop decides
	// Learned says that governor found the scrape interval in the data, rather than in its configuration.
	Learned bool `json:"learned"`
}

// SLO is the service's objective.
type SLO struct {
	LatencySeconds float64 `json:"latency_seconds"`
	Objective      float64 `json:"objective"`
	Errors         float64 `json:"errors"`
}

// Published is the Setting in the KV.
type Published struct {
	Key       string    `json:"key"`
	Value     float64   `json:"value"`
	Epoch     uint64    `json:"epoch"`
	Revision  uint64    `json:"revision"`
	ChangedAt time.Time `json:"changed_at"`
	// Error says why the last write failed; "" if it succeeded.
	Error string `json:"error,omitempty"`
}

// Record is one entry of the journal.
type Record struct {
	Seq      uint64           `json:"seq"` // grows by one per entry, also across restarts; the cursor of ?since=
	Decision control.Decision `json:"decision"`
	// Wrote says that this tick wrote the Setting to the KV; WriteError says why it did not. The decision's own publish
	// field is what the law asks for: a loop that does not enforce asks again in every tick, because its value never comes
	// into force.
	Wrote      bool   `json:"wrote"`
	WriteError string `json:"write_error,omitempty"`
}

// Decisions answers GET /api/v1/decisions?since=SEQ&service=S&knob=K&limit=N: entries after SEQ, oldest first. last=N
// instead of limit selects the newest N that match. notable=true selects only entries with a new state or a moved
// value.
type Decisions struct {
	Decisions []Record `json:"decisions"`
	Next      uint64   `json:"next"` // the cursor to pass as since
}

// History answers GET /api/v1/history?since=&step=&service=&knob= and GET /api/v1/loops/{service}/{knob}/history: the
// past of the loops as far as the journal reaches back, small enough to draw.
type History struct {
	Loops []LoopHistory `json:"loops"` // sorted by service and knob
}

// LoopHistory is the past of one loop, oldest first.
type LoopHistory struct {
	Service string       `json:"service"`
	Knob    control.Knob `json:"knob"`
	Points  []Point      `json:"points"`
}

// Point is a summary of one decision. Its units are those of the Loop.
type Point struct {
	At       time.Time      `json:"at"`
	Value    control.Number `json:"value"`
	Setpoint control.Number `json:"setpoint"`
	Measured control.Number `json:"measured"`
	State    control.State  `json:"state"`
	BadRatio control.Number `json:"bad_ratio"` // multiple of the SLO's budget, as Inputs.BadRatio
}

// Event is one message of GET /api/v1/stream. Exactly one of the pointers is set, none in a heartbeat.
type Event struct {
	// Seq is the sequence number of the last decision sent, 0 if the message is not about a decision. To miss nothing, ask
	// for a stream after the highest one received.
	Seq      uint64
	Snapshot *Snapshot // first, and again after a reload
	Loop     *Loop     // one decision
	Status   *Status   // something about the daemon has changed
}

// The names of the events of the stream.
const (
	EventSnapshot = "snapshot"
	EventLoop     = "loop"
	EventStatus   = "status"
)

// Snapshot is everything that a screen needs.
type Snapshot struct {
	Status Status `json:"status"`
	Loops  []Loop `json:"loops"` // sorted by service and knob
	// Complete says that no decision since the client's cursor was left out; false if the client sent no cursor.
	Complete bool `json:"complete"`
}

// Heartbeat is the longest silence of the stream.
const Heartbeat = 2 * time.Second

// Command is the body of POST /api/v1/loops/{service}/{knob}/freeze|resume|override, and of POST /api/v1/freeze|resume,
// which pull and lift the kill switch. For authenticated requests the actor is the authenticated identity, and Actor is
// ignored.
type Command struct {
	Actor            string   `json:"actor"`
	Reason           string   `json:"reason"`
	ExpiresInSeconds float64  `json:"expires_in_seconds,omitempty"` // of a freeze or an override of one loop
	Value            *float64 `json:"value,omitempty"`              // of an override, which needs one
}

// Receipt answers a Command: what was recorded in the KV, and which governor will enforce it.
type Receipt struct {
	Action actuators.Action `json:"action"`
	Leader string           `json:"leader"` // the governor that enforces it from its next tick; "" if none does
	Note   string           `json:"note"`   // the same in words: "recorded, not enforced until a leader runs"
}

// NotEnforced is the note of an action while there is no leader to enforce it.
const NotEnforced = "recorded, not enforced until a leader runs"

// Audit answers GET /api/v1/audit?service=S&knob=K: the actions of people, oldest first, as far as the operator keys
// reach back.
type Audit struct {
	Actions []actuators.Action `json:"actions"`
}

// Error is the body of every answer that is not 2xx.
type Error struct {
	Error string `json:"error"`
	Hint  string `json:"hint,omitempty"`
}
