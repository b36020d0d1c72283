package guard_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// No request is admitted while as many are in flight as the limit of that instant, or more: after a cut, the number in
// flight only falls until it is below. And each slot comes back exactly once, however a request ends. Requests go through
// Guard.Do and through a handler; they succeed, fail, panic, are canceled before and after their admission, and are
// hijacked. One goroutine changes the limit all the while and looks on.
//
// Guard.Load reads limit and number in one load, so between two changes of the limit the number must stay at or below
// the larger of the limit and of what it was. Requests look, too, while they are in flight. TestAdmissionTestFindsMistakes shows that this test fails where it should.
func TestAdmission(t *testing.T) {
	s := newStorm(t, guard.Config{}, "/")
	s.gauges = []*gauge{{load: s.g.Load}}
	s.blow(func(rng *rand.Rand, phase int) (limits []int) {
		limit := 1 + rng.IntN(stormWorkers/2)
		s.publish(phase+1, limit)
		return []int{limit}
	})
	last := s.g.Snapshot()
	if last.InFlight != 0 || last.EndlessDeclared != len(s.hijacked) || last.DoubleReleases != 0 {
		t.Fatalf("at rest: %d in flight, %d of %d declared, %d released twice",
			last.InFlight, last.EndlessDeclared, len(s.hijacked), last.DoubleReleases)
	}
	for n := range last.Limit + 1 {
		if _, err := s.g.AcquireAt(time.Now(), guard.Critical); (err == nil) != (n < last.Limit) {
			t.Errorf("request %d within a limit of %d: %v", n, last.Limit, err)
		}
	}
	if len(s.hijacked) < 20 || s.refused.Load() == 0 {
		t.Errorf("%d hijacked, %d refused: too few to show anything", len(s.hijacked), s.refused.Load())
	}
}

// The same with a route under a roof: no request is admitted while as many are in flight as the limit of the roof, or as the
// smaller one of the limit and the share of its compartment. A slot is one of the roof and one of the compartment, and both
// come back. All limits change all the while.
func TestAdmissionUnderARoof(t *testing.T) {
	now := time.Now() // stands still, so that nothing but the test moves limits
	s := newStorm(t, guard.Config{
		Routes: map[string]guard.Route{"export": {SLO: time.Hour, ShedThreshold: 1}}, Now: func() time.Time { return now },
	}, "/", "/export/1")
	s.g.Snapshot() // the first step of each
	s.gauges = []*gauge{{load: s.g.Load}, {load: s.part("")}, {load: s.part("export")}}
	s.blow(func(rng *rand.Rand, _ int) []int {
		of := func() (own, share, inForce int) {
			own, share = 1+rng.IntN(stormWorkers/2), rng.IntN(stormWorkers/2)
			if share == 0 {
				return own, share, own
			}
			return own, share, min(own, share)
		}
		roof := 1 + rng.IntN(stormWorkers/2)
		own, share, rest := of()
		s.g.SetLimits("", own, share)
		own, share, export := of()
		s.g.SetLimits("export", own, share)
		s.g.SetRoof(roof)
		return []int{roof, rest, export}
	})
	last := s.g.Snapshot()
	of := last.Routes[0]
	if last.Roof.InFlight != 0 || last.InFlight != 0 || of.InFlight != 0 || last.DoubleReleases+of.DoubleReleases != 0 ||
		last.EndlessDeclared+of.EndlessDeclared != len(s.hijacked) {
		t.Fatalf("at rest: %+v, %+v", last.Roof, last)
	}
	s.g.SetRoof(7)
	s.g.SetLimits("", 5, 0)
	s.g.SetLimits("export", 5, 4)
	for i, want := range []error{nil, nil, nil, nil, nil, guard.ErrConcurrency} {
		if _, err := s.g.AdmitAt(now, guard.Arrival{}); !errors.Is(err, want) {
			t.Errorf("request %d: %v, want %v", i, err, want)
		}
	}
	for i, want := range []error{nil, nil, guard.ErrRoof} {
		if _, err := s.g.AdmitAt(now, guard.Arrival{Route: "/export"}); !errors.Is(err, want) {
			t.Errorf("request %d of the route: %v, want %v", i, err, want)
		}
	}
	s.g.SetRoof(10)
	for i, want := range []error{nil, nil, guard.ErrShare} {
		if _, err := s.g.AdmitAt(now, guard.Arrival{Route: "/export"}); !errors.Is(err, want) {
			t.Errorf("request %d of the route under a higher roof: %v, want %v", i, err, want)
		}
	}
	if last.Refused["roof"] == ([4]uint64{}) || of.Refused["share"] == ([4]uint64{}) || of.Refused["concurrency"] == ([4]uint64{}) {
		t.Errorf("refused %v and %v: too few to show anything", last.Refused, of.Refused)
	}
}

