package actuators

import (
	"errors"
	"fmt"
	"reflect"
)

// RefusalReason says in one word why a reader refused a Setting. It is a label of guard_setting_refused_total.
type RefusalReason string

// The reasons for refusing a Setting.
const (
	RefusedTooLarge     RefusalReason = "too_large"     // more than MaxBytes
	RefusedNotJSON      RefusalReason = "not_json"      // not one JSON object
	RefusedSchema       RefusalReason = "schema"        // written by a newer governor
	RefusedInvalid      RefusalReason = "invalid"       // a field missing, null, of the wrong type or outside its bounds
	RefusedWrongService RefusalReason = "wrong_service" // for another service or other calls
	RefusedOldEpoch     RefusalReason = "old_epoch"     // written by a leader that has been replaced
	RefusedOldRevision  RefusalReason = "old_revision"  // older than one already seen from this leader
	RefusedRewritten    RefusalReason = "rewritten"     // other content under the epoch and revision already seen
)

// RefusalReasons lists every reason, for metrics that start at zero.
var RefusalReasons = []RefusalReason{
	RefusedTooLarge, RefusedNotJSON, RefusedSchema, RefusedInvalid, RefusedWrongService, RefusedOldEpoch,
	RefusedOldRevision, RefusedRewritten,
}

// Refusal is the error of Decode, Accept and Follows. It wraps Problems if the reason is RefusedInvalid.
type Refusal struct {
	Reason RefusalReason
	Err    error
}

func (r *Refusal) Error() string {
	return "setting refused (" + string(r.Reason) + "): " + r.Err.Error()
}

// Unwrap returns the detail.
func (r *Refusal) Unwrap() error { return r.Err }

// ReasonOf returns the reason in err's chain; "" if err is not a refusal.
func ReasonOf(err error) RefusalReason {
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return refusal.Reason
	}
	return ""
}

func refuse(reason RefusalReason, format string, args ...any) *Refusal {
	return &Refusal{Reason: reason, Err: fmt.Errorf(format, args...)}
}

// Follows returns nil if s may replace last: it has a newer epoch, or the same epoch and a revision that is not lower.
// Otherwise it returns a *Refusal. It accepts an equal pair: the store is often read without news. Any Setting follows the
// zero Setting.
func (s Setting) Follows(last Setting) error {
	switch {
	case s.Epoch < last.Epoch:
		return refuse(RefusedOldEpoch,
			"service %s: epoch %d, already at %d: a leader that has been replaced is still writing",
			s.Service, s.Epoch, last.Epoch)
	case s.Epoch == last.Epoch && s.Revision < last.Revision:
		return refuse(RefusedOldRevision, "service %s: revision %d of epoch %d, already at revision %d",
			s.Service, s.Revision, s.Epoch, last.Revision)
	}
	return nil
}

// Accept is the reader's side of a key: it decodes the bytes, checks that they are for service, and checks the order
// against the last Setting accepted (the zero Setting if there is none). An equal epoch and revision with other content is
// refused: of two such Settings nobody can say which is the later one, and readers would disagree. The error is a *Refusal;
// the caller then keeps last.
func Accept(raw []byte, service string, last Setting) (Setting, error) {
	return AcceptCall(raw, service, "", last)
}

// AcceptCall is Accept for the Setting of the calls that service makes to callee. With the callee "" it is Accept.
func AcceptCall(raw []byte, service, callee string, last Setting) (Setting, error) {
	s, err := Decode(raw)
	if err != nil {
		return Setting{}, err
	}
	if s.Service != service {
		return Setting{}, refuse(RefusedWrongService, "it is for service %s, expected %s", quote(s.Service), quote(service))
	}
	if s.Callee != callee {
		return Setting{}, refuse(RefusedWrongService, "it is for %s, expected one for %s", subject(s.Callee), subject(callee))
	}
	if err := s.Follows(last); err != nil {
		return Setting{}, err
	}
	if last.Epoch == s.Epoch && last.Revision == s.Revision && last.Schema != 0 && !reflect.DeepEqual(s, last) {
		return Setting{}, refuse(RefusedRewritten, "service %s: revision %d of epoch %d had other content before; a person who "+
			"edits the key raises revision by one", s.Service, s.Revision, s.Epoch)
	}
	return s, nil
}

// subject says what the Setting with the callee is for.
func subject(callee string) string {
	if callee == "" {
		return "the service itself"
	}
	return "its calls to " + quote(callee)
}
