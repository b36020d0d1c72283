package main

import (
	"fmt"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/alecthomas/kingpin/v2"
)

// namedValue is a flag's value whose errors name the flag, the text and what was expected. kingpin itself only passes
// on the error of strconv.
type namedValue struct {
	kingpin.Value
	flag, expected string
	whole          bool // kingpin takes 0.5 for the int 0, which often means another thing than little
}

func (v namedValue) Set(text string) error {
	err := v.Value.Set(text)
	if err == nil && v.whole {
		_, err = strconv.Atoi(text)
	}
	switch {
	case err == nil:
		return nil
	case v.expected != "":
		return fmt.Errorf("--%s=%s: expected %s", v.flag, safe(text), v.expected)
	default:
		return fmt.Errorf("--%s=%s: %w", v.flag, text, err)
	}
}

// nameFlags makes the errors of all flags name them, for the types whose text can be wrong: a string accepts any text,
// and a switch takes none.
func nameFlags(app *kingpin.Application) {
	name := func(clause *kingpin.FlagClause, flag *kingpin.FlagModel) {
		named := namedValue{Value: flag.Value, flag: flag.Name}
		if getter, ok := flag.Value.(kingpin.Getter); ok {
			switch getter.Get().(type) {
			case time.Duration:
				named.expected = "a duration with its unit, like 300ms or 30s"
			case *url.URL:
				named.expected = "a URL like http://127.0.0.1:8080"
			case int:
				named.expected, named.whole = "a whole number", true
			case uint64:
				named.expected = "a whole number"
			case float64:
				named.expected = "a number, like 0.6"
			default:
				return
			}
		} else if !strings.HasPrefix(flag.Name, "log.") {
			return
		}
		clause.SetValue(named)
	}
	for _, flag := range app.Model().Flags {
		name(app.GetFlag(flag.Name), flag)
	}
	for _, cmd := range app.Model().Commands {
		for _, flag := range cmd.Flags {
			name(app.GetCommand(cmd.Name).GetFlag(flag.Name), flag)
		}
	}
}

// flagGroup is a heading in the help of a command, and the flag that is the first below it.
type flagGroup struct{ first, heading string }

// groupFlags puts headings into the help of commands with many flags. The flags of a group follow each other.
func groupFlags(app *kingpin.Application, groups []flagGroup) {
	const flat = "Flags:\n{{.Context.Flags|FlagsToTwoColumns|FormatTwoColumns}}"
	const grouped = "{{range .Context.Flags|FlagGroups}}{{.Heading}}:\n{{.Flags|FlagsToTwoColumns|FormatTwoColumns}}\n{{end -}}"
	type group struct {
		Heading string
		Flags   []*kingpin.FlagModel
	}
	app.UsageTemplate(strings.Replace(kingpin.DefaultUsageTemplate, flat, grouped, 1))
	app.UsageFuncs(map[string]any{"FlagGroups": func(flags []*kingpin.FlagModel) []group {
		all := []group{{Heading: "Flags"}}
		for _, flag := range flags {
			for _, g := range groups {
				if g.first == flag.Name {
					all = append(all, group{Heading: g.heading})
				}
			}
			last := &all[len(all)-1]
			last.Flags = append(last.Flags, flag)
		}
		return all
	}})
}
