// Command gendocs writes the reference of the configuration file, docs/config.md and docs/config.schema.json, from the
// types of package configs: their tags, which the decoder obeys, and their doc comments. Run it from the module's root.
// A test fails if the files are out of date.
package main

import (
	"bytes"
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"reflect"
	"regexp"
	"slices"
	"strings"

	"github.com/invopop/jsonschema"
	commonconfig "github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/configs/internal/httpconfig"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
)

const module = "github.com/seed-de83e32b/governor"

func main() {
	files, err := generate()
	for _, name := range []string{"docs/config.md", "docs/config.schema.json"} {
		if err == nil {
			err = os.WriteFile(name, files[name], 0o644)
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "gendocs:", err)
		os.Exit(1)
	}
}

// generate returns the contents of the generated files by name, relative to the module's root, which must be the
// working directory.
func generate() (map[string][]byte, error) {
	s, err := schema()
	if err != nil {
		return nil, err
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(s); err != nil {
		return nil, err
	}
	return map[string][]byte{"docs/config.schema.json": text.Bytes(), "docs/config.md": markdown(s)}, nil
}

// Patterns that describe the text types in the schema. A test checks them against the types' own parsers.
const (
	durationPattern = `^([0-9]+y)?([0-9]+w)?([0-9]+d)?([0-9]+h)?([0-9]+m)?([0-9]+s)?([0-9]+ms)?$`
	percentPattern  = `^[0-9]+(\.[0-9]+)?%$`
	ratePattern     = `^[0-9]+(\.[0-9]+)?/[sm]$`
)

// schema reflects configs.Config.
func schema() (*jsonschema.Schema, error) {
	r := &jsonschema.Reflector{
		FieldNameTag:               "yaml",
		RequiredFromJSONSchemaTags: true,
		DoNotReference:             true,
		Anonymous:                  true,
		LookupComment:              foreignComment,
	}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema {
		switch t {
		case reflect.TypeFor[configs.Duration]():
			least := uint64(2)
			return &jsonschema.Schema{Type: "string", Pattern: durationPattern, MinLength: &least}
		case reflect.TypeFor[configs.Percent]():
			return &jsonschema.Schema{Type: "string", Pattern: percentPattern}
		case reflect.TypeFor[configs.PerSecond]():
			return &jsonschema.Schema{Type: "string", Pattern: ratePattern}
		case reflect.TypeFor[commonconfig.URL]():
			return &jsonschema.Schema{Type: "string", Format: "uri"}
		case reflect.TypeFor[commonconfig.TLSVersion]():
			return &jsonschema.Schema{Type: "string", Enum: []any{"TLS10", "TLS11", "TLS12", "TLS13"}}
		case reflect.TypeFor[commonconfig.Headers]():
			header := *r
			header.Mapper = nil
			s := header.ReflectFromType(reflect.TypeFor[commonconfig.Header]())
			s.Version = ""
			return &jsonschema.Schema{Type: "object", AdditionalProperties: s}
		}
		return nil
	}
	if err := r.AddGoComments(module, "./configs"); err != nil {
		return nil, fmt.Errorf("read the doc comments of ./configs (run gendocs from the module's root): %w", err)
	}
	for key, comment := range r.CommentMap {
		r.CommentMap[key] = strings.Join(strings.Fields(comment), " ")
	}
	t := reflect.TypeFor[configs.Config]()
	s := r.ReflectFromType(t)
	s.Title, s.Description = "governor's configuration", ""
	adjust(t, s)
	return s, nil
}

// foreignComment documents the fields of Prometheus' types.
func foreignComment(t reflect.Type, field string) string {
	documented, ok := httpconfig.Types.Keys[t]
	if !ok || field == "" {
		return ""
	}
	f, _ := t.FieldByName(field)
	name, _, _ := strings.Cut(f.Tag.Get("yaml"), ",")
	return documented[name]
}

// adjust makes s, the reflection of t, describe what the decoder does: it removes keys that the decoder refuses and
// adds ranges.
func adjust(t reflect.Type, s *jsonschema.Schema) {
	switch {
	case t.Kind() == reflect.Pointer:
		adjust(t.Elem(), s)
	case t.Kind() == reflect.Map && s.AdditionalProperties != nil:
		adjust(t.Elem(), s.AdditionalProperties)
	case t == reflect.TypeFor[commonconfig.Headers]():
		adjust(reflect.TypeFor[commonconfig.Header](), s.AdditionalProperties)
	case t.Kind() == reflect.Struct && s.Properties != nil:
		fields := httpconfig.Types.Fields(t)
		for _, name := range keys(s) {
			i := slices.IndexFunc(fields, func(f strict.Field) bool { return f.Name == name })
			if i < 0 {
				s.Properties.Delete(name)
				continue
			}
			property, _ := s.Properties.Get(name)
			limit(fields[i], property)
			adjust(fields[i].Type, property)
		}
	}
}

// limit adds the range of f: as numbers if s is numeric, else in words.
func limit(f strict.Field, s *jsonschema.Schema) {
	switch {
	case f.Range == nil:
	case s.Type == "string":
		s.Description += " Range: " + f.Range.String() + "."
	default:
		s.Minimum, s.Maximum = json.Number(f.Range.Min), json.Number(f.Range.Max)
		if f.Range.AboveMin {
			s.ExclusiveMinimum, s.Minimum = s.Minimum, ""
		}
		if f.Range.BelowMax {
			s.ExclusiveMaximum, s.Maximum = s.Maximum, ""
		}
	}
}

func keys(s *jsonschema.Schema) []string {
	var names []string
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		names = append(names, p.Key)
	}
	return names
}

