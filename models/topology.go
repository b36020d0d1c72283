package models

import (
	"fmt"
	"time"
)

// GraphConfig describes a run of a Graph.
type GraphConfig struct {
	Services []Service
	Links    []Link
	Entries  []Entry
	// Mix is the share of arrivals by criticality where an Entry has none; it must sum to 1.
	Mix          [Classes]float64
	Seed         uint64
	LatencyEdges []time.Duration // as in Config
}

// Service is one service of a Graph.
type Service struct {
	Name       string
	Operations []Operation
	Stages     []Stage // of instances that have none
	Instances  []Instance
	Balancer   Balancer
	RejectCost time.Duration // server time that one refusal costs
	// DropsAbandoned says that the service learns when whoever asked has gone. Such a request leaves the queue unserved,
	// gives up the calls that it waits for, and ends when its server is done with it.
	DropsAbandoned bool
}

// Operation is one kind of request that a service answers: its time on a server, and then calls.
type Operation struct {
	Name        string
	ServiceTime time.Duration // mean, at Slowdown 1
	Law         Law
	// Steps follow one another; the calls of one step are made at once. The first call that fails ends the request.
	Steps [][]CallSpec
}

// CallSpec is a call of an Operation.
type CallSpec struct {
	Link      int // index in GraphConfig.Links
	Operation int // of the callee
}

// Clients is the From of a Link from outside.
const Clients = -1

// Link says how a service, or all clients, call another service.
type Link struct {
	From, To  int           // indices in GraphConfig.Services
	Timeout   time.Duration // of one attempt; 0: none
	Retries   int           // what a Caller may do at most
	RetryWait time.Duration // before the first retry, at most
	// Direct says that the caller knows the instances and may choose; otherwise they hide behind one address.
	Direct bool
}

// Entry is one kind of request that arrives from outside.
type Entry struct {
	Name string
	Load Load
	Mix  [Classes]float64 // the zero value: GraphConfig.Mix
	Call CallSpec
}

// check panics on what makes no sense.
func (cfg GraphConfig) check() {
	if len(cfg.Entries) == 0 {
		panic("models: a graph needs an Entry")
	}
	for _, l := range cfg.Links {
		if l.From < Clients || l.From >= len(cfg.Services) || l.To < 0 || l.To >= len(cfg.Services) || l.Retries < 0 {
			panic(fmt.Sprintf("models: Link %+v: From and To must be services, Retries not negative", l))
		}
	}
	for _, e := range cfg.Entries {
		cfg.checkCall("entry "+e.Name, Clients, e.Call)
	}
	for i, s := range cfg.Services {
		for _, op := range s.Operations {
			if op.ServiceTime <= 0 {
				panic(fmt.Sprintf("models: operation %s of %s needs a ServiceTime", op.Name, s.Name))
			}
			for _, step := range op.Steps {
				for _, c := range step {
					cfg.checkCall("operation "+op.Name+" of "+s.Name, i, c)
				}
				if len(step) == 0 {
					panic(fmt.Sprintf("models: operation %s of %s has a step without calls", op.Name, s.Name))
				}
			}
		}
	}
	cfg.checkCircles()
}

func (cfg GraphConfig) checkCall(of string, from int, c CallSpec) {
	if c.Link < 0 || c.Link >= len(cfg.Links) || cfg.Links[c.Link].From != from {
		panic(fmt.Sprintf("models: %s calls over link %d, which does not start there", of, c.Link))
	}
	if to := cfg.Services[cfg.Links[c.Link].To]; c.Operation < 0 || c.Operation >= len(to.Operations) {
		panic(fmt.Sprintf("models: %s calls operation %d of %s, which has %d", of, c.Operation, to.Name, len(to.Operations)))
	}
}

// checkCircles panics if an operation leads back to itself: its requests would never end.
func (cfg GraphConfig) checkCircles() {
	type node struct{ service, operation int }
	const open, closed = 1, 2
	state := map[node]int{}
	var walk func(n node)
	walk = func(n node) {
		if state[n] == closed {
			return
		}
		op := cfg.Services[n.service].Operations[n.operation]
		if state[n] == open {
			panic(fmt.Sprintf("models: operation %s of %s calls itself", op.Name, cfg.Services[n.service].Name))
		}
		state[n] = open
		for _, step := range op.Steps {
			for _, c := range step {
				walk(node{cfg.Links[c.Link].To, c.Operation})
			}
		}
		state[n] = closed
	}
	for i, s := range cfg.Services {
		for j := range s.Operations {
			walk(node{i, j})
		}
	}
}

// routes are the entries, for a source and a Score.
func (cfg GraphConfig) routes() (routes []Route) {
	for _, e := range cfg.Entries {
		routes = append(routes, Route{Name: e.Name, Load: e.Load, Mix: e.Mix, ServiceTime: 1})
	}
	return routesOf(Config{Routes: routes, Mix: cfg.Mix})
}
