package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/seed-de83e32b/governor/test/programs"
)

// TestCompletion sources the shell's file from packaging/ and asks it for completions of a line, like a user who
// presses the tab key.
func TestCompletion(t *testing.T) {
	built := t.TempDir()
	build := exec.Command("go", "build", "-o", built, ".", "../governor")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	scripts, err := filepath.Abs("../../packaging/completions")
	if err != nil {
		t.Fatal(err)
	}
	shells := map[string]func(line string) *exec.Cmd{
		"bash": func(line string) *exec.Cmd {
			const ask = `source "$1"; read -ra COMP_WORDS <<<"${2//=/ = }"; [[ $2 == *[' '=] ]] && COMP_WORDS+=("")
				COMP_CWORD=$((${#COMP_WORDS[@]} - 1)); _governor_completion "${COMP_WORDS[0]}"; printf '%s\n' "${COMPREPLY[@]}"`
			return exec.Command("bash", "-c", ask, "bash", filepath.Join(scripts, "governor.bash"), line)
		},
		"fish": func(line string) *exec.Cmd {
			const ask = "source $argv[1]; complete -C $argv[2]"
			return exec.Command("fish", "--no-config", "-c", ask, filepath.Join(scripts, "governor.fish"), line)
		},
	}
	for shell, ask := range shells {
		for _, c := range []struct {
			line    string
			offers  []string // some of what is offered
			refuses string   // what is not
		}{
			{"govtop --th", []string{"--theme"}, "--once"},
			{"govtop --theme ", []string{"auto", "dark", "light", "mono"}, ""},
			{"govtop --once --output=j", []string{"json"}, "table"},
			{"govtop --graph b", []string{"braille", "block"}, "ascii"},
			{"govtop ", []string{"--connect", "--read-only"}, "--completion-bash"},
			{"govtop --connect ", nil, "--once"},
			{"governor r", []string{"run"}, "demo"},
			{"governor run --conf", []string{"--config.file"}, "--instance"},
			{"governor run --log.level ", []string{"debug", "warn"}, "--instance"},
		} {
			t.Run(shell+" "+c.line, func(t *testing.T) {
				programs.Find(t, shell)
				cmd := ask(c.line)
				cmd.Env = append(os.Environ(), "PATH="+built+string(os.PathListSeparator)+os.Getenv("PATH"))
				out, err := cmd.CombinedOutput()
				if err != nil {
					t.Fatalf("%v: %s", err, out)
				}
				var offered []string
				for word := range strings.FieldsSeq(string(out)) {
					flag, value, joined := strings.Cut(word, "=") // fish says --output=json whole
					if joined {
						flag = value
					}
					offered = append(offered, flag)
				}
				for _, want := range c.offers {
					if !slices.Contains(offered, want) {
						t.Errorf("%s is not offered: %q", want, offered)
					}
				}
				if slices.Contains(offered, c.refuses) {
					t.Errorf("%s is offered: %q", c.refuses, offered)
				}
			})
		}
	}
}
