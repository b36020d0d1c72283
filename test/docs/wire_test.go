package docs

import (
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/actuators/guard/wire"
)

// fieldsIn returns the fields in the table below a heading of docs/wire.md, as their examples are written.
func fieldsIn(t *testing.T, heading string) (fields []string) {
	t.Helper()
	_, section, found := strings.Cut(read(t, "docs/wire.md"), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	for _, row := range regexp.MustCompile("(?m)^\\| `([^`]+)` \\|").FindAllStringSubmatch(section, -1) {
		fields = append(fields, row[1])
	}
	if !found || len(fields) == 0 {
		t.Fatalf("docs/wire.md has no table of %s", heading)
	}
	return fields
}

// TestFieldTablesAreTheCodecs: what the tables show is all that the codec reads and writes.
func TestFieldTablesAreTheCodecs(t *testing.T) {
	shown := fieldsIn(t, "Fields of Guard-Context")
	context := wire.ParseContext(strings.Join(shown, ";"))
	compare(t, shown, context.String(), reflect.ValueOf(context), "Arrival.Route", "Attempt")
	shown = fieldsIn(t, "Fields of Guard-Answer")
	advice := wire.ParseAdvice(strings.Join(shown, ";"))
	compare(t, shown, wire.FormatAdvice(advice), reflect.ValueOf(advice))
}

// compare wants everything that is shown to be written, and nothing of what was read to be missing in the table: every part
// of value has been set, except those that do not travel or are zero in the example.
func compare(t *testing.T, shown []string, written string, value reflect.Value, except ...string) {
	t.Helper()
	known := strings.Split(written, ";")
	slices.Sort(known)
	slices.Sort(shown)
	if !slices.Equal(known, shown) {
		t.Errorf("docs/wire.md shows %q, the codec knows %q of it", shown, known)
	}
	for _, missing := range zeroes(value, "") {
		if !slices.Contains(except, missing) {
			t.Errorf("docs/wire.md shows no field that sets %s", missing)
		}
	}
}

// zeroes returns the names of the fields of a struct, and of the structs in it, that are zero.
func zeroes(v reflect.Value, prefix string) (names []string) {
	for i := range v.NumField() {
		name, field := prefix+v.Type().Field(i).Name, v.Field(i)
		switch {
		case field.Kind() == reflect.Struct:
			names = append(names, zeroes(field, name+".")...)
		case field.IsZero():
			names = append(names, name)
		}
	}
	return names
}
