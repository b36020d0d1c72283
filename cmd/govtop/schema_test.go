package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"net/http/httptest"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/invopop/jsonschema"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/cmd/govtop/ui"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

//go:generate go test -run TestPublishedSchemaIsThatOfTheTypes -update-schema .

var updateSchema = flag.Bool("update-schema", false, "rewrite docs/govtop.schema.json from the types")

const schemaFile = "../../docs/govtop.schema.json"

// words are the types whose values are words. The schema lists them as examples: a later governor may add one.
var words = map[reflect.Type][]any{
	reflect.TypeFor[control.State](): {
		control.Steady, control.Raising, control.Cutting, control.AtMin, control.AtMax,
		control.Ineffective, control.Infeasible, control.Hold, control.Frozen, control.Override,
	},
	reflect.TypeFor[control.Mode](): {control.Observe, control.Shadow, control.Enforce},
	reflect.TypeFor[control.Knob](): {
		control.KnobConcurrency, control.KnobRate, control.KnobShed,
		control.KnobRetry, control.KnobCall("payments"),
	},
	reflect.TypeFor[api.Role]():            {api.Leader, api.Standby},
	reflect.TypeFor[api.Unit]():            {api.Requests, api.PerSecond, api.Occupancy, api.Seconds, api.Share, api.Retries},
	reflect.TypeFor[actuators.OrderKind](): {actuators.Freeze, actuators.Override},
}

// generate reflects ui.Export.
func generate(t *testing.T) []byte {
	t.Helper()
	r := &jsonschema.Reflector{
		Anonymous: true, ExpandedStruct: true,
		AllowAdditionalProperties: true, // members may be added
	}
	r.Mapper = func(t reflect.Type) *jsonschema.Schema {
		switch {
		case t == reflect.TypeFor[control.Number]():
			return &jsonschema.Schema{Extras: map[string]any{"type": []string{"number", "null"}}}
		case t == reflect.TypeFor[time.Time]():
			return &jsonschema.Schema{
				Type: "string", Format: "date-time", Pattern: `^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}(\.\d+)?(Z|[+-]\d{2}:\d{2})$`,
			}
		case words[t] != nil:
			return &jsonschema.Schema{Type: "string", Examples: words[t]}
		}
		return nil
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir(root)
	for _, dir := range []string{"./actuators", "./control", "./daemon/api", "./cmd/govtop/ui"} {
		if err := r.AddGoComments("github.com/seed-de83e32b/governor", dir); err != nil {
			t.Fatal(err)
		}
	}
	for key, comment := range r.CommentMap {
		r.CommentMap[key] = strings.Join(strings.Fields(comment), " ")
	}
	s := r.Reflect(ui.Export{})
	s.Title = "what govtop writes"
	var text bytes.Buffer
	encoder := json.NewEncoder(&text)
	encoder.SetEscapeHTML(false)
	encoder.SetIndent("", "  ")
	if err := encoder.Encode(s); err != nil {
		t.Fatal(err)
	}
	return text.Bytes()
}

func TestPublishedSchemaIsThatOfTheTypes(t *testing.T) {
	path, err := filepath.Abs(schemaFile)
	if err != nil {
		t.Fatal(err)
	}
	want := generate(t)
	if *updateSchema {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Error("docs/govtop.schema.json is not what the types say; run: go generate ./cmd/govtop")
	}
}

func TestOnceJSONIsAsTheSchemaSays(t *testing.T) {
	server := httptest.NewServer(&fixture.Server{})
	defer server.Close()
	for _, args := range [][]string{nil, {"--filter", "auth"}, {"--filter", "no such loop"}} {
		out, _, code := call(t, append([]string{"--once", "--output", "json", "--connect", server.URL}, args...)...)
		if code != exitOK {
			t.Fatalf("exit code %d", code)
		}
		if err := golden.Fits(t, schemaFile, []byte(out)); err != nil {
			t.Errorf("%v: %v", args, err)
		}
	}
}

// TestSchemaRefuses: a schema that accepts anything would be useless.
func TestSchemaRefuses(t *testing.T) {
	good, err := ui.EncodeJSON(ui.Snapshot{Status: fixture.Status(), Loops: fixture.Loops()})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, old, by string }{
		{"a number in words", `"setpoint": 0.112`, `"setpoint": "112ms"`},
		{"a missing member", `"service": "checkout",`, ``},
		{"null where something always is", `"loops": [`, `"was": [`},
		{"a time without a date", `"now": "2026-11-24T14:03:27Z"`, `"now": "14:03:27"`},
	} {
		bad := strings.ReplaceAll(string(good), c.old, c.by)
		if bad == string(good) {
			t.Fatalf("%s: the document has no %s", c.name, c.old)
		}
		if golden.Fits(t, schemaFile, []byte(bad)) == nil {
			t.Errorf("%s is valid", c.name)
		}
	}
	if err := golden.Fits(t, schemaFile, []byte(strings.Replace(string(good), "{", `{"newer": {"x": 1},`, 1))); err != nil {
		t.Errorf("a member of a later version is not valid: %v", err)
	}
}
