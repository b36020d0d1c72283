// Package prom is as much of a Prometheus server as a demonstration in one process and the tests need: it scrapes
// targets over HTTP, keeps the last hour of samples in memory and answers the query API. The PromQL engine and the
// parser of the exposition formats are Prometheus's own; storage and scraping are small ones of this package that obey
// the same rules, because Prometheus's would link in every service discovery there is.
//
//	targets ──HTTP──► scraper ──► head (rings in memory) ──► engine ──► /api/v1/query …
//	          own grid   │ up, scrape_*, staleness markers
//
// Rules that are easy to get wrong, and that a differential test against the real server holds this one to:
//
//   - Each target has its own phase on a grid of the scrape interval, and a sample is stamped with the start of its
//     scrape, or with the grid's instant where that is at most 2 ms earlier.
//   - A series that a scrape no longer shows, or any series of a scrape that failed, gets a staleness marker; a sample
//     that brought its own timestamp does not. One whose target has been removed gets it two intervals later.
//   - A scrape is stored whole or not at all. One that cannot be parsed is up = 0.
//   - Labels of the target win: what the exporter says under the same name moves to exported_….
//
// Every answer carries the header X-Governor-Embedded. There is no rule evaluation, no remote read or write, no
// service discovery, no relabelling, no native histogram, no authentication; what is not here is answered with 404.
package prom
