package strict

import (
	"encoding"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
)

// Field is one key of a section: a struct field and the demands of its tags.
type Field struct {
	Name     string // the key
	Type     reflect.Type
	Required bool
	Enum     []string
	Default  string    // the text to read if the key is absent; "" for none
	Range    *Interval // nil: any value of the type
	Why      string    // why a value outside Range is wrong

	index []int
	rest  bool // an inline map, which takes every key that no other field takes
}

// Types says how to read types of other packages, which cannot carry our tags or methods.
type Types struct {
	// Keys lists, per struct type, the keys that may be set, with the text that documents each. A key that is not listed
	// is unknown. Struct types that are not in Keys accept all of their fields.
	Keys map[reflect.Type]map[string]string
	// Removed lists, per struct type, the keys of earlier versions, with what to do about them.
	Removed map[reflect.Type]map[string]string
	// Scalars reads values of types that are written as text.
	Scalars map[reflect.Type]Scalar
}

// Scalar reads a type that is written as text.
type Scalar struct {
	Expected string // "a URL"; how errors describe a valid value
	Secret   bool   // never repeat the offending value
	Parse    func(text string) (any, error)
}

// Fields returns the keys of the struct type t in the order of declaration, including those of inline structs.
func (ts Types) Fields(t reflect.Type) []Field {
	documented, foreign := ts.Keys[t]
	var fields []Field
	for i := range t.NumField() {
		f := t.Field(i)
		name, options, _ := strings.Cut(f.Tag.Get("yaml"), ",")
		switch {
		case !f.IsExported() || name == "-":
			continue
		case strings.Contains(options, "inline") && f.Type.Kind() == reflect.Struct:
			for _, inner := range ts.Fields(f.Type) {
				inner.index = append([]int{i}, inner.index...)
				fields = append(fields, inner)
			}
			continue
		}
		if _, ok := documented[name]; foreign && !ok && !strings.Contains(options, "inline") {
			continue
		}
		field := Field{
			Name: name, Type: f.Type, index: []int{i},
			rest: strings.Contains(options, "inline"),
			Why:  f.Tag.Get("why"),
		}
		for keyword := range strings.SplitSeq(f.Tag.Get("jsonschema"), ",") {
			switch key, value, _ := strings.Cut(keyword, "="); key {
			case "required":
				field.Required = true
			case "enum":
				field.Enum = append(field.Enum, value)
			case "default":
				field.Default = value
			}
		}
		if text := f.Tag.Get("range"); text != "" {
			field.Range = ts.interval(f.Type, text)
		}
		fields = append(fields, field)
	}
	return fields
}

// Interval is a range of values, written as in mathematics, with bounds in the notation of the type: "[50%, 100%)".
type Interval struct {
	Min, Max        string
	AboveMin        bool // Min itself is outside
	BelowMax        bool // Max itself is outside
	Lowest, Highest float64
}

// String describes the values inside.
func (r *Interval) String() string {
	low, high := "at least ", "at most "
	if r.AboveMin {
		low = "more than "
	}
	if r.BelowMax {
		high = "less than "
	}
	return low + r.Min + " and " + high + r.Max
}

func (r *Interval) contains(x float64) bool {
	return x >= r.Lowest && x <= r.Highest && (x != r.Lowest || !r.AboveMin) && (x != r.Highest || !r.BelowMax)
}

// interval parses a range tag. It panics on a malformed one: the tags are constants of the program.
func (ts Types) interval(t reflect.Type, text string) *Interval {
	low, high, ok := strings.Cut(strings.Trim(text, "[]()"), ", ")
	if !ok {
		panic(fmt.Sprintf("strict: malformed range %q", text))
	}
	bound := func(s string) float64 {
		v := reflect.New(base(t)).Elem()
		if _, err := ts.scan(s, v); err != nil {
			panic(fmt.Sprintf("strict: malformed range %q: %v", text, err))
		}
		return number(v)
	}
	return &Interval{
		Min: low, Max: high, AboveMin: text[0] == '(', BelowMax: text[len(text)-1] == ')',
		Lowest: bound(low), Highest: bound(high),
	}
}