const stormWorkers = 8

// blow sends requests all the while and changes the limits again and again. change returns the limit that is then in force of
// each gauge.
func (s *storm) blow(change func(rng *rand.Rand, phase int) (limits []int)) {
	s.t.Helper()
	const phases, looks = 100, 100
	var wg sync.WaitGroup
	rest := func() { s.over.Store(true); wg.Wait() }
	defer rest()
	for i := range stormWorkers {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(uint64(i), 1))
			for !s.over.Load() {
				s.request(rng)
			}
		})
	}
	rng := rand.New(rand.NewPCG(0, 2))
	most := make([]int, len(s.gauges))
	for phase := range phases {
		s.phase.Add(1)
		limits := change(rng, phase)
		for i, g := range s.gauges {
			most[i], _ = g.load()
			g.bound.Store(int64(max(limits[i], most[i])))
		}
		s.phase.Add(1)
		for range looks {
			for i, g := range s.gauges {
				inFlight, inForce := g.load()
				if inForce != limits[i] || inFlight > max(most[i], limits[i]) {
					s.t.Fatalf("gauge %d: %d in flight after %d, within a limit of %d that should be %d", i, inFlight, most[i], inForce,
						limits[i])
				}
				most[i] = inFlight
			}
			s.request(rng)
		}
	}
	rest()
	for i, g := range s.gauges {
		if n := g.above.Load(); n > 0 {
			s.t.Fatalf("gauge %d: %d in flight: more than the limit, and than were in flight when it changed", i, n)
		}
	}
}

// gauge shows the number in flight and the limit of one gate.
type gauge struct {
	load  func() (inFlight, limit int)
	bound atomic.Int64 // of the number in flight until the next change
	above atomic.Int64 // most that was in flight above that
}

// storm sends requests of all kinds through a guard.
type storm struct {
	t        *testing.T
	g        *guard.Guard
	gauges   []*gauge
	paths    []string
	handler  http.Handler
	over     atomic.Bool
	refused  atomic.Uint64
	phase    atomic.Int64  // changes of the limit that have begun or ended: odd while one is under way
	hijacked chan struct{} // one for each that is open
	close    chan struct{} // ends them
}

func newStorm(t *testing.T, c guard.Config, paths ...string) *storm {
	t.Helper()
	c.Service, c.SLO, c.NoReflex, c.ShedThreshold = "checkout", time.Hour, true, 1 // nothing is found to be endless
	g, err := guard.New(c)
	if err != nil {
		t.Fatal(err)
	}
	s := &storm{t: t, g: g, paths: paths, hijacked: make(chan struct{}, 200), close: make(chan struct{})}
	t.Cleanup(func() { close(s.close) })
	s.handler = guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.work()
		switch r.Method {
		case http.MethodDelete:
			panic(gone)
		case http.MethodConnect:
			conn, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			s.hijacked <- struct{}{}
			conn.Close()
			r.Context().Value(openKey{}).(func())()
			<-s.close
		}
	}))
	return s
}

// How handlers fail.
const gone = "the handler panicked"

var errHandler = errors.New("the handler failed")

// part loads what is in flight in a compartment, and the limit in force there.
func (s *storm) part(route string) func() (inFlight, limit int) {
	return func() (inFlight, limit int) { return s.g.LoadPart(route) }
}

// publish publishes a limit.
func (s *storm) publish(revision, limit int) {
	s.t.Helper()
	setting := actuators.Setting{
		Schema: 1, Service: "checkout", Epoch: 1, Revision: uint64(revision), LeaseSeconds: 180, Reason: "test",
		Concurrency: &actuators.Concurrency{
			Limit: limit, Ceiling: 100, LatencyTargetSeconds: 1, Fallback: 10, Min: 1, Max: 100,
		},
	}
	raw, err := setting.Encode()
	if err == nil {
		err = s.g.Apply(raw)
	}
	if err != nil {
		s.t.Fatal(err)
	}
}

// work is what a request does: it looks how many are in flight, and gives way to others.
func (s *storm) work() {
	for range 3 {
		for _, g := range s.gauges {
			phase := s.phase.Load()
			inFlight, _ := g.load()
			if n := int64(inFlight); n > g.bound.Load() && phase%2 == 0 && phase > 0 && s.phase.Load() == phase {
				g.above.Store(n)
			}
		}
		runtime.Gosched()
	}
}

