package ui

import (
	"encoding/json"
	"testing"
)

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
