// Package signals is the sensor of the loop: it asks Prometheus what each service has done in the last window and
// returns one control.Measurement per service, instance by instance.
//
// The services are dealt into groups that share a preset, scrape interval, window, period and objective. A group asks
// one query a tick, whatever the number of its services: a union of small expressions, each marked with the label
// governor_signal, so that every number of the snapshot is evaluated at the same instant. A preset says where the
// numbers come from: guard reads the metrics of the guard library, http_histogram a histogram that a service already
// has, and queries of the user's own replace or complete either, signal by signal; a service that has such queries is a
// group of its own. Burn rates cover hours; their query has a pace of its own, and no tick waits for it.
//
//	                     one instant query, time = now
//	Group.Measure ──►  offered or admitted or … or timestamp(guard_limit)  ──►  one vector
//	                                                                              │ by signal, service, instance
//	[]Measurement  ◄── which instances are there, fresh, old enough to judge? ◄───┘
//
// The package refuses to guess. What is absent, NaN, infinite, duplicated, stale or too young becomes a missing
// control.Reading with a typed reason and a sentence for the operator; it never becomes a number. In particular:
//
//   - An instant query stamps every sample with the evaluation time, up to five minutes after the last scrape. So the
//     age of an instance is asked for on purpose, by timestamp() of a raw series, and an instance whose newest sample
//     is older than 2·S + 1 s is not judged.
//   - An instance that has left the targets, though its counters still echo in the window, is left out; one that is
//     still a target and cannot be scraped is in the snapshot, stale.
//   - An instance that was not there in the window before is starting: its counts cover part of the window only, and
//     its throughput would read too low. It is listed, and like any instance that is not judged it has no Age.
//   - Two fresh series for one instance (scraped by two jobs, read through two replicas) would double counts and
//     limit. They are refused, naming the label in which they differ.
//
// Each query has one deadline, shorter than the period, and a group has at most one query in flight. Groups share
// nothing but the HTTP client, so a slow one delays only its own services.
package signals
