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

// rule says what the packages at or below a folder may import, except in tests.
type rule struct {
	folder  string   // the longest matching folder decides
	ours    []string // packages of this project, exactly; "…/" at the end: the folder and all below it
	foreign bool     // whether modules of others are allowed
	why     string
}

var table = []rule{
	{
		"models",
		[]string{"models/"},
		false,
		"plants know nothing of the controllers they test, and a test of arithmetic needs no library",
	},
	{
		"actuators", nil, false,
		"services import it: they must not inherit a daemon's dependency graph",
	},
	{
		"actuators/little", nil, false,
		"both layers run it, the guard inside services too",
	},
	{
		"actuators/guard",
		[]string{"actuators", "actuators/little", "actuators/guard/", "actuators/internal/files", "actuators/internal/wait"},
		false,
		"it is the hot path of somebody else's service",
	},
	{
		"actuators/guard/guardprom",
		[]string{"actuators", "actuators/little", "actuators/guard/"},
		true,
		"the binding to client_golang, for services that use it",
	},
	{
		grpcBinding,
		[]string{"actuators/guard/", "actuators/internal/wait"},
		true,
		"the binding to gRPC, in a module of its own",
	},
	{
		"actuators/guard/guardotel",
		[]string{"actuators/guard"},
		true,
		"the binding to OpenTelemetry, in a module of its own",
	},
	{
		"actuators/source",
		[]string{"actuators", "actuators/internal/files", "actuators/internal/wait"},
		false,
		"a transport like actuators/consul, for services that want no library",
	},
	{
		"actuators/source/sourcetest",
		[]string{"actuators", "actuators/guard"},
		false,
		"the contract between a source and the guard",
	},
	{
		"actuators/consul",
		[]string{"actuators", "actuators/consul/", "actuators/internal/wait", "actuators/waittest"},
		true,
		"the transport carries Settings and knows neither who decides nor who obeys",
	},
	{
		"control",
		[]string{"control/", "actuators/little"},
		false,
		"the pure core: no I/O, so that any run can be replayed",
	},
	{
		"signals",
		[]string{"control", "control/format", "signals/"},
		true,
		"the sensor fills Measurements and knows nothing of settings",
	},
	{
		"daemon",
		[]string{"control/", "actuators", "actuators/consul", "daemon/"},
		true,
		"the loop closes here, between a Sensor and a Store that others implement: it names no query and no file",
	},
	{
		"daemon/publish",
		[]string{"control", "actuators"},
		false,
		"pure: the daemon and the simulator publish by the same arithmetic",
	},
	{
		"daemon/api",
		[]string{"control", "actuators"},
		true,
		"the wire types and the client: every reader of the API imports it",
	},
	{
		"daemon/explain",
		[]string{"control/", "actuators", "daemon/api"},
		false,
		"from a Loop to words",
	},
	{
		"configs",
		[]string{"control", "signals", "actuators", "actuators/consul", "actuators/little", "configs/"},
		true,
		"the configuration speaks of all of them and runs none of them",
	},
	{
		"cmd",
		[]string{"models/", "actuators/", "control/", "signals/", "configs/", "daemon/", "cmd/"},
		true,
		"the binaries wire everything, but nothing imports tests",
	},
	{
		"test",
		[]string{"models/", "actuators/", "control/", "signals/", "configs/", "daemon/", "cmd/", "test/"},
		true,
		"tests may reach anything",
	},
}

// ruleOf returns the rule with the longest folder that contains path.
func ruleOf(path string) (best rule, ok bool) {
	for _, r := range table {
		if under(path, r.folder) && len(r.folder) >= len(best.folder) {
			best, ok = r, true
		}
	}
	return best, ok
}

func (r rule) allows(imported string) bool {
	if !ours(imported) {
		return standard(imported) || r.foreign
	}
	return slices.ContainsFunc(r.ours, func(allowed string) bool {
		if folder, whole := strings.CutSuffix(allowed, "/"); whole {
			return under(short(imported), folder)
		}
		return short(imported) == allowed
	})
}

func TestImportsFollowTheTable(t *testing.T) {
	for _, p := range ourPackages(t) {
		r, ok := ruleOf(short(p.ImportPath))
		if !ok {
			t.Errorf("%s: no rule; a new top-level folder needs one", p.ImportPath)
			continue
		}
		for _, imported := range p.Imports {
			if !r.allows(imported) {
				t.Errorf("%s imports %s: %s", short(p.ImportPath), short(imported), r.why)
			}
		}
	}
}

