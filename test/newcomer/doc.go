// Package newcomer replays a newcomer's first hour: it follows docs/first-hour.md on real programs and says how many
// minutes that takes. Files and command lines come from the page, and the Go service from docs/guard.md, so they cannot
// rot. The test changes only what it must: addresses and folders to free ones, and the scrape interval to a second.
//
//	checkout    a Go service in a module of its own, with guard          preset guard
//	edge.eu     Caddy ─► sidecar ─► a service, measured at Caddy         preset http_histogram
//	shop        HAProxy ─► a service; consul-template sets the limit     preset custom
//	prometheus  Prometheus's own histogram, which nobody limits          preset http_histogram
//
// Whatever a newcomer could not know from the pages is a stumble, and here a failure.
package newcomer
