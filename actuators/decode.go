package actuators

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// MaxBytes is the largest Setting that is written or read. A real one has about 700 bytes. The room is for the fields
// of later versions, not for a file that was doubled by mistake.
const MaxBytes = 64 << 10

// Encode returns the JSON of a valid Setting. If s breaks the contract, the error holds Problems: Encode never writes
// what Decode would refuse.
func (s Setting) Encode() ([]byte, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("encode setting of service %s: %w", quote(s.Service), err)
	}
	raw, err := json.Marshal(s)
	if err != nil {
		return nil, fmt.Errorf("encode setting of service %s: %w", quote(s.Service), err)
	}
	if len(raw) > MaxBytes {
		return nil, fmt.Errorf("encode setting of service %s: %d bytes, expected at most %d: shorten the reason",
			quote(s.Service), len(raw), MaxBytes)
	}
	return raw, nil
}

// Decode reads and validates a Setting. The error is a *Refusal that names every field at fault. Decode never panics
// and never fills in a value: it refuses a required number that is missing or null, which is not the same as zero. It
// ignores unknown fields. It matches field names exactly, unlike encoding/json, so an unknown "Limit" cannot stand in
// for "limit".
func Decode(raw []byte) (Setting, error) {
	if len(raw) > MaxBytes {
		return Setting{}, refuse(RefusedTooLarge, "%d bytes, expected at most %d", len(raw), MaxBytes)
	}
	if twice := duplicate(raw); twice != "" {
		return Setting{}, refuse(RefusedInvalid, "the field %s is there twice, if case does not matter; expected each once: "+
			"readers would take different ones", twice)
	}
	var v validator
	root, err := fieldsOf(raw)
	if err != nil {
		return Setting{}, refuse(RefusedNotJSON, "%s: %v, expected one JSON object", quote(string(bytes.TrimSpace(raw))), err)
	}
	o := object{fields: root, v: &v}
	// The version comes first: this reader cannot judge the other fields of a later version.
	schema := o.whole("schema", MaxOrdinal)
	if schema > Schema {
		return Setting{}, refuse(RefusedSchema, "schema %d, expected at most %d: update this reader", schema, Schema)
	}
	s := Setting{
		Schema:       int(schema),
		Service:      o.text("service", true),
		Callee:       o.text("callee", false),
		Epoch:        uint64(o.whole("epoch", MaxOrdinal)),
		Revision:     uint64(o.whole("revision", MaxOrdinal)),
		IssuedAt:     o.instant("issued_at"),
		ChangedAt:    o.instant("changed_at"),
		LeaseSeconds: o.number("lease_seconds"),
		Reason:       o.text("reason", false),
	}
	v.check(string(root["callee"]) != `""`, "callee", `""`, "a service name; leave the field out if the setting is for the "+
		"service itself")
	if k := o.object("concurrency"); k != nil {
		s.Concurrency = &Concurrency{
			Limit:                k.count("limit"),
			Ceiling:              k.count("ceiling"),
			LatencyTargetSeconds: k.number("latency_target_seconds"),
			Fallback:             k.count("fallback"),
			Min:                  k.count("min"),
			Max:                  k.count("max"),
		}
	}
	if k := o.object("rate"); k != nil {
		s.Rate = &Rate{
			PerSecond: k.number("per_second"),
			Burst:     k.number("burst"),
			Instances: k.count("instances"),
			Borrow:    k.numeral("borrow", false),
			Fallback:  k.number("fallback"),
			Min:       k.number("min"),
			Max:       k.number("max"),
		}
	}
	if k := o.object("shed"); k != nil {
		s.Shed = &Shed{
			Threshold: k.number("threshold"),
			Fallback:  k.number("fallback"),
			Min:       k.number("min"),
			Max:       k.number("max"),
		}
	}
	if k := o.object("retry"); k != nil {
		s.Retry = &Retry{
			BudgetRatio: k.number("budget_ratio"),
			Fallback:    k.number("fallback"),
			Min:         k.number("min"),
			Max:         k.number("max"),
		}
	}
	// Bounds are checked only after every field has been read: with min missing, they would blame the wrong field.
	if err := v.err(); err != nil {
		return Setting{}, &Refusal{Reason: RefusedInvalid, Err: err}
	}
	if err := s.Validate(); err != nil {
		return Setting{}, &Refusal{Reason: RefusedInvalid, Err: err}
	}
	return s, nil
}

