// Package prometheus holds the tests of signals against the real Prometheus: what its increase, staleness markers,
// look-back and up really do is the ground the sensor stands on. An exporter that the tests control speaks the metrics
// of guard.
package prometheus
