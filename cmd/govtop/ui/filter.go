package ui

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"

	"github.com/seed-de83e32b/governor/daemon/api"
)

// Filter chooses loops by their text. The zero Filter chooses all.
type Filter struct {
	text    string
	pattern *regexp.Regexp
	inverse bool
}

// ParseFilter reads a filter: a regular expression in any case, with a ! before it for the loops that do not match. The
// error says what is wrong with the expression, without repeating it.
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

// String returns the text that was parsed, "" where all loops are chosen.
func (f Filter) String() string { return f.text }

// Match reports whether the filter chooses the loop. It sees what the overview says of it in words: name, mode, and
// state.
func (f Filter) Match(l api.Loop) bool { return f.match(name(l), &l) }

func (f Filter) match(name string, l *api.Loop) bool {
	if f.pattern == nil {
		return true
	}
	w := wordOf(l.Decision.State)
	return f.pattern.MatchString(name+" "+string(l.Mode)+" "+w.glyph+" "+w.word) != f.inverse
}