// request sends one request of some kind, and returns when it has its answer or is hijacked.
func (s *storm) request(rng *rand.Rand) {
	defer func() {
		if got := recover(); got != nil && got != gone {
			panic(got)
		}
	}()
	ctx, cancel := context.WithCancel(s.t.Context())
	defer cancel()
	do := func(end func() error) error {
		return s.g.Do(ctx, guard.Default, func(context.Context) error {
			s.work()
			return end()
		})
	}
	path := s.paths[rng.IntN(len(s.paths))]
	var err error
	switch rng.IntN(10) {
	case 0:
		err = do(func() error { return nil })
	case 1:
		err = do(func() error { return errHandler })
	case 2:
		err = do(func() error { panic(gone) })
	case 3:
		cancel()
		err = do(func() error { return nil })
	case 4:
		err = do(func() error { cancel(); return ctx.Err() })
	case 5:
		s.serve(http.MethodGet, path)
	case 6:
		s.serve(http.MethodDelete, path)
	case 7:
		if len(s.hijacked) < cap(s.hijacked)/2 {
			s.hijack(path)
		}
	case 8:
		err = s.bare(ctx, guard.Success)
	case 9:
		err = s.bare(ctx, guard.Canceled)
	}
	if errors.Is(err, guard.ErrConcurrency) {
		s.refused.Add(1)
	}
}

// bare sends a request that has no context of its own.
func (s *storm) bare(ctx context.Context, o guard.Outcome) error {
	p, err := s.g.Acquire(ctx, guard.Default)
	if err != nil {
		return err
	}
	defer p.Release(o)
	s.work()
	return nil
}

func (s *storm) serve(method, path string) {
	s.handler.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
}

// hijack sends a request that stays open, unless it is refused.
func (s *storm) hijack(path string) {
	ctx, open := context.WithCancel(context.WithoutCancel(s.t.Context()))
	ctx = context.WithValue(ctx, openKey{}, func() { open() })
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.handler.ServeHTTP(hijackable{httptest.NewRecorder()}, httptest.NewRequestWithContext(ctx, http.MethodConnect, path, nil))
	}()
	select {
	case <-ctx.Done():
	case <-done:
		open()
	}
}

// openKey is the key of what a hijacked request calls.
type openKey struct{}

type hijackable struct{ *httptest.ResponseRecorder }

func (hijackable) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	here, there := net.Pipe()
	there.Close()
	return here, nil, nil
}

// mistakes are such as could be made in the code that admits and releases. Each is an edit of a file that takes effect where
// mistaken says so.
var mistakes = []struct{ name, file, from, to string }{
	{
		"the roof is not asked", "gate.go",
		`		if g.word.CompareAndSwap(w, w+1) {
			if n+1 == bindingAt(limit) {`,
		`		if g.roof != nil && mistaken("the roof is not asked") { g.word.Add(1); g.roof.enterAnyway(now); return entered }
		if g.word.CompareAndSwap(w, w+1) {
			if n+1 == bindingAt(limit) {`,
	},
	{
		"check the roof, then add", "gate.go",
		`			if g.roof != nil && g.roof.enter(now, 1, 0) != entered {`,
		`			if g.roof != nil && mistaken("check the roof, then add") && g.roof.look() == entered {
				yield(); g.roof.enterAnyway(now); return entered
			}
			if g.roof != nil && g.roof.enter(now, 1, 0) != entered {`,
	},
	{
		"a refusal by the roof that keeps the slot", "gate.go",
		`				g.leaveOwn(now)
				return overRoof`,
		`				if !mistaken("a refusal by the roof that keeps the slot") { g.leaveOwn(now) }
				return overRoof`,
	},
	{
		"a release that forgets the roof", "gate.go",
		`	if g.roof != nil {
		g.roof.leave(now)`,
		`	if g.roof != nil && !mistaken("a release that forgets the roof") {
		g.roof.leave(now)`,
	},
	{
		"the share is ignored", "gate.go",
		`if share := g.share.Load(); share > 0 {`,
		`if share := g.share.Load(); share > 0 && !mistaken("the share is ignored") {`,
	},
	{
		"a share that raises the limit", "gate.go",
		`		limit = min(limit, share)
	}`,
		`		limit = min(limit, share)
		if mistaken("a share that raises the limit") { limit = share }
	}`,
	},
	{
		"one more than the limit", "gate.go",
		`case n >= limit:`,
		`case n > limit || n == limit && !mistaken("one more than the limit"):`,
	},
	{
		"check, then add", "gate.go",
		`if g.word.CompareAndSwap(w, w+1) {`,
		`if mistaken("check, then add") { yield(); g.word.Add(1); return entered }
		if g.word.CompareAndSwap(w, w+1) {`,
	},
	{
		"a resize that forgets who came meanwhile", "gate.go",
		`if g.word.CompareAndSwap(w, pack(limit, n)) {`,
		`if mistaken("a resize that forgets who came meanwhile") { yield(); g.word.Store(pack(limit, n)) }
		if g.word.CompareAndSwap(w, pack(limit, n)) {`,
	},
	{
		"a resize that lets one in", "gate.go",
		`if g.word.CompareAndSwap(w, pack(limit, n)) {`,
		`if n > limit && mistaken("a resize that lets one in") { n++ }
		if g.word.CompareAndSwap(w, pack(limit, n)) {`,
	},
	{
		"no release after a panic in Do", "guard.go",
		`defer func() { p.Release(outcome) }()`,
		`defer func() { if outcome != Failure || err != nil || !mistaken("no release after a panic in Do") { p.Release(outcome) } }()`,
	},
	{
		"no slot back after a cancellation", "guard.go",
		`		g.shares.entries.complete(p.entry, p.class(), took, own)
	}
	g.gate.leave(now)`,
		`		g.shares.entries.complete(p.entry, p.class(), took, own)
	}
	if o != Canceled || !mistaken("no slot back after a cancellation") { g.gate.leave(now) }`,
	},
	{
		"no slot back from a request in a context", "guard.go",
		`	if w&paused == 0 {
		g.gate.leave(now)
	}
	return true`,
		`	if w&paused == 0 && !mistaken("no slot back from a request in a context") {
		g.gate.leave(now)
	}
	return true`,
	},
	{
		"no slot back from an endless request", "endless.go",
		`	if w&paused == 0 {
		g.gate.leave(now)`,
		`	if w&paused == 0 && !mistaken("no slot back from an endless request") {
		g.gate.leave(now)`,
	},
	{
		"two requests with one ticket", "ticket.go",
		`	return next, t.word.CompareAndSwap(w, next)`,
		`	if mistaken("two requests with one ticket") { yield(); t.word.Store(next); return next, true }
	return next, t.word.CompareAndSwap(w, next)`,
	},
	{
		"no release after a panic in a handler", "guardhttp/guardhttp.go",
		`permit.Release(outcome)`,
		`if recovered := recover(); recovered == nil || !mistaken("no release after a panic in a handler") {
			defer func() { if recovered != nil { panic(recovered) } }()
			permit.Release(outcome)
		} else { panic(recovered) }`,
	},
	{
		"a hijacked request keeps its slot", "guardhttp/recorder.go",
		`		r.client.Begin()
		r.permit.Endless()`,
		`		r.client.Begin()
		if !mistaken("a hijacked request keeps its slot") { r.permit.Endless() }`,
	},
}

