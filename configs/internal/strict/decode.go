// Package strict decodes YAML into tagged Go structs and reports everything that is wrong with a file in one run. Each
// problem has its line, its column and the path of the key.
//
// The decoders of YAML libraries stop at the first kind of error, know lines but not columns, and accept mistakes: 5
// for a duration, an unknown key in a nested node, the last of two equal keys. So this package walks the parsed nodes
// itself, along the types:
//
//	Latency Duration `yaml:"latency" jsonschema:"required" range:"(0s, 1h]" why:"…"`
//	                        │                    │              │             └ appended when out of range
//	                        │                    │              └ in the notation of the type
//	                        │                    └ required, enum=…, default=…: the keywords of the JSON Schema
//	                        └ the key; ",inline" merges the keys of a struct, or takes the remaining ones into a map
//
// Scalars are bool, int, float64, string, encoding.TextUnmarshaler, and those listed in Types. Other types never become
// text silently: "port: 0123" for a string is refused, with advice to quote it. Aliases and merge keys (<<) work as
// usual; explicit tags (!!str) and a second document do not. An empty section ("timing:") counts as one without keys;
// an empty scalar is a problem.
package strict

import (
	"cmp"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"

	"github.com/seed-de83e32b/governor/configs/suggest"
)

// Problem is one thing wrong with a file. Line and Column count from 1.
type Problem struct {
	Line, Column int
	Path         string // services.checkout.slo.latency; "" for the file as a whole
	Text         string
}

// Document is the result of decoding one file.
type Document struct {
	Problems []Problem

	lines      []string            // of the file
	unreadable bool                // not YAML, or empty
	positions  map[string]position // of every key read, by path
	failed     map[string]bool     // paths with a problem at or below them
	misspelled map[string]bool     // sections with an unknown key
}

type position struct{ line, column int }

// Decode reads data into the struct that into points to. Fields whose key is absent keep their value, or take the
// default of their tag. It never panics on any input. If the Document has problems, into is only partly filled.
func Decode(data []byte, into any, types Types) *Document {
	d := decoder{types: types, doc: &Document{
		lines: strings.Split(string(data), "\n"), positions: map[string]position{"": {1, 1}},
		failed: map[string]bool{}, misspelled: map[string]bool{},
	}}
	root, problem := parse(data)
	if problem != nil {
		d.doc.Problems = []Problem{*problem}
		d.doc.failed[""], d.doc.unreadable = true, true
		return d.doc
	}
	if absent(root) {
		root.Line, root.Column = 1, 1
	}
	types.defaults(reflect.ValueOf(into).Elem())
	d.value("", root, reflect.ValueOf(into).Elem(), Field{})
	return d.doc
}

// Add reports a problem with the value at path, at its position or that of the nearest section around it.
func (d *Document) Add(path, format string, args ...any) {
	p := d.at(path)
	d.add(p.line, p.column, path, fmt.Sprintf(format, args...))
}

// AddWithin reports a problem with the text at path, offset bytes into it. The position is that very character if the
// file has the text literally, else the start of the text, for example if it is folded or has escapes.
func (d *Document) AddWithin(path, text string, offset int, format string, args ...any) {
	p, before := d.at(path), text[:offset]
	row, start := strings.Count(before, "\n"), 1+strings.LastIndex(before, "\n")
	if at, ok := d.literal(p, strings.Split(text, "\n"), row); ok {
		p = position{at.line, at.column + utf8.RuneCountInString(before[start:])}
	}
	d.add(p.line, p.column, path, fmt.Sprintf(format, args...))
}

// literal returns where row number row of a text is in the file; its value begins at p.
func (d *Document) literal(p position, text []string, row int) (position, bool) {
	source := func(line int) string {
		if line > len(d.lines) {
			return ""
		}
		return strings.TrimSuffix(d.lines[line-1], "\r")
	}
	first := []rune(source(p.line))
	if first = first[min(p.column-1, len(first)):]; len(first) == 0 {
		return position{}, false
	}
	block := first[0] == '|'
	switch {
	case block:
		at := position{line: p.line + 1 + row}
		line := source(at.line)
		at.column = 1 + utf8.RuneCountInString(line) - utf8.RuneCountInString(text[row])
		return at, text[row] != "" && strings.HasSuffix(line, text[row]) &&
			strings.TrimLeft(strings.TrimSuffix(line, text[row]), " ") == ""
	case len(text) > 1: // folded
		return position{}, false
	case first[0] == '"' || first[0] == '\'':
		p.column++
		first = first[1:]
	}
	return p, strings.HasPrefix(string(first), text[0])
}

