// Package scenarios holds the situations that governor is judged by, one file each: what the service is, what happens to
// it and when, and how the run is divided into phases. A scenario does not say who controls the service, so that every
// contender faces exactly the same situation. index.yml is the table of contents.
//
// What a file leaves out is the rig:
//
//	slo: {latency: 300ms, objective: 99%}
//	limit: {start: 128, min: 8, max: 1024}    # requests in flight, for each instance
//	service:                                  # each instance
//	  servers: 32
//	  time: 40ms                              # mean on a server, so the capacity C is 800 requests/s
//	  law: exponential                        # deterministic, lognormal 1.5, pareto 1.8, bimodal 10% 5.5
//	  reject-cost: 200us                      # server time of a refusal
//	  instances: 1
//	  balancer: round robin                   # least in flight, random
//	load: 560                                 # requests/s, Poisson, open loop: 0.7 C
//	mix: {critical: 20%, default: 50%, sheddable: 30%}
//	clients: {timeout: 1s}                    # who gives up leaves the request behind
//	phases: [{calm: 300s}, {fault: 600s}, {after: 900s}]   # and when each is over
//
// More may be said of the service: dependency {delay, share} is a wait off the servers after the service, warm-up {for,
// slowdown} is how instances begin that come up during the run, and drops-abandoned: true spares the servers what clients
// have given up. Of clients: retries {times, wait}. limit.fixed lists the limits among which the best fixed one is
// looked for.
//
// routes replaces load and service.time where there are several kinds of request. A route has name, load, time, law and
// mix; hold is a time in flight off the servers, after the service or without one (time: 0s); deadline judges the route by
// itself, out of the totals; endless: true says that the service declares its requests as held open. tenants: 10 says that
// so many senders are told apart, and with skew: 1 the n-th of them sends in proportion to 1/n.
//
// services replaces service and load where several services call each other. Each has the keys of service but dependency,
// and name; limit, where it is not that of the file; unguarded: true for one that has no guard, whoever is in control; and
// calls, what each of its requests calls once a server is done with it. The steps of calls follow one another: the name of
// a service, or a list of names that are called at once. Every route says at which service it enters, and may have calls
// of its own instead of the service's:
//
//	services:
//	- {name: front, calls: [users, [stock, prices]], drops-abandoned: true}
//	- {name: users, servers: 16}
//	- {name: stock, instances: 4, limit: {start: 16, min: 2, max: 128}}
//	- {name: prices, unguarded: true}
//	routes:
//	- {name: read, load: 300, service: front}
//	- {name: write, load: 50, service: front, time: 60ms, calls: [stock, stock]}
//	calls: {timeout: 1s, retries: {times: 3, wait: 100ms}, direct: true}
//
// calls, for the whole file, says how services call: the timeout of an attempt (left out: that of the clients), the most
// retries and the most a caller waits before the first one, and direct: true where callers know the instances and may try
// another; otherwise these hide behind one address. The calls of clients have the keys of clients.
//
// script lists what happens. A step is in force from at until until (default: the end); with every and for it comes back,
// each time for so long. Later steps win over earlier ones. It says one or more of
//
//	times: 2                the load as a multiple of what the file says
//	load: 1120              the load in requests/s; with ramp: 60s it gets there in a straight line
//	surge: {sheddable: 12}  the arrivals of one criticality, as a multiple
//	sine: {low: 240, high: 1040, period: 1h}
//	route: batch            the load of this step is that of one route
//	servers, slowdown, dependency   the condition of the service, from the next request that starts
//	slower: 1.01            with every: slowdown by this factor, again and again
//	instance: 3             servers, slowdown and dependency of this step are those of one instance
//	add: 1, remove: 1       instances; with every: so many each time. The newest is removed first
//	service: stock          where there are several: whose condition or instances these are
//	away: refuses           connections to the service fail at once; silent: it never answers. What it has, it finishes
//	restart: 20s            with every: the next of the first instances goes, and a new one comes after this time
//	metrics: lost           Prometheus does not answer
package scenarios

import "embed"

// Files holds the scenarios and index.yml.
//
//go:embed *.yml
var Files embed.FS
