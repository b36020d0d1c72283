package actuators

import (
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// MaxReason is the longest reason that After writes, in bytes.
const MaxReason = 500

// After returns s as the leader of epoch writes it next, in the place of last (the zero Setting where there is none):
// the schema of this package, revision one higher than last's whatever its epoch, issued now. changed_at is now where
// a value differs from last's, and last's where the write only renews the lease. The lease is DefaultLeaseSeconds where
// s has none, and the reason is made one line.
func (s Setting) After(last Setting, epoch uint64, now time.Time) Setting {
	s.Schema, s.Epoch, s.Revision = Schema, epoch, last.Revision+1
	// To the millisecond: people read it, and the zone of the writer is nothing to them.
	s.IssuedAt = now.UTC().Truncate(time.Millisecond)
	s.ChangedAt = last.ChangedAt
	if s.ChangedAt.IsZero() || !s.SameValues(last) {
		s.ChangedAt = s.IssuedAt
	}
	if s.LeaseSeconds == 0 {
		s.LeaseSeconds = DefaultLeaseSeconds
	}
	s.Reason = oneLine(s.Reason)
	return s
}

// SameValues says whether every knob of s and other is the same, bounds and fallbacks included. Order, times, lease and
// reason do not count.
func (s Setting) SameValues(other Setting) bool {
	return same(s.Concurrency, other.Concurrency) && same(s.Rate, other.Rate) &&
		same(s.Shed, other.Shed) && same(s.Retry, other.Retry)
}

func same[T comparable](a, b *T) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// oneLine makes text fit for one line of a log: no control characters, valid UTF-8, at most MaxReason bytes.
func oneLine(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(text, "\uFFFD"))
	if len(text) > MaxReason {
		text = text[:MaxReason]
		for !utf8.ValidString(text) { // the cut went through a character
			text = text[:len(text)-1]
		}
	}
	return text
}