// Misspelled reports whether the section at path has an unknown key, which may be a misspelled required one.
func (d *Document) Misspelled(path string) bool { return d.misspelled[path] }

// Unreadable reports whether the file is not a YAML document, so that none of its keys were read.
func (d *Document) Unreadable() bool { return d.unreadable }

func (d *Document) at(path string) position {
	for p := path; ; p = parent(p) {
		if pos, ok := d.positions[p]; ok {
			return pos
		}
	}
}

// Position returns the line and the column of the value at path, or of the nearest section around it.
func (d *Document) Position(path string) (line, column int) {
	p := d.at(path)
	return p.line, p.column
}

// Has reports whether the file sets path to a value that was read without a problem.
func (d *Document) Has(path string) bool {
	_, ok := d.positions[path]
	return ok && !d.failed[path]
}

// OK reports whether nothing is wrong at or below path, present or not.
func (d *Document) OK(path string) bool { return !d.failed[path] }

func (d *Document) add(line, column int, path, text string) {
	d.Problems = append(d.Problems, Problem{Line: line, Column: column, Path: path, Text: text})
	for p := path; ; p = parent(p) {
		d.failed[p] = true
		if p == "" {
			return
		}
	}
}

// Sort sorts problems by position.
func Sort(problems []Problem) {
	slices.SortStableFunc(problems, func(a, b Problem) int {
		return cmp.Or(a.Line-b.Line, a.Column-b.Column, strings.Compare(a.Path, b.Path))
	})
}

// Join appends a key to a path, in quotes if it is not a plain word.
func Join(path, key string) string {
	if key == "" || strings.ContainsFunc(key, func(r rune) bool { return r <= ' ' || strings.ContainsRune(`."[]`, r) }) {
		key = strconv.Quote(key)
	}
	if path == "" {
		return key
	}
	return path + "." + key
}