// TestTableIsStrict proves that the table can refuse: a table that allows everything would pass the test above.
func TestTableIsStrict(t *testing.T) {
	for _, tc := range []struct {
		importer, imported string
		want               bool
	}{
		{"control", "time", true},
		{"control", ourPrefix + "/actuators/little", true},
		{"control", ourPrefix + "/actuators", false},
		{"control", "github.com/prometheus/common/model", false},
		{"models/scenarios", ourPrefix + "/models", true},
		{"models", ourPrefix + "/control", false},
		{"actuators/guard", "github.com/prometheus/client_golang/prometheus", false},
		{"actuators/guard/guardhttp", ourPrefix + "/actuators/guard", true},
		{"actuators/guard/guardprom", "github.com/prometheus/client_golang/prometheus", true},
		{"actuators/guard/guardhttp", "google.golang.org/grpc", false},
		{grpcBinding, "google.golang.org/grpc", true},
		{grpcBinding, ourPrefix + "/actuators/consul", false},
		{"signals", ourPrefix + "/actuators", false},
		{"cmd/governor", ourPrefix + "/test/servers", false},
		{"daemon", ourPrefix + "/signals", false},
		{"daemon", ourPrefix + "/configs", false},
		{"daemon", ourPrefix + "/models", false},
		{"daemon/publish", ourPrefix + "/daemon/api", false},
		{"daemon/publish", ourPrefix + "/actuators/consul", false},
	} {
		r, ok := ruleOf(tc.importer)
		if got := ok && r.allows(tc.imported); got != tc.want {
			t.Errorf("%s importing %s: allowed %v, want %v", tc.importer, tc.imported, got, tc.want)
		}
	}
}

// TestSimulatorKeepsNoCopy checks that the simulator publishes with the daemon's code. A Setting that the simulator
// composed itself would be a second set of rules, and its results about the control laws would hold for the simulator
// only.
func TestSimulatorKeepsNoCopy(t *testing.T) {
	for _, p := range list(t, ".", "./cmd/internal/simulate") {
		if !slices.Contains(p.Imports, ourPrefix+"/daemon/publish") {
			t.Errorf("%s does not import daemon/publish", short(p.ImportPath))
		}
		for _, name := range p.GoFiles {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, at := range composed(file) {
				t.Errorf("%s/%s:%d: composes a Setting of its own", short(p.ImportPath), name, fset.Position(at).Line)
			}
		}
	}
}

// composed returns where a file builds a Setting, or a knob of one, as a literal.
func composed(file *ast.File) (found []token.Pos) {
	ast.Inspect(file, func(n ast.Node) bool {
		literal, ok := n.(*ast.CompositeLit)
		if !ok {
			return true
		}
		if of, ok := literal.Type.(*ast.SelectorExpr); ok {
			x, ok := of.X.(*ast.Ident)
			if ok && x.Name == "actuators" && slices.Contains([]string{"Setting", "Concurrency", "Rate", "Shed"}, of.Sel.Name) {
				found = append(found, literal.Pos())
			}
		}
		return true
	})
	return found
}