//go:embed preamble.md
var preamble string

// markdown renders s as the reference page.
func markdown(s *jsonschema.Schema) []byte {
	var b bytes.Buffer
	b.WriteString(preamble)
	section(&b, "", s, map[string]string{})
	return b.Bytes()
}

// section writes the keys of the section at path as a table, then the sections inside it. It refers to a table that was
// written before: written maps each table to its path.
func section(b *bytes.Buffer, path string, s *jsonschema.Schema, written map[string]string) {
	if path == "" {
		fmt.Fprintf(b, "\n## The file\n")
	} else {
		fmt.Fprintf(b, "\n## `%s`\n\n%s\n", path, s.Description)
	}
	table := table(s)
	if first, twice := written[table]; twice {
		fmt.Fprintf(b, "\nThe keys are those of `%s`.\n", first)
		return
	}
	written[table] = path
	b.WriteString(table)
	for _, name := range keys(s) {
		p, _ := s.Properties.Get(name)
		at := strings.TrimPrefix(path+"."+name, ".")
		switch {
		case p.Properties != nil:
			section(b, at, p, written)
		case p.AdditionalProperties != nil && p.AdditionalProperties.Properties != nil:
			p.AdditionalProperties.Description = p.Description
			section(b, at+".NAME", p.AdditionalProperties, written)
		}
	}
}

// table writes the keys of s.
func table(s *jsonschema.Schema) string {
	var b strings.Builder
	fmt.Fprintf(&b, "\n| key | value | default | meaning |\n|---|---|---|---|\n")
	for _, name := range keys(s) {
		p, _ := s.Properties.Get(name)
		description, _, _ := strings.Cut(p.Description, " Range: ")
		text, unset := cutUnset(description)
		switch {
		case p.Default != nil:
			unset = fmt.Sprintf("`%v`", p.Default)
		case slices.Contains(s.Required, name):
			unset = "**required**"
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", name, value(p), unset, strings.ReplaceAll(text, "|", `\|`))
	}
	return b.String()
}

var unsetSentence = regexp.MustCompile(`(^| )Unset: ([^.]+(\.[^ ][^.]*)*)\.`)

// cutUnset moves the sentence "Unset: …." out of a description; it belongs in the column of defaults.
func cutUnset(description string) (rest, unset string) {
	m := unsetSentence.FindStringSubmatchIndex(description)
	if m == nil {
		return description, ""
	}
	return strings.TrimSpace(description[:m[0]] + description[m[1]:]), description[m[4]:m[5]]
}

// value describes the possible values of a key.
func value(s *jsonschema.Schema) string {
	kind := map[string]string{
		"integer": "whole number", "number": "number", "boolean": "`true` or `false`",
		"array": "list of text", "string": "text",
	}[s.Type]
	_, limits, limited := strings.Cut(s.Description, " Range: ")
	switch {
	case len(s.Enum) > 0:
		words := make([]string, len(s.Enum))
		for i, e := range s.Enum {
			words[i] = fmt.Sprintf("`%v`", e)
		}
		return strings.Join(words, ", ")
	case s.Type == "object":
		switch items := s.AdditionalProperties; {
		case s.Properties != nil || items == nil:
			return "section"
		case items.Properties != nil:
			return "sections, by name"
		default:
			return value(items) + ", by name"
		}
	case s.Pattern == durationPattern:
		kind = "duration"
	case s.Pattern == percentPattern:
		kind = "percentage"
	case s.Pattern == ratePattern:
		kind = "rate"
	}
	if limited {
		return kind + ", " + strings.TrimSuffix(limits, ".")
	}
	for _, bound := range []struct {
		word  string
		value json.Number
	}{
		{"at least", s.Minimum},
		{"more than", s.ExclusiveMinimum},
		{"at most", s.Maximum},
		{"less than", s.ExclusiveMaximum},
	} {
		if bound.value != "" {
			kind += fmt.Sprintf(", %s %s", bound.word, bound.value)
		}
	}
	return kind
}