// base strips pointers off t.
func base(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

func number(v reflect.Value) float64 {
	switch {
	case v.CanInt():
		return float64(v.Int())
	case v.CanFloat():
		return v.Float()
	}
	panic("strict: a range on " + v.Type().String())
}

// expecter is implemented by text types that describe their valid values.
type expecter interface{ Expected() string }

// expected describes a valid value of type t.
func (ts Types) expected(t reflect.Type) string {
	if s, ok := ts.Scalars[t]; ok {
		return s.Expected
	}
	if e, ok := reflect.TypeAssert[expecter](reflect.Zero(t)); ok {
		return e.Expected()
	}
	switch t.Kind() {
	case reflect.Pointer:
		return ts.expected(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.String:
		return "text"
	case reflect.Slice:
		return "a list"
	case reflect.Struct:
		var required []string
		for _, f := range ts.Fields(t) {
			if f.Required {
				required = append(required, f.Name)
			}
		}
		if len(required) > 0 {
			return "a section of keys, with at least " + strings.Join(required, " and ")
		}
	}
	return "a section of keys"
}

// defaults sets the fields of v whose tag has a default, including those of nested structs. It panics on a default that
// is not of the field's type: the tags are constants of the program.
func (ts Types) defaults(v reflect.Value) {
	if _, scalar := ts.Scalars[v.Type()]; scalar || v.Kind() != reflect.Struct {
		return
	}
	for _, f := range ts.Fields(v.Type()) {
		at := v.FieldByIndex(f.index)
		if f.Default == "" {
			ts.defaults(at)
		} else if _, err := ts.scan(f.Default, at); err != nil {
			panic(fmt.Sprintf("strict: default %s of %s: %v", f.Default, f.Name, err))
		}
	}
}

// secret reports whether a value of type t is or holds a secret, so that the text in its place may be one.
func (ts Types) secret(t reflect.Type) bool {
	if s, ok := ts.Scalars[t]; ok {
		return s.Secret
	}
	switch t.Kind() {
	case reflect.Pointer, reflect.Slice, reflect.Map:
		return ts.secret(t.Elem())
	case reflect.Struct:
		return slices.ContainsFunc(ts.Fields(t), func(f Field) bool { return ts.secret(f.Type) })
	}
	return false
}

var errNotRead = errors.New("not read")

// scan reads text into v if v is of a scalar type, else reports ok = false. The errors of text types say what is wrong
// and what was expected; those of built-in types say nothing.
func (ts Types) scan(text string, v reflect.Value) (ok bool, err error) {
	if s, ok := ts.Scalars[v.Type()]; ok {
		x, err := s.Parse(text)
		if err != nil {
			return true, errNotRead
		}
		v.Set(reflect.ValueOf(x))
		return true, nil
	}
	if u, ok := reflect.TypeAssert[encoding.TextUnmarshaler](v.Addr()); ok {
		return true, u.UnmarshalText([]byte(text))
	}
	switch v.Kind() {
	case reflect.Bool:
		if text != "true" && text != "false" {
			return true, errNotRead
		}
		v.SetBool(text == "true")
	case reflect.Int:
		i, err := strconv.Atoi(text)
		if err != nil {
			return true, errNotRead
		}
		v.SetInt(int64(i))
	case reflect.Float64:
		x, err := strconv.ParseFloat(text, 64)
		// Go accepts 1_000 and 0x1p4 as numbers; YAML does not.
		if err != nil || x-x != 0 || strings.ContainsAny(text, "_xX") {
			return true, errNotRead
		}
		v.SetFloat(x)
	case reflect.String:
		v.SetString(text)
	default:
		return false, nil
	}
	return true, nil
}
