package contract

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/invopop/jsonschema"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/test/golden"
)

//go:generate go test -run TestPublishedSchemaIsThatOfTheTypes -update .

const schemaFile = "docs/setting.schema.json"

// bounds are the limits that the types alone do not express, by the path of the field. JSON Schema cannot express order
// between fields (min ≤ limit ≤ max).
var bounds = map[string]func(*jsonschema.Schema){
	"schema":  between(1, actuators.Schema),
	"service": compartmentName, "callee": serviceName,
	"epoch": between(1, actuators.MaxOrdinal), "revision": between(1, actuators.MaxOrdinal),
	"issued_at": rfc3339, "changed_at": rfc3339,
	"lease_seconds":       above(0, actuators.MaxLeaseSeconds),
	"concurrency.limit":   between(1, actuators.MaxCount),
	"concurrency.ceiling": between(1, actuators.MaxCount), "concurrency.fallback": between(1, actuators.MaxCount),
	"concurrency.latency_target_seconds": above(0, actuators.MaxSeconds),
	"concurrency.min":                    between(1, actuators.MaxCount),
	"concurrency.max":                    between(1, actuators.MaxCount),
	"rate.per_second":                    between(0, actuators.MaxPerSecond),
	"rate.burst":                         between(1, actuators.MaxPerSecond),
	"rate.instances":                     between(1, actuators.MaxCount), "rate.borrow": between(0, actuators.MaxBorrow),
	"rate.fallback": between(0, actuators.MaxPerSecond),
	"rate.min":      between(0, actuators.MaxPerSecond), "rate.max": above(0, actuators.MaxPerSecond),
	"shed.threshold": between(0, 1), "shed.fallback": between(0, 1), "shed.min": between(0, 1), "shed.max": between(0, 1),
	"retry.budget_ratio": between(0, 1), "retry.fallback": between(0, 1), "retry.min": between(0, 1),
	"retry.max": between(0, 1),
	"reason":    func(*jsonschema.Schema) {},
}

func number(v float64) json.Number { return json.Number(fmt.Sprintf("%.0f", v)) }

func between(least, most float64) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.Minimum, s.Maximum = number(least), number(most) }
}

const namePattern = `\.*[A-Za-z0-9_:@+~-][A-Za-z0-9._:@+~-]*`

func serviceName(s *jsonschema.Schema) {
	s.Pattern = "^" + namePattern + "$"
	s.MaxLength = new(uint64(actuators.MaxServiceName))
}

// compartmentName is that of a service or a route. A pattern cannot say how long each part may be.
func compartmentName(s *jsonschema.Schema) {
	s.Pattern = "^" + namePattern + "(/" + namePattern + ")?$"
	s.MaxLength = new(uint64(2*actuators.MaxServiceName + 1))
}

func above(least, most float64) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.ExclusiveMinimum, s.Maximum = number(least), number(most) }
}

func rfc3339(s *jsonschema.Schema) {
	s.Pattern = `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`
}

// generate reflects actuators.Setting.
func generate(t *testing.T) []byte {
	t.Helper()
	t.Chdir("../..")
	r := &jsonschema.Reflector{
		Anonymous: true, DoNotReference: true, ExpandedStruct: true,
		AllowAdditionalProperties: true, // unknown fields are ignored
	}
	if err := r.AddGoComments("github.com/seed-de83e32b/governor", "./actuators"); err != nil {
		t.Fatal(err)
	}
	s := r.Reflect(actuators.Setting{})
	s.Title = "governor's Setting"
	s.Description = "What governor publishes for one service in Consul KV, under governor/services/<service>/setting, " +
		"for a route of a service, under governor/services/<service>/routes/<route>/setting, or " +
		"for the calls of a service to a dependency, under governor/services/<service>/calls/<callee>/setting."

	seen := 0
	var refine func(path string, s *jsonschema.Schema)
	refine = func(path string, s *jsonschema.Schema) {
		for p := s.Properties.Oldest(); p != nil; p = p.Next() {
			field := path + p.Key
			if p.Value.Type == "object" {
				refine(field+".", p.Value)
				continue
			}
			bound, ok := bounds[field]
			if !ok {
				t.Errorf("no bounds are stated for the field %s", field)
				continue
			}
			seen++
			bound(p.Value)
		}
	}
	refine("", s)
	if seen != len(bounds) {
		t.Errorf("bounds are stated for %d fields, and %d exist", len(bounds), seen)
	}
	s.Required = nil
	for p := s.Properties.Oldest(); p != nil; p = p.Next() {
		switch p.Key {
		case "issued_at", "changed_at", "reason": // for people
		case "callee": // only of a call's Setting, which has one knob and is of no route
			others := &jsonschema.Schema{}
			for _, knob := range []string{"rate", "shed", "retry"} {
				others.AnyOf = append(others.AnyOf, &jsonschema.Schema{Required: []string{knob}})
			}
			routes := jsonschema.NewProperties()
			routes.Set("service", &jsonschema.Schema{Pattern: "/"})
			others.AnyOf = append(others.AnyOf, &jsonschema.Schema{Properties: routes})
			s.DependentSchemas = map[string]*jsonschema.Schema{p.Key: {Not: others}}
		case "concurrency", "rate", "shed", "retry":
			s.AnyOf = append(s.AnyOf, &jsonschema.Schema{Required: []string{p.Key}})
		default:
			s.Required = append(s.Required, p.Key)
		}
	}
	raw, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	return append(raw, '\n')
}

