package ui

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/seed-de83e32b/governor/daemon/api"
)

// Filter selects loops by their text. The zero Filter selects all.
type Filter struct {
	text    string
	pattern *regexp.Regexp
	inverse bool
}

// ParseFilter reads a filter: a case-insensitive regular expression, with a ! in front to select the loops that do not
// match. The error says what is wrong with the expression, without repeating it.
func ParseFilter(text string) (Filter, error) {
	expression, inverse := strings.CutPrefix(text, "!")
	if expression == "" {
		return Filter{}, nil
	}
	if _, err := regexp.Compile(expression); err != nil {
		if e, ok := errors.AsType[*syntax.Error](err); ok {
			err = fmt.Errorf("%s: %q", e.Code, e.Expr)
		}
		return Filter{}, err
	}
	return Filter{text: text, pattern: regexp.MustCompile("(?i:" + expression + ")"), inverse: inverse}, nil
}

// String returns the text that was parsed; "" if the filter selects all loops.
func (f Filter) String() string { return f.text }

// Match reports whether the filter selects the loop. It looks at the overview's words for it: name, mode, and state.
func (f Filter) Match(l api.Loop) bool { return f.match(name(l), &l) }

func (f Filter) match(name string, l *api.Loop) bool {
	if f.pattern == nil {
		return true
	}
	w := wordOf(stateOf(l))
	return f.pattern.MatchString(name+" "+string(l.Mode)+" "+w.glyph+" "+w.word) != f.inverse
}
