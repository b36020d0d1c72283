package edge

import (
	"errors"
	"net/url"
	"path"
	"slices"
	"strings"
)

// Paths is a list of paths: exact ones, and with a final /* everything below. Both are decoded.
type Paths struct {
	exact    map[string]bool
	prefixes []string // with the final slash
}

// Add adds a pattern: a path like /healthz, or /internal/* for all paths below /internal.
func (p *Paths) Add(pattern string) error {
	prefix, below := strings.CutSuffix(pattern, "/*")
	clean := prefix
	if !below {
		clean = path.Clean(pattern)
	}
	switch {
	case !strings.HasPrefix(pattern, "/"):
		return errors.New("expected a path that begins with a slash, like /healthz or /internal/*")
	case pattern == "/*":
		return errors.New("expected a part of the service, like /healthz or /internal/*; this is all of it, which would leave " +
			"nothing to guard")
	case strings.ContainsAny(pattern, "?#%") || strings.Contains(prefix, "*"):
		return errors.New("expected a decoded path without query, like /healthz; the only wildcard is a final /*")
	case below && path.Clean(prefix) != prefix, !below && clean != pattern && clean+"/" != pattern:
		return errors.New("expected a path without empty parts and dots, like " + path.Clean(pattern))
	}
	if below {
		p.prefixes = append(p.prefixes, prefix+"/")
		return nil
	}
	if p.exact == nil {
		p.exact = map[string]bool{}
	}
	p.exact[pattern] = true
	return nil
}

// Empty says whether there is no pattern.
func (p *Paths) Empty() bool { return len(p.exact) == 0 && len(p.prefixes) == 0 }

// Match says whether the path of u matches. It may come percent-encoded, except for its slashes. Below a prefix, a path
// counts only if every reader takes it for the same one: not with dot segments, empty segments, parameters, backslashes
// or encoded percent signs, with which /internal/..;/buy would reach /buy past the guard. Match does not allocate.
func (p *Paths) Match(u *url.URL) bool {
	if u.RawPath != "" && strings.Count(u.RawPath, "/") != strings.Count(u.Path, "/") {
		return false // an encoded slash
	}
	return p.exact[u.Path] || p.below(u.Path) && plain(u.Path)
}

// below says whether a path begins like a pattern with a final /*.
func (p *Paths) below(path string) bool {
	return slices.ContainsFunc(p.prefixes, func(prefix string) bool { return strings.HasPrefix(path, prefix) })
}

func plain(path string) bool {
	if strings.ContainsAny(path, `%\;`) || strings.Contains(path, "//") {
		return false
	}
	for rest := path; rest != ""; {
		var segment string
		segment, rest, _ = strings.Cut(rest, "/")
		if segment == "." || segment == ".." {
			return false
		}
	}
	return true
}
