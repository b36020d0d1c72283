package main

import (
	"bytes"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/configs/internal/httpconfig"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
)

// The tests run in the module's root, as the command does.
func TestMain(m *testing.M) {
	if err := os.Chdir("../../.."); err != nil {
		panic(err)
	}
	os.Exit(m.Run())
}

func TestGeneratedFilesAreCurrent(t *testing.T) {
	files, err := generate()
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(name)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s does not say what the types say (%v); run: go generate ./configs", name, err)
		}
	}
}

// documented calls visit with the path of every key of the schema. NAME stands for names that users choose.
func documented(path string, s *jsonschema.Schema, visit func(path string, s *jsonschema.Schema)) {
	if s.Properties != nil {
		for _, name := range keys(s) {
			p, _ := s.Properties.Get(name)
			at := strings.TrimPrefix(path+"."+name, ".")
			visit(at, p)
			documented(at, p, visit)
		}
	}
	if s.AdditionalProperties != nil {
		documented(path+".NAME", s.AdditionalProperties, visit)
	}
}

func TestEveryKeyIsDocumentedAndClosed(t *testing.T) {
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	documented("", s, func(path string, p *jsonschema.Schema) {
		if len(p.Description) < 5 {
			t.Errorf("%s has no doc comment", path)
		}
		if p.Properties != nil && p.AdditionalProperties != jsonschema.FalseSchema {
			t.Errorf("%s: the schema takes unknown keys, the decoder does not", path)
		}
	})
}

// The annotated example shows every key, and nothing else.
func TestAnnotatedFileCoversEveryKey(t *testing.T) {
	text, err := os.ReadFile("configs/annotated.yml")
	if err != nil {
		t.Fatal(err)
	}
	full := uncomment(string(text))
	var doc yaml.Node
	if err := yaml.Unmarshal([]byte(full), &doc); err != nil {
		t.Fatalf("annotated.yml with its alternatives: %v\n%s", err, full)
	}
	shown := map[string]bool{}
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	collect("", doc.Content[0], s, shown)
	documented("", s, func(path string, _ *jsonschema.Schema) {
		if !shown[path] {
			t.Errorf("annotated.yml does not show %s", path)
		}
	})
	var c configs.Config
	for _, p := range strict.Decode([]byte(full), &c, httpconfig.Types).Problems {
		t.Errorf("annotated.yml with its alternatives: %+v", p)
	}
}

var key = regexp.MustCompile(`^[A-Za-z0-9_-]+: ?`)

// uncomment activates the alternatives, which are commented out.
func uncomment(text string) string {
	var out []string
	for line := range strings.SplitSeq(text, "\n") {
		indent := line[:len(line)-len(strings.TrimLeft(line, " "))]
		rest, commented := strings.CutPrefix(line[len(indent):], "#")
		nested := strings.TrimLeft(rest, " ")
		// Prose has one space after the #, a key none, a key below a key two or more.
		if commented && key.MatchString(nested) && len(rest)-len(nested) != 1 {
			line = indent + rest
		}
		out = append(out, line)
	}
	return strings.Join(out, "\n")
}

// collect records the documented path of every key in n.
func collect(path string, n *yaml.Node, s *jsonschema.Schema, shown map[string]bool) {
	if n.Kind != yaml.MappingNode {
		return
	}
	for i := 0; i < len(n.Content); i += 2 {
		at, below := path+".NAME", s.AdditionalProperties
		if s.Properties != nil {
			at = strings.TrimPrefix(path+"."+n.Content[i].Value, ".")
			below, _ = s.Properties.Get(n.Content[i].Value)
		}
		shown[at] = true
		if below != nil {
			collect(at, n.Content[i+1], below, shown)
		}
	}
}

// The patterns of the schema accept exactly what the parsers of the text types accept.
// (A pattern cannot count to the 290 years at which a duration overflows.)
func TestPatternsAgreeWithTheParsers(t *testing.T) {
	duration, percent := regexp.MustCompile(durationPattern), regexp.MustCompile(percentPattern)
	rate := regexp.MustCompile(ratePattern)
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(
			rapid.StringMatching(`[0-9]{0,2}(\.[0-9]{0,2})?[ %smhdwy]{0,2}`),
			rapid.StringMatching(`[0-9]{0,2}(\.[0-9]{0,2})?/?[smh]?`),
			rapid.StringMatching(`([0-9]{1,2}(ms|s|m|h|d|w|y)){1,3}`),
		).Draw(t, "text")
		var d configs.Duration
		if got, want := len(text) >= 2 && duration.MatchString(text), d.UnmarshalText([]byte(text)) == nil; got != want {
			t.Errorf("duration %q: the schema says %v, the parser %v", text, got, want)
		}
		var p configs.Percent
		if got, want := percent.MatchString(text), p.UnmarshalText([]byte(text)) == nil; got != want {
			t.Errorf("percentage %q: the schema says %v, the parser %v", text, got, want)
		}
		var r configs.PerSecond
		if got, want := rate.MatchString(text), r.UnmarshalText([]byte(text)) == nil; got != want {
			t.Errorf("rate %q: the schema says %v, the parser %v", text, got, want)
		}
	})
}

// The schema requires what the decoder requires, and accepts the same keys.
func TestSchemaAgreesWithTheDecoder(t *testing.T) {
	s, err := schema()
	if err != nil {
		t.Fatal(err)
	}
	var compare func(path string, t reflect.Type, s *jsonschema.Schema)
	compare = func(path string, typ reflect.Type, s *jsonschema.Schema) {
		for typ.Kind() == reflect.Pointer {
			typ = typ.Elem()
		}
		switch {
		case typ.Kind() == reflect.Map && s.AdditionalProperties != nil:
			compare(path+".NAME", typ.Elem(), s.AdditionalProperties)
		case typ.Kind() == reflect.Struct && s.Properties != nil:
			var names, required []string
			for _, f := range httpconfig.Types.Fields(typ) {
				names = append(names, f.Name)
				if f.Required {
					required = append(required, f.Name)
				}
				if p, ok := s.Properties.Get(f.Name); ok {
					compare(path+"."+f.Name, f.Type, p)
				}
			}
			if got := keys(s); !reflect.DeepEqual(got, names) || !reflect.DeepEqual(s.Required, required) {
				t.Errorf("%s: the schema has %v, requires %v; the decoder %v, %v", path, got, s.Required, names, required)
			}
		}
	}
	compare("", reflect.TypeFor[configs.Config](), s)
}
