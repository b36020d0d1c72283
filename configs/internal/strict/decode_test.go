package strict

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
)

// word is a text type.
type word string

func (w *word) UnmarshalText(text []byte) error {
	if strings.ContainsRune(string(text), ' ') {
		return fmt.Errorf("%q; expected a single word", text)
	}
	*w = word(text)
	return nil
}

func (word) Expected() string { return "a word" }

// token stands for a secret of another package.
type token string

type inner struct {
	Name  string `yaml:"name" jsonschema:"required"`
	Level int    `yaml:"level" jsonschema:"default=3" range:"[1, 5)" why:"there are four"`
}

type common struct {
	Shared bool `yaml:"shared"`
	hidden int
}

type file struct {
	Word   word              `yaml:"word" jsonschema:"enum=left,enum=right,default=left"`
	Number float64           `yaml:"number"`
	Opt    *float64          `yaml:"opt"`
	List   []string          `yaml:"list"`
	Inner  inner             `yaml:"inner"`
	Ptr    *inner            `yaml:"ptr"`
	Map    map[string]*inner `yaml:"map"`
	Texts  map[string]string `yaml:"texts"`
	Token  token             `yaml:"token"`
	Rest   struct {
		Fixed string            `yaml:"fixed"`
		Any   map[string]string `yaml:",inline"`
	} `yaml:"rest"`
	common `yaml:"-"`
	Common common `yaml:",inline"`
	Skip   string `yaml:"-"`
}

var types = Types{Scalars: map[reflect.Type]Scalar{
	reflect.TypeFor[token](): {Expected: "a token", Secret: true, Parse: func(s string) (any, error) {
		if s == "bad" {
			return nil, errors.New("bad")
		}
		return token(s), nil
	}},
}}

func decode(text string) (file, *Document) {
	var f file
	d := Decode([]byte(text), &f, types)
	Sort(d.Problems)
	return f, d
}

