package ui

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/test/golden"
)

// schemaFile describes the exports.
const schemaFile = "../../../docs/govtop.schema.json"

func TestExport(t *testing.T) {
	at := fixture.Now.Add(-time.Minute)
	for name, e := range map[string]Export{
		"the fleet": {Snapshot: Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}},
		"a loop with its past": {
			Snapshot: Snapshot{Status: fixture.Status(), Loops: fixture.Loops()}, Past: &at,
			History: fixture.History().Loops[:1],
		},
		"nothing": {
			Snapshot: Snapshot{Status: fixture.Status()}, History: []api.LoopHistory{{Service: "a", Knob: "rate"}},
		},
	} {
		t.Run(name, func(t *testing.T) {
			var written []byte
			save := func(name string, content []byte) (string, error) {
				written = content
				return "/srv/ana/" + name, nil
			}
			got := exportCmd(save, fixture.Now, e)().(exportedMsg)
			if got.err != nil || got.path != "/srv/ana/govtop-20261124T140327Z.json" {
				t.Errorf("exported to %s, %v", got.path, got.err)
			}
			if err := golden.Fits(t, schemaFile, written); err != nil {
				t.Error(err)
			}
			var back Export
			if err := json.Unmarshal(written, &back); err != nil {
				t.Fatal(err)
			}
			if len(back.Loops) != len(e.Loops) || (back.Past == nil) != (e.Past == nil) || len(back.History) != len(e.History) {
				t.Errorf("something is lost: %d loops, past %v, %d histories", len(back.Loops), back.Past, len(back.History))
			}
			for i, h := range e.History {
				if len(back.History[i].Points) != len(h.Points) {
					t.Errorf("%d points of %d", len(back.History[i].Points), len(h.Points))
				}
			}
		})
	}
}

func TestExportSaysWhyItFailed(t *testing.T) {
	full := func(string, []byte) (string, error) { return "", errors.New("no space left on device") }
	for want, save := range map[string]func(string, []byte) (string, error){"no space left": full, "no place to export to": nil} {
		got := exportCmd(save, fixture.Now, Export{})().(exportedMsg)
		if got.err == nil || !strings.Contains(got.err.Error(), want) {
			t.Errorf("got %v, want %q", got.err, want)
		}
	}
}

func TestJSONEscapesWhatATerminalWouldObey(t *testing.T) {
	const hostile = "\x1b[2J\u009b2Jé\x7f"
	out, err := EncodeJSON(map[string]string{"a": hostile})
	if err != nil {
		t.Fatal(err)
	}
	if want := "{\n  \"a\": \"\\u001b[2J\\u009b2Jé\\u007f\"\n}\n"; string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
	var back map[string]string
	if err := json.Unmarshal(out, &back); err != nil || back["a"] != hostile {
		t.Errorf("reads back as %q, %v", back["a"], err)
	}
}
