package arch

import (
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// policies are the names, in lower case, of what actuators/guard implements once for all ways to call a dependency:
// net/http, simulations, and what comes later. A second implementation would behave differently where it matters most,
// and a simulation of it would say nothing about the first.
var policies = []string{
	"backoff", "breaker", "circuitbreaker", "bulkhead", "retrybudget", "retrier", "retrypolicy", "hint",
}

// policyExceptions are types with such a name that are something else.
var policyExceptions = map[string]string{
	"actuators/consul.backoff": "how long a watcher waits before it connects to the store again; the transport does not " +
		"import guard",
}

// TestPoliciesAreImplementedOnce checks that nobody but actuators/guard implements a policy of the way out. Interfaces
// and plain data (no methods) of that name are fine: a plant declares what it needs, and a screen shows states.
func TestPoliciesAreImplementedOnce(t *testing.T) {
	seen := map[string]bool{}
	for _, p := range ourPackages(t) {
		path := short(p.ImportPath)
		if path == "actuators/guard" || under(path, "test") {
			continue
		}
		var files []*ast.File
		for _, name := range p.GoFiles {
			file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(p.Dir, name), nil, parser.SkipObjectResolution)
			if err != nil {
				t.Fatal(err)
			}
			files = append(files, file)
		}
		for _, name := range implemented(files) {
			full := path + "." + name
			seen[full] = true
			if policyExceptions[full] == "" {
				t.Errorf("%s: a second implementation of a policy; use the one in actuators/guard", full)
			}
		}
	}
	for name := range policyExceptions {
		if !seen[name] {
			t.Errorf("%s is an exception that does not exist any more", name)
		}
	}
}

// implemented returns the types of a package that have the name of a policy and at least one method.
func implemented(files []*ast.File) (names []string) {
	for _, file := range files {
		for _, d := range file.Decls {
			method, ok := d.(*ast.FuncDecl)
			if !ok || method.Recv == nil {
				continue
			}
			receiver := method.Recv.List[0].Type
			if star, ok := receiver.(*ast.StarExpr); ok {
				receiver = star.X
			}
			name, ok := receiver.(*ast.Ident)
			if ok && slices.Contains(policies, strings.ToLower(name.Name)) && !slices.Contains(names, name.Name) {
				names = append(names, name.Name)
			}
		}
	}
	return names
}

// TestImplementationIsFound proves that the test above can fail.
func TestImplementationIsFound(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
		type Breaker interface { Admit() bool }
		type bulkhead struct { Limit int }
		type RetryBudget struct { tokens float64 }
		func (b *RetryBudget) Take() bool { return b.tokens >= 1 }
		type backoff int
		func (b backoff) next() int { return 1 }
		func (b backoff) reset() {}`, parser.SkipObjectResolution)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := implemented([]*ast.File{file}), []string{"RetryBudget", "backoff"}; !slices.Equal(got, want) {
		t.Errorf("found %q, expected %q", got, want)
	}
}