// duplicate returns the path of a field that one object of the JSON document has twice, at any depth and also if only the
// case differs, as encoding/json merges them; "" if there is none or raw is not JSON.
func duplicate(raw []byte) string {
	type level struct {
		path string
		seen map[string]bool // nil: an array
		key  string          // whose value comes next; "" if a key comes next
		open bool            // a value comes next
	}
	tokens := json.NewDecoder(bytes.NewReader(raw))
	tokens.UseNumber()
	stack := []level{{}}
	for {
		token, err := tokens.Token()
		if err != nil {
			return ""
		}
		top := &stack[len(stack)-1]
		switch delim, _ := token.(json.Delim); {
		case delim == '}' || delim == ']':
			stack = stack[:len(stack)-1]
			continue
		case top.seen != nil && !top.open: // a key
			key := token.(string)
			folded := strings.ToLower(strings.ToUpper(key)) // also what folds to ASCII: the Kelvin sign, the long s
			top.key = top.path + key
			if top.seen[folded] {
				return quote(top.key)
			}
			top.seen[folded], top.open = true, true
		case delim == '{' || delim == '[':
			next := level{path: top.path}
			if top.seen != nil {
				next.path = top.key + "."
			}
			if delim == '{' {
				next.seen = map[string]bool{}
			}
			top.open = false
			stack = append(stack, next)
		default:
			top.open = false
		}
	}
}

// object reads the fields of one JSON object by their exact names and notes their problems.
type object struct {
	path   string // of the object, with its closing dot; "" at the root
	fields map[string]json.RawMessage
	v      *validator
}

func fieldsOf(raw []byte) (map[string]json.RawMessage, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(raw, &fields); err != nil {
		return nil, err
	}
	if fields == nil {
		return nil, fmt.Errorf("null")
	}
	return fields, nil
}

// get returns the raw field. Null is never a value: a field that is not required may be absent, but not null.
func (o object) get(name, want string, required bool) (json.RawMessage, bool) {
	raw, ok := o.fields[name]
	if !ok {
		o.v.check(!required, o.path+name, "missing", want)
		return nil, false
	}
	if string(raw) == "null" {
		o.v.check(false, o.path+name, "null", want)
		return nil, false
	}
	return raw, true
}

func (o object) number(name string) float64 { return o.numeral(name, true) }

// numeral is a number, 0 where one that is not required is missing.
func (o object) numeral(name string, required bool) float64 {
	const want = "a number"
	raw, ok := o.get(name, want, required)
	if !ok {
		return 0
	}
	// ParseFloat alone would accept "0x1p4" and "Inf", but raw is already JSON, so a number there is a JSON number.
	f, err := strconv.ParseFloat(string(raw), 64)
	o.v.check(err == nil, o.path+name, quote(string(raw)), want)
	return f
}

// whole reads a whole number, 0 to most, in any spelling: 40, 40.0 and 4e1 are the same number in JSON.
func (o object) whole(name string, most int64) int64 {
	const want = "a whole number"
	raw, ok := o.get(name, want, true)
	if !ok {
		return 0
	}
	if n, err := strconv.ParseInt(string(raw), 10, 64); err == nil && n >= 0 && n <= most {
		return n
	}
	f, err := strconv.ParseFloat(string(raw), 64)
	if err != nil || f != math.Trunc(f) || f < 0 || f > float64(most) {
		o.v.check(false, o.path+name, quote(string(raw)), fmt.Sprintf("%s, 0 to %d", want, most))
		return 0
	}
	return int64(f)
}

func (o object) count(name string) int { return int(o.whole(name, MaxCount)) }

func (o object) text(name string, required bool) string {
	const want = "a string"
	raw, ok := o.get(name, want, required)
	if !ok {
		return ""
	}
	var s string
	err := json.Unmarshal(raw, &s)
	o.v.check(err == nil, o.path+name, quote(string(raw)), want)
	return s
}

func (o object) instant(name string) time.Time {
	const want = "an RFC 3339 time"
	raw, ok := o.get(name, want, false)
	if !ok {
		return time.Time{}
	}
	var t time.Time
	err := json.Unmarshal(raw, &t)
	o.v.check(err == nil, o.path+name, quote(string(raw)), want)
	return t
}

// object reads a knob; nil if it is absent or not an object.
func (o object) object(name string) *object {
	const want = "an object with the knob's values; leave the field out if the knob is not governed"
	raw, ok := o.get(name, want, false)
	if !ok {
		return nil
	}
	fields, err := fieldsOf(raw)
	if err != nil {
		o.v.check(false, o.path+name, quote(string(raw)), want)
		return nil
	}
	return &object{path: o.path + name + ".", fields: fields, v: o.v}
}
