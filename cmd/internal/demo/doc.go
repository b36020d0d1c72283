// Package demo shows governor at work on two services in one process. The twins have the same capacity, the same
// clients and the same arrivals. One has a limit that somebody once set by hand; the other is governed.
//
//	                ┌─► sidecar, limit 1024, fixed ────► plant        "static"
//	clients, seeded ┤
//	                └─► sidecar ◄── Consul ◄── governor ──► plant     "governed"
//	                       └─────► Prometheus ────┘ (two of them: one leads, one stands by)
//
// Nothing of governor is imitated. The sidecars and the governors are the commands `governor sidecar` and `governor
// run`, started in this process by their command lines. They find Prometheus and Consul over HTTP and do not know
// whether those are embedded or real. Only two things are simulated: the service (package models/live/plant), which
// sleeps instead of working, and its clients (package models/live/load), which give up after a second and try again.
//
// A World is everything that runs, with one method for each event that can happen to it. A player triggers the events
// over time, from a Story or from the keyboard. Twice a second the screen takes a Frame of the World and draws it;
// without a terminal there is no screen. Result is the scorecard of what was played.
package demo
