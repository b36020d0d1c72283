package models

import (
	"math"
	"time"
)

// Call is one logical call: what a request of a service, or a client, wants from another service, however often it is
// tried.
type Call struct {
	// Slot is the call's place in the plant: small, dense and not reused until End. A Caller may use it as an index for
	// what it remembers about the call.
	Slot int
	// Request is the Slot of the request, in the service that calls, for which the call is made; -1: a client calls.
	Request int
	// Deadline is when the caller of that request gives up, as its headers say; Never: it waits as long as it takes.
	Deadline time.Duration
	// Marked says that the request came with the mark of a layer further out that tries again.
	Marked bool
	// Again says that the request came as a retry of somebody further out.
	Again    bool
	Attempts int // sent so far
	// Group is how many calls to the same service begin with this one, itself among them.
	Group int
}

// Never is an instant that does not come.
const Never time.Duration = math.MaxInt64

// Clearance is whether an attempt may be sent.
type Clearance int

// The clearances.
const (
	Clear     Clearance = iota
	Elsewhere           // not to this instance; another may do
	Barred              // to none
)

// Answer is what became of one attempt, or of a call.
type Answer struct {
	Outcome CallOutcome
	Advice  Advice
}

// Advice is what an answer tells its caller beside how it ended; the zero value says nothing.
type Advice struct {
	NoRetry    bool   // a try more is useless for now
	Background bool   // requests of the same entry are refused first here for now
	Threshold  uint64 // requests below this level would be refused; see guard.Threshold
}

// CallOutcome is how an attempt or a call ended.
type CallOutcome int

// The outcomes.
const (
	Answered    CallOutcome = iota
	Failure                 // the callee answered with an error of its own
	Refusal                 // the callee refused, or answered that a service behind it did
	Unreachable             // no instance took the connection
	Expired                 // there was no answer within the timeout
	Withheld                // the Caller did not send it
	Abandoned               // whoever asked for it has gone, which says nothing about the callee
)

// Caller is the way out of one instance of a service, or of all clients, to one other service. For every logical call,
// the plant calls Start; then, as long as Retry asks for it, Try and, if the attempt is sent, Done; and End, once. If
// whoever asked for the call goes away, End comes early, after the Done of an attempt that was under way.
//
//	Start → Try ─Clear→ Done → Retry ─Again, after Wait→ Try …
//	         └──Barred────────→ Retry ─else→ End
//
// Instants are simulated time since the start of the run. A plant calls from one goroutine, in order of time.
type Caller interface {
	// Start says whether the requests of the call carry the mark of a layer that tries again.
	Start(now time.Duration, c Call) (marks bool)
	// Try asks whether an attempt may be sent to an instance of the callee.
	Try(now time.Duration, c Call, instance int) Clearance
	Done(now time.Duration, c Call, instance int, a Answer)
	// Retry asks what follows after an attempt that was not Answered, or not sent. u is uniform in [0, 1).
	Retry(now time.Duration, c Call, u float64) Next
	End(now time.Duration, c Call, a Answer)
}

// Standing is what an attempt tells the callee of its request beyond its criticality; the zero value tells nothing.
type Standing struct {
	Ranked bool   // the request carries the rank that a guard further out has drawn
	Rank   uint32 // higher is more important
	Again  bool   // the callee has answered a call of this request already
	Group  int    // as in Call; 0: it does not say
	ID     uint32 // of the request, where there is a Group
	Entry  string // the API through which the root of the request entered; "": it does not say
	Early  uint32 // calls of the same entry that the caller has refused itself since its last call
}

// Steerer is a Caller that says where an attempt should go, and what it tells the callee. A Graph asks for the instance
// before Try, and for the Standing after it.
type Steerer interface {
	// Instance is the one to try first if it can be reached; -1: any.
	Instance(c Call) int
	Standing(c Call) Standing
}

// Next is what follows a failed attempt.
type Next struct {
	Again bool
	Wait  time.Duration // until the next attempt
	// Elsewhere says that the next attempt goes to another instance, if there is one.
	Elsewhere bool
}

// NaiveCaller sends everything and tries again whatever came back: up to Retries times, each after a wait drawn from 0
// to Wait·2ⁿ⁻¹ before the n-th (full jitter). It heeds no hint, no mark and no deadline.
type NaiveCaller struct {
	Retries int
	Wait    time.Duration
}

// Start implements Caller.
func (n NaiveCaller) Start(time.Duration, Call) bool { return false }

// Try implements Caller.
func (n NaiveCaller) Try(time.Duration, Call, int) Clearance { return Clear }

// Done implements Caller.
func (n NaiveCaller) Done(time.Duration, Call, int, Answer) {}

// Retry implements Caller.
func (n NaiveCaller) Retry(_ time.Duration, c Call, u float64) Next {
	if c.Attempts > n.Retries {
		return Next{}
	}
	return Next{Again: true, Wait: time.Duration(u * float64(n.Wait<<max(0, c.Attempts-1)))}
}

// End implements Caller.
func (n NaiveCaller) End(time.Duration, Call, Answer) {}
