package servers

import (
	"context"
	"fmt"
	"os"
	"testing"
)

// TestConsul is a Consul that belongs to a test.
type TestConsul struct {
	*ConsulServer
	t testing.TB
}

// Consul starts a Consul for the test t and stops it when t ends. It fails the test if that is impossible.
func Consul(t testing.TB, opts ...Option) *TestConsul {
	t.Helper()
	dir := t.TempDir()
	c, err := StartConsul(t.Context(), dir, progress, append([]Option{LogDir(t.ArtifactDir())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	endWith(t, c.Process)
	return &TestConsul{ConsulServer: c, t: t}
}

// Restart is RestartContext that fails the test on an error.
func (c *TestConsul) Restart() {
	c.t.Helper()
	if err := c.RestartContext(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// TestPrometheus is a Prometheus that belongs to a test.
type TestPrometheus struct {
	*PrometheusServer
	t testing.TB
}

// Prometheus starts a Prometheus for the test t and stops it when t ends. It fails the test if that is impossible.
func Prometheus(t testing.TB, opts ...Option) *TestPrometheus {
	t.Helper()
	return scraper(t, StartPrometheus, opts)
}

// VictoriaMetrics is Prometheus with a single-node VictoriaMetrics.
func VictoriaMetrics(t testing.TB, opts ...Option) *TestPrometheus {
	t.Helper()
	return scraper(t, StartVictoriaMetrics, opts)
}

func scraper(
	t testing.TB,
	start func(context.Context, string, func(format string, args ...any), ...Option) (*PrometheusServer, error),
	opts []Option,
) *TestPrometheus {
	t.Helper()
	dir := t.TempDir()
	p, err := start(t.Context(), dir, progress, append([]Option{LogDir(t.ArtifactDir())}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	endWith(t, p.Process)
	return &TestPrometheus{PrometheusServer: p, t: t}
}

// Restart is RestartContext that fails the test on an error.
func (p *TestPrometheus) Restart() {
	p.t.Helper()
	if err := p.RestartContext(p.t.Context()); err != nil {
		p.t.Fatal(err)
	}
}

// SetTargets is PrometheusServer.SetTargets that fails the test on an error.
func (p *TestPrometheus) SetTargets(groups ...TargetGroup) {
	p.t.Helper()
	if err := p.PrometheusServer.SetTargets(groups...); err != nil {
		p.t.Fatal(err)
	}
}

func endWith(t testing.TB, p *Process) {
	t.Cleanup(func() {
		p.Stop()
		if t.Failed() {
			t.Logf("the end of %s (kept by go test -artifacts):\n%s", p.Log, p.LogTail())
		}
	})
}

// progress goes to standard error, not to the test's log, which appears only when the test is over.
func progress(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }

// Unused returns a FreeAddress where nobody listens.
func Unused(t testing.TB) string {
	t.Helper()
	address, err := FreeAddress()
	if err != nil {
		t.Fatal(err)
	}
	return address
}
