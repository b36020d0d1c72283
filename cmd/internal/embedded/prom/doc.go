// Package prom is the part of a Prometheus server that a demonstration in one process and the tests need: it scrapes
// targets over HTTP, keeps the last hour of samples in memory and answers the query API. The PromQL engine and the
// parser of the exposition formats are Prometheus's own. Storage and scraping are small implementations in this package
// that follow the same rules, because Prometheus's own would link in every service discovery there is.
//
//	targets ──HTTP──► scraper ──► head (rings in memory) ──► engine ──► /api/v1/query …
//	          own grid   │ up, scrape_*, staleness markers
//
// A differential test against the real server checks these rules, which are easy to get wrong:
//
//   - Each target has its own phase on a grid of the scrape interval. A sample is stamped with the start of its scrape,
//     or with the grid's instant if that is at most 2 ms earlier.
//   - A series that is missing from a scrape, or any series of a failed scrape, gets a staleness marker; a sample with
//     its own timestamp does not. After a target is removed, its series get the marker two intervals later.
//   - A scrape is stored whole or not at all. One that cannot be parsed sets up to 0.
//   - Labels of the target win: the exporter's label of the same name moves to exported_….
//
// Every answer carries the header X-Governor-Embedded. There is no rule evaluation, no remote read or write, no service
// discovery, no relabeling, no native histogram and no authentication; requests for them get 404.
package prom
