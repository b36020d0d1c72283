package conformance

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/test/servers"
)

// patience bounds each leg of a case. Nothing in a case takes long, so a case that needs it has failed.
const patience = 5 * time.Second

// run has what the tests share: the binary and the sidecars that run.
var run struct {
	dir     string
	built   sync.Once
	binary  string
	err     error
	started atomic.Int64

	mu        sync.Mutex
	processes []*servers.Process
	free      map[lane][]*world
}

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "governor-conformance-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	run.dir, run.free = dir, map[lane][]*world{}
	code := m.Run()
	for _, p := range run.processes {
		p.Kill()
	}
	os.RemoveAll(dir)
	os.Exit(code)
}

// governor returns the path of the binary to test.
func governor(t testing.TB) string {
	t.Helper()
	run.built.Do(func() {
		if run.binary = os.Getenv("GOVERNOR_BINARY"); run.binary != "" {
			if !filepath.IsAbs(run.binary) {
				run.binary = filepath.Join("..", "..", run.binary) // a path from the root of the tree
			}
			return
		}
		run.binary = filepath.Join(run.dir, "governor")
		out, err := exec.CommandContext(t.Context(), "go", "build", "-o", run.binary,
			"github.com/seed-de83e32b/governor/cmd/governor").CombinedOutput()
		if err != nil {
			run.err = fmt.Errorf("go build: %w\n%s", err, out)
		}
	})
	if run.err != nil {
		t.Fatal(run.err)
	}
	return run.binary
}

// startSidecar runs a sidecar in front of upstream, with a limit that never moves, and returns its address. It runs
// until the tests end, or until it is killed.
func startSidecar(t testing.TB, upstream string, limit int, flags ...string) (string, *servers.Process) {
	t.Helper()
	binary := governor(t)
	for attempt := 1; ; attempt++ {
		listen, admin, nobody := servers.Unused(t), servers.Unused(t), servers.Unused(t)
		p := &servers.Process{
			Name: "governor sidecar", Path: binary,
			Args: append([]string{
				"sidecar", "--service=checkout", "--slo.latency=30s", "--no-reflex", "--upstream=" + upstream,
				"--listen=" + listen, "--web.listen-address=" + admin,
				fmt.Sprint("--limit.min=", limit), fmt.Sprint("--limit.max=", limit),
			}, flags...),
			Env: []string{"CONSUL_HTTP_ADDR=" + nobody},
			Log: filepath.Join(run.dir, fmt.Sprintf("sidecar-%d.log", run.started.Add(1))),
			Ready: func(ctx context.Context) error {
				c, err := (&net.Dialer{}).DialContext(ctx, "tcp", listen)
				if err != nil {
					return err
				}
				defer c.Close()
				r, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+admin+"/-/healthy", nil)
				if err != nil {
					return err
				}
				answer, err := http.DefaultClient.Do(r)
				if err != nil {
					return err
				}
				answer.Body.Close()
				if answer.StatusCode != http.StatusOK {
					return errors.New(answer.Status)
				}
				return nil
			},
		}
		err := p.Start(context.Background())
		if err == nil {
			run.mu.Lock()
			run.processes = append(run.processes, p)
			run.mu.Unlock()
			return listen, p
		}
		if attempt == 3 { // another process may have taken a port meanwhile
			t.Fatal(err)
		}
	}
}

// lane is a kind of sidecar.
type lane int

const (
	overTCP  lane = iota
	overUnix      // the service listens on a Unix socket
	oneSlot       // the limit is one request
)

// world is a sidecar and the service behind it, whose role a case plays. One case at a time uses it.
type world struct {
	lane    lane
	sidecar string // address
	process *servers.Process
	service net.Listener

	mu  sync.Mutex
	now *leg
}

// leg is a case that is played once, either directly or through the sidecar.
type leg struct {
	through          bool   // the sidecar
	network, address string // where the client connects to
	serve            func(*peer)
	cues             cues
	ends             time.Time
	more             []*peer // connections of the client besides its first

	mu    sync.Mutex
	over  bool
	peers []*peer // connections to the service
	seen  []message
	errs  []error
	done  sync.WaitGroup
}