func TestPublishedSchemaIsThatOfTheTypes(t *testing.T) {
	want := generate(t)
	if *golden.Update {
		if err := os.WriteFile(schemaFile, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("%s is not what the types of package actuators say; run: go generate ./test/contract", schemaFile)
	}
}

const complete = `{"schema":1,"service":"checkout","epoch":42,"revision":7,"issued_at":"2025-11-25T09:30:00Z",` +
	`"changed_at":"2025-11-25T09:29:00.5+01:00","lease_seconds":180,"reason":"mean 140 ms",` +
	`"concurrency":{"limit":40,"ceiling":80,"latency_target_seconds":0.12,"fallback":60,"min":20,"max":400},` +
	`"rate":{"per_second":800,"burst":80,"instances":4,"fallback":1000,"min":100,"max":5000},` +
	`"shed":{"threshold":0.6,"fallback":0.6,"min":0.4,"max":1},` +
	`"retry":{"budget_ratio":0.1,"fallback":0.1,"min":0,"max":0.2}}`

const ofCalls = `{"schema":1,"service":"checkout","callee":"payments","epoch":42,"revision":7,"lease_seconds":180,` +
	`"concurrency":{"limit":40,"ceiling":80,"latency_target_seconds":0.12,"fallback":60,"min":20,"max":400}}`

// The schema is the contract for readers that are not written in Go. It must say what Decode does, as far as a schema
// can: the test replaces each field of a complete document by every kind of value, and leaves it out.
func TestSchemaAndDecodeAgree(t *testing.T) {
	schema := golden.Schema(t, "../../"+schemaFile)
	agree := func(name, raw string) {
		t.Helper()
		var document any
		if err := json.Unmarshal([]byte(raw), &document); err != nil {
			t.Fatalf("%s: %v in %s", name, err, raw)
		}
		_, decodeErr := actuators.Decode([]byte(raw))
		schemaErr := schema.Validate(document)
		if (decodeErr == nil) != (schemaErr == nil) {
			t.Errorf("%s: Decode says %v, the schema says %v", name, decodeErr, schemaErr)
		}
	}
	agree("complete", complete)
	agree("of calls", ofCalls)
	agree("of calls, with a knob of the service", strings.Replace(complete, `"epoch"`, `"callee":"payments","epoch"`, 1))
	agree("of a route", strings.Replace(complete, `"checkout"`, `"checkout/export"`, 1))
	agree("of the calls of a route", strings.Replace(ofCalls, `"checkout"`, `"checkout/export"`, 1))
	for _, name := range []string{"checkout/", "/export", "a/b/c", "a//b", "a/..", "../b", "a/b c", strings.Repeat("a", 258)} {
		agree("named "+name, strings.Replace(complete, `"checkout"`, `"`+name+`"`, 1))
	}
	agree("blank", `{}`)
	agree("an array", `[]`)
	agree("unknown field", strings.Replace(complete, `{"schema"`, `{"x":{"y":[null]},"schema"`, 1))
	agree("no knob", `{"schema":1,"service":"a","epoch":1,"revision":1,"lease_seconds":1}`)

	var root map[string]any
	marshal := func() string {
		raw, err := json.Marshal(root)
		if err != nil {
			t.Fatal(err)
		}
		return string(raw)
	}
	replaced := 0
	var walk func(path string, object map[string]any)
	walk = func(path string, object map[string]any) {
		for name, good := range object {
			if knob, ok := good.(map[string]any); ok {
				walk(name+".", knob)
			}
			for _, bad := range []any{
				nil, "", "text", "a//b", "..", true, []any{}, map[string]any{}, -1, 0.5, 1e300, json.Number("1e17"), good,
			} {
				// These fit the schema but break an order between fields, which the schema cannot express.
				if path != "" && bad == 0.5 {
					continue
				}
				object[name] = bad
				agree(fmt.Sprintf("%s%s = %v", path, name, bad), marshal())
				replaced++
			}
			delete(object, name)
			agree("without "+path+name, marshal())
			object[name] = good
		}
	}
	for _, document := range []string{complete, ofCalls} {
		root = nil
		if err := json.Unmarshal([]byte(document), &root); err != nil {
			t.Fatal(err)
		}
		walk("", root)
	}
	if replaced < 300 {
		t.Errorf("only %d replacements tried", replaced)
	}
}

// The documents in the manual are valid.
func TestManualsExampleIsValid(t *testing.T) {
	page, err := os.ReadFile("../../docs/setting.md")
	if err != nil {
		t.Fatal(err)
	}
	schema := golden.Schema(t, "../../"+schemaFile)
	examples := 0
	for rest := string(page); ; examples++ {
		_, after, found := strings.Cut(rest, "```json\n")
		if !found {
			break
		}
		var example string
		example, rest, _ = strings.Cut(after, "```")
		if _, err := actuators.Decode([]byte(example)); err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
		var document any
		if err := json.Unmarshal([]byte(example), &document); err != nil {
			t.Error(err)
		} else if err := schema.Validate(document); err != nil {
			t.Errorf("%v in\n%s", err, example)
		}
	}
	if examples == 0 {
		t.Error("docs/setting.md shows no Setting")
	}
}