// TestCompositionIsFound proves that the test above can fail.
func TestCompositionIsFound(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
		var none *actuators.Setting
		var knob = &actuators.Rate{PerSecond: 20}
		var all = actuators.Setting{Rate: knob}`, 0)
	if err != nil {
		t.Fatal(err)
	}
	if found := composed(file); len(found) != 2 {
		t.Errorf("found %d, want 2", len(found))
	}
}

// grpcBinding and grpcTier, a service of tests, are the modules that may link gRPC, and otelBinding may link OpenTelemetry.
const (
	grpc        = "google.golang.org/grpc/"
	grpcBinding = "actuators/guard/guardgrpc"
	grpcTier    = "test/e2e/calls/tier"
	otel        = "go.opentelemetry.io/"
	otelBinding = "actuators/guard/guardotel"
)

// forbidden are packages that ours must not link, directly or indirectly. A name that ends in a slash includes
// everything below it.
var forbidden = []struct{ path, why string }{
	{"github.com/prometheus/prometheus/tsdb", "the storage engine: queries go over HTTP, or to a small store"},
	{"github.com/prometheus/prometheus/scrape/", "pulls in every discovery"},
	{"github.com/prometheus/prometheus/discovery/", "pulls in the SDKs of AWS, Azure, GCP and Kubernetes"},
	{"github.com/prometheus/prometheus/config", "imports discovery and with it the cloud SDKs"},
	{"github.com/prometheus/prometheus/storage/remote/", "imports config"},
	{"github.com/prometheus/prometheus/rules/", "governor evaluates queries, Prometheus evaluates rules"},
	{"github.com/prometheus/prometheus/notifier/", "alerts are Alertmanager's"},
	{"github.com/prometheus/prometheus/web/", "the whole server"},
	{"github.com/hashicorp/consul/agent/", "the whole server; the client is consul/api"},
	{"github.com/aws/", "a cloud SDK: something imported too much"},
	{"github.com/Azure/", "a cloud SDK: something imported too much"},
	{"cloud.google.com/", "a cloud SDK: something imported too much"},
	{"k8s.io/", "a cloud SDK: something imported too much"},
	{grpc, "only its binding needs it, in a module of its own: " + grpcBinding},
	{otel, "only its binding needs it, in a module of its own: " + otelBinding},
	{"github.com/stretchr/testify/", "only tests could want it, and ours don't"},
}

func TestNothingForbiddenIsLinked(t *testing.T) {
	for _, p := range ourPackages(t) {
		for _, dep := range p.Deps {
			for _, f := range forbidden {
				if f.path == otel && (under(short(p.ImportPath), otelBinding) || !under(short(p.ImportPath), "actuators")) {
					continue // the Prometheus engine has it
				}
				if f.path == grpc && (under(short(p.ImportPath), grpcBinding) || short(p.ImportPath) == grpcTier) {
					continue
				}
				folder, whole := strings.CutSuffix(f.path, "/")
				if dep == folder || whole && under(dep, folder) {
					t.Errorf("%s depends on %s: %s", short(p.ImportPath), dep, f.why)
				}
			}
		}
	}
}

// TestServicesInheritLittle bounds the dependencies of a service that imports the actuators module.
func TestServicesInheritLittle(t *testing.T) {
	for _, p := range list(t, "actuators", "./...") {
		for _, dep := range p.Deps {
			if ours(dep) && !under(short(dep), "actuators") {
				t.Errorf("%s depends on %s: the module of the services must not need the daemon's", short(p.ImportPath), short(dep))
			}
		}
	}
}

// The budget of cmd/governor. It links 186 third-party packages: 40 of protobuf and client_golang, 42 of the PromQL
// engine in the embedded world plus 20 of its parser, 20 of Consul's client, 20 of the web server with TLS and
// authentication and of the HTTP client that Prometheus's users expect, and 18 of the terminal library for the demo's
// screen and for cleaning text. With the standard library (about 230, depending on platform and Go version) it links
// about 420. With tsdb, scrape or discovery it would be 700.
const (
	foreignBudget = 192
	totalBudget   = 422
)

func TestDaemonStaysWithinItsBudget(t *testing.T) {
	for _, p := range list(t, ".", "./cmd/governor") {
		foreign, total := 0, 0
		for _, dep := range p.Deps {
			if ours(dep) {
				continue
			}
			total++
			if !standard(dep) {
				foreign++
			}
		}
		t.Logf("cmd/governor links %d packages of others, %d with the standard library", foreign, total)
		if foreign > foreignBudget || total > totalBudget {
			t.Errorf("cmd/governor links %d packages of others and %d with the standard library, the budget is %d and %d: "+
				"what came in, and is it worth it?", foreign, total, foreignBudget, totalBudget)
		}
	}
}

// impure are the functions that would make a calculation depend on more than its arguments.
var impure = map[string][]string{
	"time":         {"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTicker", "NewTimer"},
	"math/rand":    {"*"}, // seeded sources are math/rand/v2's
	"math/rand/v2": {"Int", "IntN", "Float64", "Perm", "Shuffle", "N", "ExpFloat64", "NormFloat64", "Uint64"},
	"os":           {"*"},
	"net":          {"*"},
	"net/http":     {"*"},
	"log":          {"*"},
	"log/slog":     {"*"},
}

// TestCalculationsArePure checks that control, models, publish and the estimates that both layers share only calculate:
// no clock, no goroutine, no input or output. A run can then be replayed exactly. Of the guard, the same holds for the
// policies of the way out: instants and random numbers are arguments.
func TestCalculationsArePure(t *testing.T) {
	for _, p := range ourPackages(t) {
		path := short(p.ImportPath)
		files := p.GoFiles
		if path == "actuators/guard" {
			files = []string{"backoff.go", "breaker.go", "budget.go", "call.go", "hint.go", "instances.go"}
		} else if !under(path, "control") && path != "models" && path != "actuators" && !under(path, "actuators/little") &&
			path != "daemon/publish" {
			continue
		}
		for _, name := range files {
			fset := token.NewFileSet()
			file, err := parser.ParseFile(fset, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			for _, found := range impurities(file) {
				t.Errorf("%s/%s:%d: %s", path, name, fset.Position(found.at).Line, found.what)
			}
		}
	}
}

type impurity struct {
	at   token.Pos
	what string
}

func impurities(file *ast.File) (found []impurity) {
	imported := map[string]string{} // local name → path
	for _, spec := range file.Imports {
		path := strings.Trim(spec.Path.Value, `"`)
		name := strings.TrimSuffix(path, "/v2")
		name = name[strings.LastIndex(name, "/")+1:]
		if spec.Name != nil {
			name = spec.Name.Name
		}
		imported[name] = path
		if slices.Equal(impure[path], []string{"*"}) {
			found = append(found, impurity{spec.Pos(), "imports " + path})
		}
	}
	ast.Inspect(file, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, impurity{n.Pos(), "starts a goroutine"})
		case *ast.SelectorExpr:
			x, ok := n.X.(*ast.Ident)
			if ok && slices.Contains(impure[imported[x.Name]], n.Sel.Name) {
				found = append(found, impurity{n.Pos(), "uses " + x.Name + "." + n.Sel.Name})
			}
		}
		return true
	})
	return found
}

// TestImpurityIsFound proves that the test above can fail.
func TestImpurityIsFound(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), "x.go", `package x
		import ("time"; "os"; "math/rand/v2")
		func f() { go f(); _ = time.Now(); _ = rand.Float64(); _ = rand.New(nil); _ = time.Second }`, 0)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, found := range impurities(file) {
		got = append(got, found.what)
	}
	want := []string{"imports os", "starts a goroutine", "uses time.Now", "uses rand.Float64"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
}
