// Package prometheus tests package signals against the real Prometheus: the sensor relies on what its increase,
// staleness markers, look-back and up really do. An exporter that the tests control serves guard's metrics.
package prometheus
