package calls

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/models/live/load"
	"github.com/seed-de83e32b/governor/test/servers"
)

// scene starts tiers as processes on loopback.
type scene struct {
	t      *testing.T
	dir    string
	binary string
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{t: t, dir: t.TempDir()}
	s.binary = filepath.Join(s.dir, "tier")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-C", "tier", "-o", s.binary, ".")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build tier: %v\n%s", err, out)
	}
	return s
}

// tier is a running service.
type tier struct {
	*servers.Process
	address string
}

// start runs a service and waits until it answers.
func (s *scene) start(name string, args ...string) *tier {
	s.t.Helper()
	address, err := servers.FreeAddress()
	if err != nil {
		s.t.Fatal(err)
	}
	r := &tier{address: address}
	r.Process = &servers.Process{
		Name: name, Path: s.binary, Log: filepath.Join(s.dir, name+".log"),
		Args: append([]string{"--listen=" + address, "--service=" + name}, args...),
		Ready: func(ctx context.Context) error {
			_, err := r.get(ctx, "/control")
			return err
		},
	}
	if err := r.Start(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { r.Stop() })
	return r
}

func (r *tier) url(path string) string { return "http://" + r.address + path }

func (r *tier) get(ctx context.Context, path string) (string, error) { return get(ctx, r.url(path)) }

// get fetches a page, which must answer 200.
func get(ctx context.Context, url string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = errors.New(answer.Status)
	}
	return string(body), err
}

// set changes the capacity.
func (r *tier) set(t *testing.T, servers int, mean time.Duration) {
	t.Helper()
	body := fmt.Sprintf(`{"servers": %d, "mean_seconds": %v}`, servers, mean.Seconds())
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPut, r.url("/control"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	answer.Body.Close()
	if answer.StatusCode != http.StatusOK {
		t.Fatalf("change %s: %s", r.Name, answer.Status)
	}
}

// attempts is how many calls the service has sent.
func (r *tier) attempts(t *testing.T) float64 {
	t.Helper()
	text, err := r.get(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"guard_client_attempts_total", "tier_attempts_total"} {
		if f := families[name]; f != nil {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("%s exports no attempts", r.Name)
	return 0
}

// load sends rate requests per second to a path of the service.
func (s *scene) load(r *tier, path string, rate float64, seed uint64) *load.Generator {
	s.t.Helper()
	g, err := load.Start(s.t.Context(), load.Config{
		URL: r.url(path), Seed: seed, Timeout: time.Second, SLO: 300 * time.Millisecond,
	}, rate)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(g.Stop)
	return g
}

func goodShare(s load.Summary) float64 { return float64(s.OK) / float64(max(s.Offered, 1)) }

// modes are the two ways to call.
var modes = []struct{ name, flag string }{{"patterns", "--patterns"}, {"naive", "--no-patterns"}}

// TestASlowDependencyLeavesTheOtherRouteAlone: a front has a route that needs payments and one that does not. Payments
// becomes far too slow. The other route must not notice.
func TestASlowDependencyLeavesTheOtherRouteAlone(t *testing.T) {
	s := newScene(t)
	innocent := map[string]float64{}
	for _, mode := range modes {
		payments := s.start("payments-"+mode.name, "--slo=0s", "--servers=8", "--mean=20ms") // 400/s
		front := s.start("front-"+mode.name, mode.flag, "--call=payments="+payments.url(""))
		other, needing := s.load(front, "/", 60, 1), s.load(front, "/payments", 60, 2)
		waittest.Pass(t, 5*time.Second)
		calm := time.Now()
		waittest.Pass(t, 3*time.Second)
		payments.set(t, 1, 50*time.Millisecond) // 20/s of 60/s: its queue grows for good
		waittest.Pass(t, 5*time.Second)
		from := time.Now()
		waittest.Pass(t, 12*time.Second)
		to := time.Now()
		waittest.Pass(t, 2*time.Second) // requests of the last second end
		before := other.Between(calm, calm.Add(3*time.Second))
		in, needs := other.Between(from, to), needing.Between(from, to)
		t.Logf("%-8s other route in calm %.3f, in the fault %.3f; the route that needs payments %.3f (%s)",
			mode.name, goodShare(before), goodShare(in), goodShare(needs), needs)
		innocent[mode.name] = goodShare(in)
		other.Stop()
		needing.Stop()
	}
	if innocent["patterns"] < 0.99 {
		t.Errorf("with the patterns %.3f of the other route is served in time, want 0.99", innocent["patterns"])
	}
	if innocent["naive"] > innocent["patterns"] {
		t.Errorf("without them %.3f, with them %.3f", innocent["naive"], innocent["patterns"])
	}
}

// TestRetriesOfThreeTiersDoNotMultiply: a calls b, b calls c, and everyone tries three times. c is gone for ten seconds. The
// attempts must not multiply, and everything must be back soon after c is.
func TestRetriesOfThreeTiersDoNotMultiply(t *testing.T) {
	const rate, away = 60, 10 * time.Second
	s := newScene(t)
	perRequest, back := map[string]float64{}, map[string]float64{}
	for _, mode := range modes {
		c := s.start("c-" + mode.name)
		b := s.start("b-"+mode.name, mode.flag, "--call=c="+c.url(""))
		a := s.start("a-"+mode.name, mode.flag, "--call=b="+b.url(""))
		users := s.load(a, "/b/c", rate, 1)
		waittest.Pass(t, 5*time.Second)
		c.Kill()
		gone, before := time.Now(), b.attempts(t)
		waittest.Pass(t, away)
		after := b.attempts(t)
		if err := c.RestartContext(t.Context()); err != nil {
			t.Fatal(err)
		}
		returned := time.Now()
		waittest.Pass(t, 16*time.Second)
		offered := users.Between(gone, gone.Add(away)).Offered
		perRequest[mode.name] = (after - before) / float64(max(offered, 1))
		back[mode.name] = 15
		for second := range 15 {
			from := returned.Add(time.Duration(second) * time.Second)
			if goodShare(users.Between(from, from.Add(time.Second))) >= 0.95 {
				back[mode.name] = float64(second)
				break
			}
		}
		t.Logf("%-8s %.2f attempts at c for each request while it is away; served again %.0f s after its return",
			mode.name, perRequest[mode.name], back[mode.name])
		users.Stop()
		if mode.name == "patterns" && back[mode.name] > 2 {
			for _, r := range []*tier{a, b} {
				if text, err := r.get(t.Context(), "/metrics"); err != nil {
					t.Error(err)
				} else {
					t.Logf("metrics of %s:\n%s", r.Name, text)
				}
			}
			t.Log(users.Between(returned.Add(5*time.Second), returned.Add(10*time.Second)))
		}
	}
	if perRequest["patterns"] > 1.1 {
		t.Errorf("%.2f attempts for each request, want at most 1.1", perRequest["patterns"])
	}
	if perRequest["naive"] < 2 {
		t.Errorf("without the patterns %.2f attempts for each request: this shows nothing", perRequest["naive"])
	}
	if back["patterns"] > 2 {
		t.Errorf("served again %.0f s after the return, want 2", back["patterns"])
	}
}