func TestDecode(t *testing.T) {
	got, d := decode(`
word: right
number: -1.5e3
opt: 0
list: [a, b]
inner: {name: x, level: 4}
ptr: {name: "123"}
map:
  one: {name: n}
texts: {a: b, "c d": e}
token: t
shared: true
rest: {fixed: f, other: g}
`)
	if len(d.Problems) > 0 {
		t.Fatal(d.Problems)
	}
	zero := 0.0
	want := file{
		Word: "right", Number: -1500, Opt: &zero, List: []string{"a", "b"}, Inner: inner{"x", 4}, Ptr: &inner{"123", 3},
		Map: map[string]*inner{"one": {"n", 3}}, Texts: map[string]string{"a": "b", "c d": "e"}, Token: "t",
		Common: common{Shared: true, hidden: 0},
	}
	want.Rest.Fixed, want.Rest.Any = "f", map[string]string{"other": "g"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
	if !d.Has("map.one.name") || d.Has("map.two") || !d.OK("map.two") {
		t.Error("Has and OK disagree with the file")
	}
	if line, column := d.Position("map.one.level"); line != 9 || column != 3 {
		t.Errorf("an absent key lies at the section around it, 9:3; got %d:%d", line, column)
	}
}

// Defaults apply if the key, or the whole section, is absent.
func TestDefaults(t *testing.T) {
	f, d := decode("number: 1")
	if len(d.Problems) > 0 {
		t.Fatal(d.Problems)
	}
	if f.Word != "left" || f.Inner.Level != 3 || f.Ptr != nil || f.Opt != nil {
		t.Errorf("got %+v", f)
	}
	f, d = decode("inner:\n")
	if want := []Problem{{1, 1, "inner.name", "missing; expected text"}}; !slices.Equal(d.Problems, want) || f.Inner.Level != 3 {
		t.Errorf("got %+v, level %d", d.Problems, f.Inner.Level)
	}
}

func TestProblems(t *testing.T) {
	for _, tt := range []struct{ file, want string }{
		{"word: up", `1:7 word: "up"; expected one of left, right`},
		{"word: a b", `1:7 word: "a b"; expected a single word`},
		{"word: rihgt", `1:7 word: "rihgt"; expected one of left, right; did you mean "right"?`},
		{"number: 1_000", `1:9 number: "1_000"; expected a number`},
		{"number: .nan", `1:9 number: ".nan"; expected a number`},
		{`number: "1"`, `1:9 number: "1" in quotes; expected a number without quotes`},
		{"opt: ~", `1:6 opt: no value; expected a number`},
		{"list:\nopt:\n\n\ninner: {name: x}", `1:1 list: no value; expected a list
2:1 opt: no value; expected a number`},
		{"list: a", `1:7 list: "a"; expected a list`},
		{"list: [a, 1]", `1:11 list[1]: YAML does not read 1 as text; expected text, in quotes: "1"`},
		{"inner: {name: x, level: 5}", `1:25 inner.level: 5 is out of range; expected at least 1 and less than 5: there are four`},
		{"inner: {name: x, level: 99999999999999999999}", `1:25 inner.level: "99999999999999999999"; expected a whole number`},
		{"map: {a.b: {}}", `1:7 map."a.b".name: missing; expected text`},
		{"map: {a: }", `1:7 map.a.name: missing; expected text`},
		{"token: bad", `1:8 token: a value that cannot be read; expected a token`},
		{"token: 1", `1:8 token: a value that YAML does not read as text; put it in quotes`},
		{"hidden: 1", `1:1 hidden: unknown key; expected one of word, number, opt, list, inner, ptr, map, texts, token, rest, shared`},
		{"Skip: 1", `1:1 Skip: unknown key; expected one of word, number, opt, list, inner, ptr, map, texts, token, rest, shared`},
		{"shared: True", `1:9 shared: "True"; expected true or false`},
		{"x: &x {name: a}\ninner: *x", `1:1 x: unknown key; expected one of word, number, opt, list, inner, ptr, map, texts, token, rest, shared`},
		{"inner: {<<: [{name: a}, {name: b}], name: c, name: d}", `1:46 inner.name: set twice, first on line 1`},
		{"texts: {a: b\n", `1:1 : not YAML: did not find expected ',' or '}'`},
		{"number: 1\ntexts:\n\ta: b\n", `3:1 : a tab in the indentation; expected spaces`},
		{"number: 1\nlist:\n- a\n b: c\n", `4:2 : not YAML: mapping values are not allowed in this context`},
	} {
		_, d := decode(tt.file)
		var got []string
		for _, p := range d.Problems {
			got = append(got, fmt.Sprintf("%d:%d %s: %s", p.Line, p.Column, p.Path, p.Text))
		}
		if text := strings.Join(got, "\n"); text != tt.want {
			t.Errorf("%s\n got %s\nwant %s", tt.file, text, tt.want)
		}
	}
}

// A problem inside aliased keys is reported where they are written, once for each section that uses them.
func TestProblemBehindAnAlias(t *testing.T) {
	_, d := decode("inner: &i {name: x, level: 9}\nptr: *i\nmap: {m: {<<: *i, name: y}}\n")
	var got []string
	for _, p := range d.Problems {
		got = append(got, fmt.Sprintf("%d:%d %s", p.Line, p.Column, p.Path))
	}
	if want := []string{"1:28 inner.level", "1:28 map.m.level", "1:28 ptr.level"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

// The earlier of several merged sections wins, and the section's own keys win over all of them.
func TestMergeOrder(t *testing.T) {
	f, d := decode("map: {m: {<<: [{name: a, level: 1}, {name: b, level: 2}], name: c}}")
	if len(d.Problems) > 0 {
		t.Fatal(d.Problems)
	}
	if *f.Map["m"] != (inner{"c", 1}) {
		t.Errorf("got %+v", f.Map["m"])
	}
}

func TestAdd(t *testing.T) {
	_, d := decode("map:\n  a: {name: x, level: 2}\n")
	d.Add("map.a.level", "too %s", "low")
	d.Add("map.a.other", "absent")
	want := []Problem{{2, 23, "map.a.level", "too low"}, {2, 3, "map.a.other", "absent"}}
	if !slices.Equal(d.Problems, want) {
		t.Errorf("got %v", d.Problems)
	}
	if d.OK("map") || d.OK("map.a.level") || !d.OK("map.a.name") || d.Has("map.a.level") {
		t.Error("a problem must spoil its key and the sections around it, nothing else")
	}
}

func TestParent(t *testing.T) {
	for path, want := range map[string]string{
		"a": "", "a.b": "a", "a.b[3]": "a.b", "": "",
		`a."b.c"`: "a", `a."b.c".d`: `a."b.c"`, `"a.b"`: "", `a."x\"y.z"`: "a", `a."\\".b`: `a."\\"`, `a."\\"`: "a",
	} {
		if got := parent(path); got != want {
			t.Errorf("parent(%s) = %q, want %q", path, got, want)
		}
	}
}

// A range or default that its type cannot read is a mistake in the program.
func TestMalformedTagsPanic(t *testing.T) {
	for name, into := range map[string]any{
		"range": &struct {
			A int `yaml:"a" range:"[1; 2]"`
		}{},
		"bound": &struct {
			A int `yaml:"a" range:"[1, x]"`
		}{},
		"default": &struct {
			A int `yaml:"a" jsonschema:"default=x"`
		}{},
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: no panic", name)
				}
			}()
			Decode([]byte("a: 1"), into, Types{})
		}()
	}
}
