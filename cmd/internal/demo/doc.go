// Package demo shows governor at work on two services in one process: twins with the same capacity, the same clients
// and the same arrivals, of which one lives with the limit that somebody once set by hand and the other is governed.
//
//	                ┌─► sidecar, limit 1024 for ever ──► plant        "static"
//	clients, seeded ┤
//	                └─► sidecar ◄── Consul ◄── governor ──► plant     "governed"
//	                       └─────► Prometheus ────┘ (two of them: one leads, one stands by)
//
// Nothing of governor is imitated. The sidecars and the governors are the commands `governor sidecar` and `governor
// run`, started in this process by their command lines; they find Prometheus and Consul over HTTP, and whether those
// are the embedded ones or real servers makes no difference to them. What is invented is the service itself (package
// models/live/plant), which sleeps instead of working, and its clients (package models/live/load), who give up after a
// second and try again.
//
// A World is everything that runs, with one method for each thing that can happen to it. A player makes them happen in
// time: a Story by itself, or what somebody at the keys wants. The screen looks at the World twice a second, for a Frame,
// and draws it; without a terminal nobody looks. Result is the scorecard of what was played.
package demo