// borrow returns a world of its own for a test. Give it back with world.giveBack.
func borrow(t testing.TB, kind lane) *world {
	t.Helper()
	run.mu.Lock()
	if free := run.free[kind]; len(free) > 0 {
		w := free[len(free)-1]
		run.free[kind] = free[:len(free)-1]
		run.mu.Unlock()
		return w
	}
	run.mu.Unlock()

	w := &world{lane: kind}
	network, address, limit := "tcp", "127.0.0.1:0", 1000
	switch kind {
	case overUnix:
		network, address = "unix", filepath.Join(run.dir, fmt.Sprintf("s%d", run.started.Add(1)))
	case oneSlot:
		limit = 1
	}
	var err error
	if w.service, err = net.Listen(network, address); err != nil {
		t.Fatal(err)
	}
	upstream := "http://" + w.service.Addr().String()
	if kind == overUnix {
		upstream = "unix:" + address
	}
	go w.accept()
	w.sidecar, w.process = startSidecar(t, upstream, limit)
	return w
}

// giveBack lets another test use the world, if the sidecar is as it was.
func (w *world) giveBack(clean bool) {
	if !clean {
		w.process.Kill()
		w.service.Close()
		return
	}
	run.mu.Lock()
	defer run.mu.Unlock()
	run.free[w.lane] = append(run.free[w.lane], w)
}

func (w *world) accept() {
	for {
		c, err := w.service.Accept()
		if err != nil {
			return
		}
		w.mu.Lock()
		l := w.now
		w.mu.Unlock()
		if l == nil || !l.take(c) {
			c.Close()
		}
	}
}

// begin starts a leg, in which serve plays the service on each connection.
func (w *world) begin(through bool, serve func(*peer)) *leg {
	l := &leg{
		through: through, network: w.service.Addr().Network(), address: w.service.Addr().String(), serve: serve, ends: time.Now().Add(patience),
	}
	if through {
		l.network, l.address = "tcp", w.sidecar
	}
	w.mu.Lock()
	w.now = l
	w.mu.Unlock()
	return l
}

// end waits for the service's connections of the leg, so that all it has seen is known. It reports whether the sidecar
// has let go of all of them.
func (w *world) end(l *leg) (clean bool) {
	w.mu.Lock()
	w.now = nil
	w.mu.Unlock()
	l.cues.give(over)
	l.mu.Lock()
	l.over = true
	peers := l.peers
	l.mu.Unlock()
	for _, p := range peers {
		p.closeWrite()
	}
	l.done.Wait()
	clean = true
	for _, p := range peers {
		// An idle connection is out of the sidecar's pool once the sidecar has closed it, too.
		p.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
		if _, err := io.Copy(io.Discard, p.r); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
			clean = false
		}
		p.conn.Close()
	}
	return clean
}

// take lets the service play on a new connection. It reports false if the leg is over.
func (l *leg) take(c net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.over {
		return false
	}
	p := l.newPeer(c)
	l.peers = append(l.peers, p)
	l.done.Go(func() {
		l.play(p, l.serve)
		p.closeWrite()
	})
	return true
}

// newPeer returns the end of a connection that a case plays on.
func (l *leg) newPeer(c net.Conn) *peer {
	c.SetDeadline(l.ends)
	return &peer{conn: c, r: bufio.NewReader(c), leg: l}
}

// play runs one side of the case. Its failures are the leg's.
func (l *leg) play(p *peer, role func(*peer)) {
	defer func() {
		switch failed := recover().(type) {
		case nil:
		case failure:
			l.mu.Lock()
			l.errs = append(l.errs, failed.error)
			l.mu.Unlock()
			l.cues.give(over) // the other side need not wait
		default:
			panic(failed)
		}
	}()
	role(p)
	p.aside.Wait()
}

func (l *leg) saw(m message) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seen = append(l.seen, m)
}

// number counts the requests that the service has seen.
func (l *leg) number() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen)
}

// dial connects a client.
func (l *leg) dial() (*peer, error) {
	c, err := (&net.Dialer{Deadline: l.ends}).Dial(l.network, l.address)
	if err != nil {
		return nil, err
	}
	return l.newPeer(c), nil
}

// asClient connects a client, plays its role and closes the connection.
func (l *leg) asClient(role func(*peer)) {
	client, err := l.dial()
	if err != nil {
		l.errs = append(l.errs, err)
		return
	}
	l.play(client, role)
	for _, p := range append(l.more, client) {
		p.close()
	}
}

// cues let one side of a case wait for the other.
type cues struct {
	mu    sync.Mutex
	named map[string]chan struct{}
}

const over = "the case is over"

func (c *cues) of(name string) chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.named == nil {
		c.named = map[string]chan struct{}{}
	}
	if c.named[name] == nil {
		c.named[name] = make(chan struct{})
	}
	return c.named[name]
}

func (c *cues) give(name string) {
	ch := c.of(name)
	c.mu.Lock()
	defer c.mu.Unlock()
	select {
	case <-ch:
	default:
		close(ch)
	}
}
