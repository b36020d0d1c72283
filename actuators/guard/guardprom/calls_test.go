package guardprom_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

// The metrics of a dependency are there from its first scrape on, except for what is not known yet.
func TestDependencyIsThereFromTheStart(t *testing.T) {
	g := newGuard(t, "checkout", 20)
	d := g.Dependency("payments", guard.MaxCalls(5), guard.CallTarget(70*time.Millisecond))
	if err := d.Apply([]byte(`{
		"schema": 1, "service": "checkout", "callee": "payments", "epoch": 1, "revision": 12, "lease_seconds": 180,
		"concurrency": {
			"limit": 4, "ceiling": 4, "latency_target_seconds": 0.05, "fallback": 4, "min": 1, "max": 9
		}
	}`)); err != nil {
		t.Fatal(err)
	}
	if err := d.Apply([]byte(`{}`)); err == nil {
		t.Fatal("accepted an empty Setting")
	}
	c := guardprom.New(g)
	const want = `
# HELP guard_call_wait_seconds_total Part of guard_latency_seconds_sum that the requests spent in guarded calls; the rest is the service's own latency.
# TYPE guard_call_wait_seconds_total counter
guard_call_wait_seconds_total{service="checkout"} 0
# HELP guard_client_binding_seconds_total Time with at least 85% of the limit in flight.
# TYPE guard_client_binding_seconds_total counter
guard_client_binding_seconds_total{service="checkout",to="payments"} 0
# HELP guard_client_in_flight Calls in flight.
# TYPE guard_client_in_flight gauge
guard_client_in_flight{service="checkout",to="payments"} 0
# HELP guard_client_latency_target_seconds Mean latency that the calls may have.
# TYPE guard_client_latency_target_seconds gauge
guard_client_latency_target_seconds{service="checkout",to="payments"} 0.05
# HELP guard_client_limit Limit of the calls in flight enforced now.
# TYPE guard_client_limit gauge
guard_client_limit{service="checkout",to="payments"} 4
# HELP guard_client_setting_refused_total Settings of the calls that were refused, the last good one staying in force.
# TYPE guard_client_setting_refused_total counter
guard_client_setting_refused_total{reason="invalid",service="checkout",to="payments"} 1
guard_client_setting_refused_total{reason="not_json",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="old_epoch",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="old_revision",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="rewritten",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="schema",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="too_large",service="checkout",to="payments"} 0
guard_client_setting_refused_total{reason="wrong_service",service="checkout",to="payments"} 0
# HELP guard_client_setting_revision Revision of the calls' Setting in force, 0 while there is none.
# TYPE guard_client_setting_revision gauge
guard_client_setting_revision{service="checkout",to="payments"} 12
# HELP guard_cut_short_seconds_total Their part of guard_latency_seconds_sum: the service's own, and what they spent in guarded calls.
# TYPE guard_cut_short_seconds_total counter
guard_cut_short_seconds_total{part="calls",service="checkout"} 0
guard_cut_short_seconds_total{part="own",service="checkout"} 0
# HELP guard_cut_short_total Requests of guard_latency_seconds that failed after a guarded call of theirs was refused or failed: no evidence of how fast the service is.
# TYPE guard_cut_short_total counter
guard_cut_short_total{service="checkout"} 0
# HELP guard_retry_budget_ratio Retries allowed as a share of requests, in force now.
# TYPE guard_retry_budget_ratio gauge
guard_retry_budget_ratio{service="checkout"} 0.1
`
	names := []string{
		"guard_call_wait_seconds_total", "guard_cut_short_total", "guard_cut_short_seconds_total", "guard_retry_budget_ratio", "guard_client_binding_seconds_total",
		"guard_client_in_flight", "guard_client_latency_target_seconds", "guard_client_limit",
		"guard_client_setting_refused_total", "guard_client_setting_revision", "guard_client_own_latency_seconds",
	}
	if err := testutil.CollectAndCompare(c, strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
	if n := testutil.CollectAndCount(c, "guard_client_latency_seconds"); n != 1 {
		t.Errorf("%d latency histograms of one dependency", n)
	}
	problems, err := testutil.CollectAndLint(c)
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}