// parent cuts the last element off a path made by Join.
func parent(path string) string {
	quoted := false
	for i := len(path) - 1; i > 0; i-- {
		switch {
		case path[i] == '"' && (i-len(strings.TrimRight(path[:i], `\`)))%2 == 0: // not escaped
			quoted = !quoted
		case path[i] == '.' && !quoted, path[i] == '[' && !quoted:
			return path[:i]
		}
	}
	return ""
}

type decoder struct {
	types Types
	doc   *Document
}

func (d *decoder) fail(n *yaml.Node, path, format string, args ...any) {
	d.doc.add(max(1, n.Line), max(1, n.Column), path, fmt.Sprintf(format, args...))
}

// value reads n into v under the demands of f.
func (d *decoder) value(path string, n *yaml.Node, v reflect.Value, f Field) {
	if n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	if _, seen := d.doc.positions[path]; !seen || path == "" {
		d.doc.positions[path] = position{max(1, n.Line), max(1, n.Column)}
	}
	if n.Style&yaml.TaggedStyle != 0 {
		d.fail(n, path, "an explicit tag; expected %s without one", d.types.expected(base(v.Type())))
		return
	}
	if v.Kind() == reflect.Pointer {
		v.Set(reflect.New(v.Type().Elem()))
		v = v.Elem()
		d.types.defaults(v)
	}
	if d.scalar(path, n, v, f) {
		return
	}
	null := n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
	switch {
	case v.Kind() == reflect.Slice && n.Kind == yaml.SequenceNode:
		for i, item := range n.Content {
			x := reflect.New(v.Type().Elem()).Elem()
			d.value(fmt.Sprintf("%s[%d]", path, i), item, x, Field{})
			v.Set(reflect.Append(v, x))
		}
	case v.Kind() == reflect.Struct && (n.Kind == yaml.MappingNode || null):
		d.section(path, n, v)
	case v.Kind() == reflect.Map && (n.Kind == yaml.MappingNode || null):
		v.Set(reflect.MakeMap(v.Type()))
		for _, e := range d.entries(path, n) {
			d.item(path, e, v)
		}
	case n.Kind == yaml.ScalarNode && !null && d.types.secret(v.Type()):
		d.fail(n, path, "text; expected %s", d.types.expected(v.Type()))
	default:
		d.fail(n, path, "%s; expected %s", describe(n), d.types.expected(v.Type()))
	}
}

// item reads one entry of a map.
func (d *decoder) item(path string, e entry, v reflect.Value) {
	x := reflect.New(v.Type().Elem()).Elem()
	d.types.defaults(x)
	path = Join(path, e.name)
	d.doc.positions[path] = position{e.key.Line, e.key.Column}
	d.value(path, e.value, x, Field{})
	v.SetMapIndex(reflect.ValueOf(e.name).Convert(v.Type().Key()), x)
}

// scalar reads n into v if v is of a scalar type, and reports whether it is.
func (d *decoder) scalar(path string, n *yaml.Node, v reflect.Value, f Field) bool {
	isScalar, err := d.types.scan(n.Value, v)
	if !isScalar {
		return false
	}
	expected, tag := d.types.expected(v.Type()), n.ShortTag()
	if len(f.Enum) > 0 {
		expected = "one of " + strings.Join(f.Enum, ", ")
	}
	secret := d.types.Scalars[v.Type()].Secret
	_, listed := d.types.Scalars[v.Type()]
	text := v.Kind() == reflect.String || listed
	switch {
	case n.Kind != yaml.ScalarNode:
		d.fail(n, path, "%s; expected %s", describe(n), expected)
	case tag == "!!null":
		d.fail(n, path, "no value; expected %s", expected)
	case text && tag != "!!str" && secret:
		d.fail(n, path, "a value that YAML does not read as text; put it in quotes")
	case text && tag != "!!str":
		d.fail(n, path, "YAML does not read %s as text; expected %s, in quotes: %q", n.Value, expected, n.Value)
	case err == nil && tag == "!!str" && builtin(v.Type()):
		d.fail(n, path, "%q in quotes; expected %s without quotes", n.Value, expected)
	case errors.Is(err, errNotRead) && secret:
		d.fail(n, path, "a value that cannot be read; expected %s", expected)
	case errors.Is(err, errNotRead):
		d.fail(n, path, "%q; expected %s", n.Value, expected)
	case err != nil:
		d.fail(n, path, "%v", err)
	case len(f.Enum) > 0 && !slices.Contains(f.Enum, n.Value):
		d.fail(n, path, "%q; expected %s%s", n.Value, expected, didYouMean(n.Value, f.Enum))
	case f.Range != nil && !f.Range.contains(number(v)):
		why := ""
		if f.Why != "" {
			why = ": " + f.Why
		}
		d.fail(n, path, "%s is out of range; expected %s%s", n.Value, f.Range, why)
	}
	return true
}

// builtin distinguishes 5 (an int) from 5s (text that is stored as an int).
func builtin(t reflect.Type) bool {
	return t == reflect.TypeFor[bool]() || t == reflect.TypeFor[int]() || t == reflect.TypeFor[float64]()
}

// section reads the keys of a struct.
func (d *decoder) section(path string, n *yaml.Node, v reflect.Value) {
	fields := d.types.Fields(v.Type())
	var names []string
	rest := reflect.Value{}
	for _, f := range fields {
		if f.rest {
			rest = v.FieldByIndex(f.index)
			rest.Set(reflect.MakeMap(rest.Type()))
			continue
		}
		names = append(names, f.Name)
	}
	present := map[string]bool{}
	for _, e := range d.entries(path, n) {
		i := slices.IndexFunc(fields, func(f Field) bool { return !f.rest && f.Name == e.name })
		switch {
		case i >= 0:
			present[e.name] = true
			f := fields[i]
			at := Join(path, e.name)
			if k := base(f.Type).Kind(); k == reflect.Struct || k == reflect.Map {
				d.doc.positions[at] = position{e.key.Line, e.key.Column}
			}
			d.value(at, e.value, v.FieldByIndex(f.index), f)
		case rest.IsValid():
			d.item(path, e, rest)
		default:
			d.doc.misspelled[path] = true
			if advice, was := d.types.Removed[v.Type()][e.name]; was {
				d.fail(e.key, Join(path, e.name), "no longer a setting: %s", advice)
				continue
			}
			hint := didYouMean(e.name, names)
			if hint == "" {
				hint = "; expected one of " + strings.Join(names, ", ")
			}
			d.fail(e.key, Join(path, e.name), "unknown key%s", hint)
		}
	}
	for _, f := range fields {
		if f.Required && !present[f.Name] {
			p := d.doc.at(path)
			d.doc.add(p.line, p.column, Join(path, f.Name), "missing; expected "+d.types.expected(base(f.Type)))
		}
	}
}

func didYouMean(s string, names []string) string {
	if name := suggest.Nearest(s, names); name != "" {
		return fmt.Sprintf("; did you mean %q?", name)
	}
	return ""
}

// entry is one key of a mapping with its value.
type entry struct {
	name       string
	key, value *yaml.Node
}

// entries returns the keys of the mapping n in file order, merged ones last. It reports keys that are set twice, and
// keys that are not words.
func (d *decoder) entries(path string, n *yaml.Node) []entry {
	var entries, merged []entry
	first := map[string]int{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if absent(value) {
			// It lies where the parser noticed, which may be lines below.
			value.Line, value.Column = key.Line, key.Column
		}
		if key.Kind == yaml.AliasNode {
			key = key.Alias
		}
		switch line, twice := first[key.Value]; {
		case key.Kind != yaml.ScalarNode:
			d.fail(n.Content[i], path, "%s as a key; expected a word", describe(key))
		case twice:
			d.fail(n.Content[i], Join(path, key.Value), "set twice, first on line %d", line)
		case key.ShortTag() == "!!merge":
			first[key.Value] = key.Line
			merged = append(merged, d.merge(path, value)...)
		default:
			first[key.Value] = n.Content[i].Line
			entries = append(entries, entry{key.Value, n.Content[i], value})
		}
	}
	for _, e := range merged {
		if _, own := first[e.name]; !own {
			first[e.name] = e.key.Line
			entries = append(entries, e)
		}
	}
	return entries
}

// merge returns the entries that <<: adds to a section: those of a mapping, or of several, with earlier ones winning. A
// merged mapping may not contain a merge itself, so no mapping can merge itself.
func (d *decoder) merge(path string, value *yaml.Node) []entry {
	from := value
	if from.Kind == yaml.AliasNode {
		from = from.Alias
	}
	sources := []*yaml.Node{from}
	if from.Kind == yaml.SequenceNode {
		sources = from.Content
	}
	var entries []entry
	for _, source := range sources {
		if source.Kind == yaml.AliasNode {
			source = source.Alias
		}
		if source.Kind != yaml.MappingNode {
			d.fail(value, path, "%s merged with <<; expected an alias of a section", describe(source))
			continue
		}
		if merges(source) {
			d.fail(value, path, "a merge of a section that merges in turn; expected one level of <<")
			continue
		}
		entries = append(entries, d.entries(path, source)...)
	}
	return entries
}

// absent reports whether n is a missing value.
func absent(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.Value == "" && n.ShortTag() == "!!null"
}

func merges(section *yaml.Node) bool {
	for i := 0; i < len(section.Content); i += 2 {
		if key := section.Content[i]; key.Kind == yaml.ScalarNode && key.ShortTag() == "!!merge" {
			return true
		}
	}
	return false
}

// describe describes n in words.
func describe(n *yaml.Node) string {
	switch {
	case n.Kind == yaml.MappingNode:
		return "a section of keys"
	case n.Kind == yaml.SequenceNode:
		return "a list"
	case n.ShortTag() == "!!null":
		return "no value"
	}
	return strconv.Quote(n.Value)
}
