package main

// guarded is a guard with everything in force: limit, rate and shed threshold, latency and all counters.
const guarded = "guard/limit+rate+shed"

// goal holds the ratio of two rows of the same rounds, row ÷ of in nanoseconds, to a bound.
type goal struct {
	says    string
	row, of string
	cores   []int
	atMost  float64
	atLeast float64 // with an atMost of 0
}

// Goals of guard's cost. A row of BenchmarkPeers and a line here are all that another goal takes.
var goals = []goal{
	{
		says: "limit, rate and shed cost at most 1.8 × two readings of the clock on one core",
		row:  guarded, of: "clock/two_time.Since", cores: []int{1}, atMost: 1.8,
	},
	{
		says: "… and 3.6 × on two that share the guard",
		row:  guarded, of: "clock/two_time.Since", cores: []int{2}, atMost: 3.6,
	},
	{
		says: "with a route, its share and the roof, at most 1.5 × as much",
		row:  guarded + "+route+roof", of: guarded, cores: []int{1, 2}, atMost: 1.5,
	},
	{
		says: "failsafe-go's adaptive limiter costs at least 2.5 × as much",
		row:  "failsafe/adaptive", of: guarded, cores: []int{1, 2}, atLeast: 2.5,
	},
	{
		says: "failsafe-go's rate limiter, breaker and adaptive limiter, composed, at least 8 × as much",
		row:  "failsafe/rate+breaker+adaptive", of: guarded, cores: []int{1, 2}, atLeast: 8,
	},
	{
		says: "a limit alone, the instants told, costs at most 1.5 × a semaphore",
		row:  "guard/limit,told_clock", of: "sync/semaphore", cores: []int{1, 2}, atMost: 1.5,
	},
	{
		says: "… and with the clock, the reflex and the latency",
		row:  "guard/limit", of: "sync/semaphore", cores: []int{1, 2}, atMost: 1.5,
	},
	{
		says: "a refusal by the limit costs at most 2 × adding to a contended atomic counter",
		row:  "guard/refuse_by_limit", of: "atomic/add", cores: []int{2}, atMost: 2,
	},
	{says: "… by the rate", row: "guard/refuse_by_rate", of: "atomic/add", cores: []int{2}, atMost: 2},
	{says: "… by the shed threshold", row: "guard/refuse_by_shed", of: "atomic/add", cores: []int{2}, atMost: 2},
	// Clearly less: by more than what two runs of the same row differ.
	{
		says: "over loopback a refusal of guardhttp costs at most 0.9 × an empty handler",
		row:  "http/loopback_refused", of: "http/loopback_empty", cores: []int{1, 2}, atMost: 0.9,
	},
	{
		says: "… an empty handler behind the guard",
		row:  "http/loopback_refused", of: "http/loopback_admitted", cores: []int{1, 2}, atMost: 0.9,
	},
	{
		says: "without a network, 0.9 × an empty handler behind the guard",
		row:  "http/serve_refused", of: "http/serve_admitted", cores: []int{1, 2}, atMost: 0.9,
	},
}

// noAllocations are the rows that must not allocate.
var noAllocations = []string{
	"guard/limit,told_clock", "guard/limit", guarded, guarded + "+key", guarded + "+route", guarded + "+route+roof",
	"guard/refuse_by_limit", "guard/refuse_by_rate", "guard/refuse_by_shed",
}