// mistaken tells edited code which mistake to make.
const mistaken = `package %s

import (
	"os"
	"runtime"
)

var mistake = os.Getenv("MISTAKE")

func mistaken(name string) bool { return mistake == name }

func yield() { runtime.Gosched() } // as it may happen between any two instructions

var _ = yield
`

// TestAdmission and TestAdmissionUnderARoof find every one of the mistakes. All are built into one copy of the test binary, so that it is built once.
func TestAdmissionTestFindsMistakes(t *testing.T) {
	dir := t.TempDir()
	here, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	edited := map[string]string{}
	for _, m := range mistakes {
		source, ok := edited[m.file]
		if !ok {
			raw, err := os.ReadFile(m.file)
			if err != nil {
				t.Fatal(err)
			}
			source = string(raw)
		}
		if strings.Count(source, m.from) != 1 {
			t.Fatalf("%s: %q is not there once: say how the mistake is made now", m.file, m.from)
		}
		edited[m.file] = strings.Replace(source, m.from, m.to, 1)
	}
	edited["mistaken.go"] = fmt.Sprintf(mistaken, "guard")
	edited["guardhttp/mistaken.go"] = fmt.Sprintf(mistaken, "guardhttp")
	overlay := struct{ Replace map[string]string }{map[string]string{}}
	for file, source := range edited {
		path := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		if err := os.WriteFile(path, []byte(source), 0o600); err != nil {
			t.Fatal(err)
		}
		overlay.Replace[filepath.Join(here, file)] = path
	}
	raw, err := json.Marshal(overlay)
	if err != nil {
		t.Fatal(err)
	}
	list, binary := filepath.Join(dir, "overlay.json"), filepath.Join(dir, "guard.test")
	if err := os.WriteFile(list, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	build := exec.CommandContext(t.Context(), "go", "test", "-c", "-vet=off", "-overlay", list, "-o", binary, ".")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("cannot build the mistakes in: %v\n%s", err, out)
	}
	run := func(mistake string) (out []byte, err error) {
		test := exec.CommandContext(t.Context(), binary, "-test.run", "^TestAdmission(UnderARoof)?$", "-test.timeout", "20s")
		test.Env = append(os.Environ(), "MISTAKE="+mistake)
		return test.CombinedOutput()
	}
	if out, err := run("none"); err != nil {
		t.Fatalf("without a mistake: %v\n%s", err, out)
	}
	for _, m := range mistakes {
		t.Run(m.name, func(t *testing.T) {
			if out, err := run(m.name); err == nil || !strings.Contains(string(out), "--- FAIL: TestAdmission") {
				t.Errorf("not found: %v\n%s", err, out)
			}
		})
	}
}
