// Package routes holds the end-to-end test of routes that have SLOs of their own: two routes of one service share its
// workers, one with an SLO of 300 ms and one with 10 s. A built governor, a real Prometheus and a real Consul steer each by
// itself. The same service with one SLO for both runs beside it, under the same load.
package routes
