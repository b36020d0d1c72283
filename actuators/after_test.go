package actuators_test

import (
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
)

func TestRenewalKeepsChangedAt(t *testing.T) {
	last := complete()
	now := last.IssuedAt.Add(time.Minute)

	renewal := complete().After(last, 42, now)
	if renewal.Revision != last.Revision+1 || !renewal.ChangedAt.Equal(last.ChangedAt) || !renewal.IssuedAt.Equal(now) {
		t.Errorf("renewal is revision %d, changed %s, issued %s", renewal.Revision, renewal.ChangedAt, renewal.IssuedAt)
	}
	if !renewal.SameValues(last) {
		t.Error("a renewal differs in value")
	}

	change := complete()
	change.Concurrency.Ceiling++
	change = change.After(last, 42, now)
	if !change.ChangedAt.Equal(now) || change.SameValues(last) {
		t.Errorf("a change of one value is dated %s, want %s", change.ChangedAt, now)
	}

	removed := complete()
	removed.Shed = nil
	if removed.SameValues(last) || last.SameValues(removed) {
		t.Error("a knob taken out is no change")
	}
}

func TestNewLeaderGoesOnWithTheRevision(t *testing.T) {
	last := complete()
	next := complete().After(last, 43, last.IssuedAt)
	if next.Epoch != 43 || next.Revision != last.Revision+1 {
		t.Errorf("epoch %d, revision %d, want 43, %d", next.Epoch, next.Revision, last.Revision+1)
	}
	if err := next.Follows(last); err != nil {
		t.Error(err)
	}
}

func TestFirstSettingIsComplete(t *testing.T) {
	s := complete()
	s.Schema, s.LeaseSeconds, s.ChangedAt = 0, 0, time.Time{}
	s = s.After(actuators.Setting{}, 1, time.Now())
	if err := s.Validate(); err != nil {
		t.Error(err)
	}
	if s.Revision != 1 || s.LeaseSeconds != actuators.DefaultLeaseSeconds || s.ChangedAt.IsZero() {
		t.Errorf("first Setting: %+v", s)
	}
}

func TestReasonIsOneLine(t *testing.T) {
	s := complete()
	s.Reason = "line\nlevel=error msg=forged\x1b[2J\xff" + strings.Repeat("ü", actuators.MaxReason)
	s = s.After(actuators.Setting{}, 1, time.Now())
	if strings.ContainsAny(s.Reason, "\n\x1b") || len(s.Reason) > actuators.MaxReason {
		t.Errorf("reason %q", s.Reason)
	}
	if encode(t, s) == "" || strings.HasSuffix(s.Reason, "\uFFFD") {
		t.Errorf("reason ends inside a character: %q", s.Reason)
	}
}
