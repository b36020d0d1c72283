// Package signals is the sensor of the loop: it asks Prometheus what each service did in the last window and returns
// one control.Measurement per service, with a reading for each instance.
//
// The package groups services that share a preset, scrape interval, window, period and objective. A group sends one
// query per tick, however many services it has: a union of small expressions, each marked with the label
// governor_signal, so that every number of the snapshot is evaluated at the same instant. A preset says where the
// numbers come from: guard reads the metrics of the guard library, http_histogram reads a histogram that a service
// already has, and user-supplied queries replace or complete either, signal by signal. A service with such queries
// forms a group of its own. Burn rates cover hours; their query has a pace of its own, and no tick waits for it.
//
//	                     one instant query, time = now
//	Group.Measure ──►  offered or admitted or … or timestamp(guard_limit)  ──►  one vector
//	                                                                              │ by signal, service, instance
//	[]Measurement  ◄── which instances are there, fresh, old enough to judge? ◄───┘
//
// The package does not guess. A value that is absent, NaN, infinite, duplicated, stale or too young becomes a missing
// control.Reading with a typed reason and a sentence for the operator, never a number. In particular:
//
//   - An instant query stamps every sample with the evaluation time, up to five minutes after the last scrape. The
//     package therefore asks for the age of an instance explicitly, by timestamp() of a raw series, and does not judge
//     an instance whose newest sample is older than 2·S + 1 s.
//   - The snapshot leaves out an instance that is no longer a target, even while its counters still echo in the
//     window. It keeps a target that cannot be scraped, as stale.
//   - An instance without samples in the previous window is starting: its counts cover only part of the window, and its
//     throughput would read too low. It is listed but, like any instance that is not judged, has no Age.
//   - Two fresh series for one instance (scraped by two jobs, read through two replicas) would double counts and
//     limit. The package refuses them and names the label in which they differ.
//
// Each query has one deadline, shorter than the period, and a group measures one tick at a time. Groups share only
// the HTTP client, so a slow group delays only its own services.
package signals
