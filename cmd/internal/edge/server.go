package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"sync/atomic"
	"time"
)

// Drain says how ports close, and when they do. It is one for all ports of the process.
type Drain struct {
	Delay   time.Duration // for which requests are still served after the readiness page has failed
	Timeout time.Duration // for requests in progress to finish, after the delay

	draining atomic.Bool
	settling atomic.Bool // at the end of the delay
	hurry    chan struct{}
	hurried  atomic.Bool
	cutoff   time.Time
}

// NewDrain returns a Drain that has not begun.
func NewDrain(delay, timeout time.Duration) *Drain {
	return &Drain{Delay: delay, Timeout: timeout, hurry: make(chan struct{})}
}

// settle is the last part of the delay, in which connections are kept again. When the port then closes, nobody is about
// to connect anew because he was told to: the system resets connections that wait to be accepted.
const settle = 200 * time.Millisecond

// Begin makes the readiness page fail and waits for the delay, in which load balancers take the instance out. It is for
// one goroutine.
func (d *Drain) Begin(delay bool) {
	wait := d.Delay
	if !delay {
		wait = 0
	}
	last := min(settle, wait/2)
	d.settling.Store(wait == 0)
	d.draining.Store(true)
	d.wait(wait - last)
	d.settling.Store(true)
	d.wait(last)
	d.cutoff = time.Now().Add(d.Timeout)
}

func (d *Drain) wait(t time.Duration) {
	if t > 0 {
		select {
		case <-time.After(t):
		case <-d.hurry:
		}
	}
}

// Hurry ends delay and waiting: everything still in progress is cut.
func (d *Drain) Hurry() {
	if !d.hurried.Swap(true) {
		close(d.hurry)
	}
}

// Draining says whether Begin was called.
func (d *Drain) Draining() bool { return d.draining.Load() }

// context returns a context that ends when requests in progress are cut.
func (d *Drain) context() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithDeadline(context.Background(), d.cutoff)
	go func() {
		select {
		case <-d.hurry:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// polite is how long a port waits at most, after it has stopped listening, for clients to use their kept connections
// once more and to learn that they end. Closing an idle connection without a word can meet a request on its way.
const polite = time.Second

// Server is one port. Call Open, then Serve, then Close.
type Server struct {
	HTTP     *http.Server // Open changes its handler and hooks
	Listener net.Listener
	Patience *Patience
	Drain    *Drain

	cut     context.CancelFunc
	closing atomic.Bool  // does not listen any more
	open    atomic.Int64 // connections
	active  atomic.Int64 // requests, with connections that switched to another protocol
}

// Open prepares to serve.
func (s *Server) Open() {
	base, cut := context.WithCancel(context.Background())
	s.cut = cut
	s.HTTP.Handler = s.handler(s.Patience.Handler(s.HTTP.Handler))
	s.HTTP.ConnState = s.count
	s.HTTP.BaseContext = func(net.Listener) context.Context { return base }
}

// Serve serves until Close. It returns nil then, else what went wrong.
func (s *Server) Serve() error {
	var err error
	if s.HTTP.TLSConfig != nil {
		err = s.HTTP.ServeTLS(s.Listener, "", "")
	} else {
		err = s.HTTP.Serve(s.Listener)
	}
	if errors.Is(err, http.ErrServerClosed) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (s *Server) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		s.open.Add(1)
	case http.StateClosed, http.StateHijacked:
		s.open.Add(-1)
	}
}

func (s *Server) handler(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.active.Add(1)
		defer s.active.Add(-1)
		if s.Drain.Draining() && (s.closing.Load() || !s.Drain.settling.Load()) {
			w = &lastAnswer{ResponseWriter: w}
		}
		next.ServeHTTP(w, r)
	})
}

// Close stops listening, lets clients finish what they have begun, and cuts what is left when the time of the drain is
// over. It returns how many requests and switched connections it cut.
func (s *Server) Close() (cut int64) {
	_ = s.Listener.Close()
	s.closing.Store(true)
	ctx, cancel := s.Drain.context()
	defer cancel()
	brief, stop := context.WithTimeout(ctx, polite)
	s.until(brief, func() bool { return s.open.Load() == 0 })
	stop()
	_ = s.HTTP.Shutdown(ctx)
	s.until(ctx, func() bool { return s.active.Load() == 0 })
	cut = s.active.Load()
	s.cut()
	_ = s.HTTP.Close()
	if cut > 0 {
		ended, stop := context.WithTimeout(context.Background(), polite)
		defer stop()
		s.until(ended, func() bool { return s.active.Load() == 0 })
	}
	return cut
}

// until waits for done or the end of ctx.
func (s *Server) until(ctx context.Context, done func() bool) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !done() {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// lastAnswer tells the client that the connection ends after this answer: Connection: close, which the server turns into
// GOAWAY on HTTP/2.
type lastAnswer struct {
	http.ResponseWriter
	begun bool
}

func (w *lastAnswer) begin(status int) {
	if !w.begun && status >= 200 {
		w.begun = true
		w.Header()["Connection"] = []string{"close"}
	}
}

// WriteHeader implements http.ResponseWriter.
func (w *lastAnswer) WriteHeader(status int) {
	w.begin(status)
	w.ResponseWriter.WriteHeader(status)
}

// Write implements http.ResponseWriter.
func (w *lastAnswer) Write(b []byte) (int, error) {
	w.begin(http.StatusOK)
	return w.ResponseWriter.Write(b)
}

// Flush implements http.Flusher: the guard looks for it.
func (w *lastAnswer) Flush() { _ = w.FlushError() }

// FlushError implements what http.ResponseController calls.
func (w *lastAnswer) FlushError() error {
	w.begin(http.StatusOK)
	return http.NewResponseController(w.ResponseWriter).Flush()
}

// Unwrap lets http.ResponseController find what the server's writer can do.
func (w *lastAnswer) Unwrap() http.ResponseWriter { return w.ResponseWriter }
