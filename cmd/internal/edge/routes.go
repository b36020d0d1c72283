package edge

import (
	"errors"
	"net/http"
	"strings"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// Routes give names to requests by their paths.
type Routes struct{ routes []route }

type route struct {
	paths Paths
	name  string
}

// Add adds PATH=NAME, after those added before: a pattern of Paths, and the name of its requests, which begins with a slash.
// Without a name, it is the pattern up to its wildcard.
func (s *Routes) Add(text string) error {
	pattern, name, named := strings.Cut(text, "=")
	if !named {
		name = strings.TrimSuffix(pattern, "/*")
	}
	if len(name) < 2 || name[0] != '/' {
		return errors.New("expected PATH=NAME, where NAME begins with a slash, like /api/v1/buy/*=/buy")
	}
	r := route{name: name}
	if err := r.paths.Add(pattern); err != nil {
		return err
	}
	s.routes = append(s.routes, r)
	return nil
}

// Empty says whether there is no route.
func (s *Routes) Empty() bool { return len(s.routes) == 0 }

// Of returns the name of the first route that r matches, or else what guardhttp calls it. It does not allocate for a clean path.
func (s *Routes) Of(r *http.Request) string {
	p := guardhttp.CleanPath(r.URL.Path)
	switch { // the final slash tells /live/ from /live
	case p == strings.TrimSuffix(r.URL.Path, "/"):
		p = r.URL.Path
	case p != "/" && strings.HasSuffix(r.URL.Path, "/"):
		p += "/"
	}
	for i := range s.routes {
		if of := &s.routes[i]; of.paths.exact[p] || of.paths.below(p) {
			return of.name
		}
	}
	return guardhttp.RouteOf(r)
}
