// Package servers runs the real Consul, Prometheus and VictoriaMetrics as processes, for tests and for the demo on real
// servers. Nothing is mocked and nothing needs root, a container or a download outside the Go module proxy.
//
// In a test:
//
//	consul := servers.Consul(t)
//	prom := servers.Prometheus(t, servers.ScrapeInterval(time.Second), servers.Targets(servers.TargetGroup{
//		Targets: []string{"127.0.0.1:9100"},
//	}))
//	… consul.URL(), prom.URL() …
//	prom.Kill()    // as kill -9 does
//	prom.Restart() // same ports, same data
//
// Every server listens on loopback only, on ports that were free a moment before (if a start loses the race for a port,
// it is retried on others). It keeps its data in the test's temporary directory, and is stopped by its own process id
// when the test ends. If the test failed, the end of the server's log is printed. StartConsul and StartPrometheus do
// the same outside of tests, with a context and a log function.
//
// # Where the binaries come from
//
// The first of: the path in GOVERNOR_TEST_CONSUL, GOVERNOR_TEST_PROMETHEUS or GOVERNOR_TEST_VICTORIAMETRICS; a suitable
// server on PATH (Consul from 1.15, Prometheus from 3.0); a build cached in the user's cache directory; a build from the
// nested modules test/tools/consul, test/tools/prometheus and test/tools/victoriametrics, whose go.mod alone names the
// version. The build takes some minutes, once, which is more than a test's time limit should have to cover, so `make
// test` runs `go run ./test/servers/obtain` beforehand. Builds are serialized by a file lock: any number of test binaries may ask at once.
package servers
