// Package models holds the plants: deterministic event-queue models of services under load, with load shapes, telemetry
// delay and faults. It knows nothing of control or guard; whoever wires a loop around a plant hands it an Admitter.
package models

import "time"

// Request is one arrival at a simulated service.
type Request struct {
	ID          uint64
	Criticality int // 0 = critical, 1 = default, 2 = sheddable, 3 = background
	Arrived     time.Duration
}

// Outcome is how a request ended.
type Outcome int

// The outcomes.
const (
	OK       Outcome = iota // finished
	Failed                  // finished with an error
	TimedOut                // the client gave up before it finished
)

// Admitter decides about each arrival: it is the final control element in front of a plant. Instants are simulated time
// since the start of the run. A plant calls its Admitter from one goroutine.
type Admitter interface {
	Admit(now time.Duration, r Request) bool
	Done(now time.Duration, r Request, o Outcome)
}
