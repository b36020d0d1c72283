package guardprom_test

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

// Retries, refusals and breakers: every reason and every state is there from the first scrape.
func TestMetricsOfRetriesAndBreakers(t *testing.T) {
	now := time.Date(2025, 6, 1, 0, 0, 0, 0, time.UTC)
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Now: func() time.Time { return now },
	})
	if err != nil {
		t.Fatal(err)
	}
	d := g.Dependency("payments")
	try := func(o guard.CallOptions, r guard.Result) {
		t.Helper()
		c := d.StartAt(t.Context(), now, o)
		a, err := c.TryAt(now, "10.0.0.1:80")
		if err != nil {
			return
		}
		a.DoneAt(now, r)
		if _, ok := c.RetryAt(now, 0.5, r); ok {
			c.GiveUpAt(now)
		}
	}
	failed := guard.Result{Outcome: guard.Failure}
	try(guard.CallOptions{Deadline: now}, failed)
	try(guard.CallOptions{}, guard.Result{Refused: true})
	try(guard.CallOptions{Idempotent: true, Inner: true}, failed)
	for range 48 {
		try(guard.CallOptions{}, failed)
	}
	now = now.Add(2 * time.Second)
	try(guard.CallOptions{}, failed)
	try(guard.CallOptions{}, failed)
	const want = `
# HELP guard_client_attempts_total Attempts that were sent.
# TYPE guard_client_attempts_total counter
guard_client_attempts_total{service="checkout",to="payments"} 51
# HELP guard_client_breaker_instances Instances known, by the state of their breaker.
# TYPE guard_client_breaker_instances gauge
guard_client_breaker_instances{service="checkout",state="closed",to="payments"} 0
guard_client_breaker_instances{service="checkout",state="half_open",to="payments"} 0
guard_client_breaker_instances{service="checkout",state="open",to="payments"} 1
# HELP guard_client_breaker_opened_total Times that the breaker of an instance opened, by what opened it.
# TYPE guard_client_breaker_opened_total counter
guard_client_breaker_opened_total{reason="failures",service="checkout",to="payments"} 1
guard_client_breaker_opened_total{reason="slow",service="checkout",to="payments"} 0
# HELP guard_client_callee_refusals_total Attempts that the callee, or its guard, refused without executing them.
# TYPE guard_client_callee_refusals_total counter
guard_client_callee_refusals_total{service="checkout",to="payments"} 1
# HELP guard_client_failures_total Attempts that failed; canceled by the caller or refused is not failed.
# TYPE guard_client_failures_total counter
guard_client_failures_total{service="checkout",to="payments"} 50
# HELP guard_client_refused_total Calls refused here, before they were sent, by reason.
# TYPE guard_client_refused_total counter
guard_client_refused_total{reason="breaker",service="checkout",to="payments"} 1
guard_client_refused_total{reason="bulkhead",service="checkout",to="payments"} 0
guard_client_refused_total{reason="deadline",service="checkout",to="payments"} 1
guard_client_refused_total{reason="early",service="checkout",to="payments"} 0
# HELP guard_client_requests_total Logical calls, each with one or more attempts.
# TYPE guard_client_requests_total counter
guard_client_requests_total{service="checkout",to="payments"} 53
# HELP guard_client_retries_suppressed_total Failed attempts that were not retried, by what kept them.
# TYPE guard_client_retries_suppressed_total counter
guard_client_retries_suppressed_total{reason="body",service="checkout",to="payments"} 0
guard_client_retries_suppressed_total{reason="budget",service="checkout",to="payments"} 0
guard_client_retries_suppressed_total{reason="deadline",service="checkout",to="payments"} 0
guard_client_retries_suppressed_total{reason="hint",service="checkout",to="payments"} 0
guard_client_retries_suppressed_total{reason="layer",service="checkout",to="payments"} 1
guard_client_retries_suppressed_total{reason="not_idempotent",service="checkout",to="payments"} 49
# HELP guard_client_retries_total Retries that were allowed and charged to the budget.
# TYPE guard_client_retries_total counter
guard_client_retries_total{service="checkout",to="payments"} 1
`
	var names []string
	for line := range strings.Lines(want) {
		if name, ok := strings.CutPrefix(line, "# TYPE "); ok {
			names = append(names, strings.Fields(name)[0])
		}
	}
	if err := testutil.CollectAndCompare(guardprom.New(g), strings.NewReader(want), names...); err != nil {
		t.Error(err)
	}
}
