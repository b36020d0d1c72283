package e2e

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/e2e/internal/world"
	"github.com/seed-de83e32b/governor/test/terminal"
)

// stepIn is a session in govtop, key by key, on the service without a reflex: governor alone moves its limit. The
// previous phase halved the service's capacity, and the limit has just followed.
func (s *story) stepIn(t *testing.T) {
	const loop, reason = world.Payments + "/concurrency", "INC-1412"
	screen := terminal.Run(t, s.Govtop(t.Context(), s.first), terminal.Size{Width: 120, Height: 30})
	screen.Shows(world.Checkout + "/concurrency")
	screen.Types("/" + world.Payments + "/conc\r")
	screen.Waits("the filter leaves one loop", func(s terminal.Screen) bool {
		return s.Shows(loop) && !s.Shows(world.Checkout+"/")
	})
	screen.Types("\r")
	screen.Shows("governor/services/" + world.Payments + "/setting")

	screen.Types("f")
	screen.Shows("why, for the next person on call")
	screen.Types(reason + "\r") // what is missing comes next: the loop's name, since it touches its service
	screen.Shows("type " + loop)
	screen.Types(loop + "\r")
	waittest.Succeeds(t, 10*time.Second, "the order is in the KV", func() error {
		o, err := s.Operator(t.Context(), world.Payments)
		if order := o.Orders["concurrency"]; err == nil &&
			(order.Kind != "freeze" || order.Actor != "ana" || order.Reason != reason) {
			err = fmt.Errorf("%+v", o)
		}
		return err
	})
	waittest.Succeeds(t, 10*world.Period, "the loop is frozen", func() error { return s.obeys(loop, "frozen") })
	waittest.Succeeds(t, 10*world.Period, "the freeze is in the audit", func() error { return s.audited("freeze", reason) })
	stood := s.setting(t, world.Payments).Concurrency.Limit
	screen.Shows("FROZEN")
	screen.Shows(fmt.Sprintf("frozen at %d until ", stood))
	frozen := time.Now()

	if err := s.SetMean(t.Context(), world.Payments, 2*world.Mean); err != nil {
		t.Fatal(err)
	}
	for range 15 {
		waittest.Pass(t, world.Period)
		if err := s.obeys(loop, "frozen"); err != nil {
			t.Error(err)
		}
	}
	if err := s.SetMean(t.Context(), world.Payments, world.Mean); err != nil {
		t.Fatal(err)
	}
	waittest.Pass(t, settle)
	for _, w := range s.tape.since(world.Payments, frozen) {
		if w.Concurrency.Limit != stood {
			t.Errorf("frozen at %d, and then written: %d, %s", stood, w.Concurrency.Limit, w.Reason)
		}
	}

	screen.Types("r")
	screen.Shows("why, for the next person on call")
	screen.Types(reason + " is over\r")
	screen.Shows("type " + loop)
	screen.Types(loop + "\r")
	waittest.Succeeds(t, 10*time.Second, "no order is in the KV", func() error {
		o, err := s.Operator(t.Context(), world.Payments)
		if err == nil && (len(o.Orders) > 0 || len(o.Audit) != 2) {
			err = fmt.Errorf("%+v", o)
		}
		return err
	})
	waittest.Succeeds(t, 10*world.Period, "the loop is automatic again", func() error {
		if s.obeys(loop, "frozen") == nil {
			return errors.New("still frozen")
		}
		return nil
	})
	waittest.Succeeds(t, 10*world.Period, "the resume is in the audit", func() error {
		return s.audited("resume", reason+" is over")
	})
	screen.Waits("the loop is automatic on the screen", func(s terminal.Screen) bool { return !s.Shows("FROZEN") })
	screen.Types("q")
	screen.Ends(0)
}

// override does the same from a shell, through Consul alone.
func (s *story) override(t *testing.T) {
	const loop = world.Payments + "/concurrency"
	before := s.setting(t, world.Payments).Concurrency.Limit
	value := before + before/4
	out, err := s.Operate(t.Context(), "override", loop, fmt.Sprint(value), "--reason=a look at more", "--expires=5m")
	if want := s.first.Name + " (leader) enforces it from its next tick"; err != nil || !strings.Contains(out, want) {
		t.Fatalf("%v: %s\nwant it to say %s", err, out, want)
	}
	waittest.Succeeds(t, 10*world.Period, "the value is published", func() error {
		if c := s.setting(t, world.Payments).Concurrency; c.Limit != value || c.Ceiling != value {
			return fmt.Errorf("%+v, want %d", c, value)
		}
		return s.applied(world.Payments)
	})
	explained, err := s.Operate(t.Context(), "explain", loop, "--connect=http://"+s.first.Address)
	for _, want := range []string{
		"OVERRIDE", "bound by  the order of ana", "a look at more", "governor resume " + loop, "mean latency",
	} {
		if err != nil || !strings.Contains(explained, want) {
			t.Errorf("%v: explained as\n%s\nwant it to say %s", err, explained, want)
		}
	}
	if _, err := s.Operate(t.Context(), "resume", loop, "--reason=seen enough"); err != nil {
		t.Fatal(err)
	}
	waittest.Succeeds(t, 30*world.Period, "the law takes the limit back", func() error {
		if l := s.setting(t, world.Payments).Concurrency.Limit; l >= value {
			return fmt.Errorf("limit %d, before the override %d", l, before)
		}
		return nil
	})
}

// stopRetries sets the retry budget to 0, which is in force in the guard after one publish, and resumes.
func (s *story) stopRetries(t *testing.T) {
	const loop = world.Payments + "/retry"
	budget := func(want float64) func() error {
		return func() error {
			got, err := s.Metric(t.Context(), world.Payments, "guard_retry_budget_ratio")
			if err == nil && got != want {
				err = fmt.Errorf("the guard has a budget of %g, want %g", got, want)
			}
			return err
		}
	}
	waittest.Succeeds(t, 10*world.Period, "the guard has the configured budget", budget(0.1))
	ordered := time.Now()
	if out, err := s.Operate(t.Context(), "override", loop, "0", "--reason=a storm of retries", "--expires=5m"); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	waittest.Succeeds(t, 10*world.Period, "the guard has a budget of 0", budget(0))
	without := 0
	for _, w := range s.tape.since(world.Payments, ordered) {
		if w.Retry == nil || w.Retry.BudgetRatio != 0 {
			without++
		}
	}
	if without > 1 { // one may have been on its way
		t.Errorf("%d Settings since the order allow retries", without)
	}
	if _, err := s.Operate(t.Context(), "resume", loop, "--reason=it is over"); err != nil {
		t.Fatal(err)
	}
	waittest.Succeeds(t, 10*world.Period, "the guard has the configured budget again", budget(0.1))
}

// obeys returns nil if an order has put the loop into its state.
func (s *story) obeys(loop, state string) error {
	service, _, _ := strings.Cut(loop, "/")
	l, err := s.first.Loop(s.t.Context(), service)
	if err == nil && l.Decision.State != state {
		err = fmt.Errorf("%s is %s: %s", loop, l.Decision.State, l.Decision.Reason)
	}
	return err
}

// audited returns nil if the leader knows that ana did this to the limit of payments.
func (s *story) audited(kind, reason string) error {
	actions, err := s.first.Audit(s.t.Context())
	want := world.Action{Service: world.Payments, Knob: "concurrency", Kind: kind, Actor: "ana", Reason: reason}
	if err == nil && !slices.Contains(actions, want) {
		err = fmt.Errorf("%+v, want %+v among them", actions, want)
	}
	return err
}
