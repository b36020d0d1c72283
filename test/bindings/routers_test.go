package bindings

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	chimiddleware "github.com/go-chi/chi/v5/middleware"
	echo4 "github.com/labstack/echo/v4"
	echo4middleware "github.com/labstack/echo/v4/middleware"
	"github.com/labstack/echo/v5"
	echomiddleware "github.com/labstack/echo/v5/middleware"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// shop is a service of these routes, with one router after another:
//
//	/orders/{id}        answers with the entry of the request
//	/api/v1/items/{id}  the same, in a group within a group
//	/fails              answers 500 in the way of the router
//	/panics             panics
//	/waits              waits until the client has gone, and answers 500
//	/events             sends an event, flushes it, and waits for the end of the test
//	/socket             takes the connection over, says hello and closes it
type shop struct {
	runs    atomic.Int32
	waiting chan struct{} // of each request that waits
	hold    chan struct{}
	broken  error
}

func (s *shop) order(w http.ResponseWriter, r *http.Request) {
	s.runs.Add(1)
	fmt.Fprint(w, entry(r.Context()))
}

func (*shop) panics(http.ResponseWriter, *http.Request) { panic("no apples") }

func (s *shop) waits(w http.ResponseWriter, r *http.Request) {
	s.waiting <- struct{}{}
	<-r.Context().Done()
	w.WriteHeader(http.StatusInternalServerError)
}

func (s *shop) events(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	fmt.Fprint(w, "data: hello\n\n")
	if err := http.NewResponseController(w).Flush(); err != nil {
		s.broken = err
	}
	select {
	case <-s.hold:
	case <-r.Context().Done():
	}
}

func (s *shop) socket(w http.ResponseWriter, _ *http.Request) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		s.broken = err
		return
	}
	s.greet(conn)
}

func (*shop) greet(conn net.Conn) {
	defer conn.Close()
	_, _ = io.WriteString(conn, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: hello\r\n\r\nhello\n")
}

func (s *shop) netHTTP(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", s.order)
	mux.HandleFunc("/fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	mux.HandleFunc("/panics", s.panics)
	mux.HandleFunc("/waits", s.waits)
	mux.HandleFunc("/events", s.events)
	mux.HandleFunc("/socket", s.socket)
	items := http.NewServeMux()
	items.HandleFunc("/v1/items/{id}", s.order)
	mux.Handle("/api/", http.StripPrefix("/api", items))
	return guardhttp.New(g, mux, append(options, guardhttp.WithRoute(guardhttp.PatternIn(mux)))...)
}

func (s *shop) chi(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	router := chi.NewRouter()
	router.Use(guardhttp.Middleware(g, append(options, guardhttp.WithRoute(chiPattern(router)))...))
	return s.chiRoutes(router)
}

func (s *shop) chiRoutes(router chi.Router) http.Handler {
	router.Get("/orders/{id}", s.order)
	router.Get("/fails", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusInternalServerError) })
	router.Get("/panics", s.panics)
	router.Get("/waits", s.waits)
	router.Get("/events", s.events)
	router.Get("/socket", s.socket)
	router.Route("/api", func(router chi.Router) {
		items := chi.NewRouter()
		items.Get("/items/{id}", s.order)
		router.Mount("/v1", items)
	})
	return router
}

func (s *shop) chiGroup(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	router := chi.NewRouter()
	router.Use(chimiddleware.RequestID)
	router.Group(func(router chi.Router) {
		router.Use(guardhttp.Middleware(g, append(options, guardhttp.WithRoute(guardhttp.PatternOf))...))
		router.Use(chimiddleware.Recoverer)
		s.chiRoutes(router)
	})
	return router
}

func (s *shop) gin(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	return s.ginWith(g, options)
}

func (s *shop) ginRecovery(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	return s.ginWith(g, options, gin.RecoveryWithWriter(io.Discard))
}

func (s *shop) ginWith(g *guard.Guard, options []guardhttp.Option, middleware ...gin.HandlerFunc) http.Handler {
	gin.SetMode(gin.ReleaseMode)
	router := gin.New()
	router.Use(middleware...)
	order := func(c *gin.Context) {
		s.runs.Add(1)
		c.String(http.StatusOK, entry(c.Request.Context()))
	}
	router.GET("/orders/:id", order)
	router.Group("/api").Group("/v1").GET("/items/:id", order)
	router.GET("/waits", gin.WrapF(s.waits))
	router.GET("/fails", func(c *gin.Context) { c.AbortWithStatus(http.StatusInternalServerError) })
	router.GET("/panics", gin.WrapF(s.panics))
	router.GET("/events", func(c *gin.Context) {
		first := true
		c.Stream(func(io.Writer) bool {
			if first {
				first = false
				c.SSEvent("message", "hello")
				return true
			}
			<-s.hold
			return false
		})
	})
	router.GET("/socket", func(c *gin.Context) {
		conn, _, err := c.Writer.Hijack()
		if err != nil {
			s.broken = err
			return
		}
		s.greet(conn)
	})
	return guardhttp.New(g, router, append(options, guardhttp.WithRoute(guardhttp.PatternBy(ginPatterns(router))))...)
}

func (s *shop) echo(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	router := echo.New()
	guarded := guardhttp.Middleware(g, append(options, guardhttp.WithRoute(guardhttp.PatternOf))...)
	router.Use(echo.WrapMiddleware(guarded), answerErrors, echomiddleware.Recover())
	return s.echoRoutes(router)
}

func (s *shop) echoRoutes(router *echo.Echo) http.Handler {
	router.Logger = nil
	order := func(c *echo.Context) error {
		s.runs.Add(1)
		return c.String(http.StatusOK, entry(c.Request().Context()))
	}
	router.GET("/orders/:id", order)
	router.Group("/api").Group("/v1").GET("/items/:id", order)
	router.GET("/waits", echo.WrapHandler(http.HandlerFunc(s.waits)))
	router.GET("/fails", func(*echo.Context) error { return errors.New("no apples") })
	router.GET("/panics", echo.WrapHandler(http.HandlerFunc(s.panics)))
	router.GET("/events", echo.WrapHandler(http.HandlerFunc(s.events)))
	router.GET("/socket", echo.WrapHandler(http.HandlerFunc(s.socket)))
	return router
}

func (s *shop) echo4(g *guard.Guard, options ...guardhttp.Option) http.Handler {
	router := echo4.New()
	guarded := guardhttp.Middleware(g, append(options, guardhttp.WithRoute(guardhttp.PatternOf))...)
	router.Use(namePattern4, echo4.WrapMiddleware(guarded), answerErrors4, echo4middleware.RecoverWithConfig(
		echo4middleware.RecoverConfig{LogErrorFunc: func(_ echo4.Context, err error, _ []byte) error { return err }}))
	order := func(c echo4.Context) error {
		s.runs.Add(1)
		return c.String(http.StatusOK, entry(c.Request().Context()))
	}
	router.GET("/orders/:id", order)
	router.Group("/api").Group("/v1").GET("/items/:id", order)
	router.GET("/fails", func(echo4.Context) error { return errors.New("no apples") })
	for path, handler := range map[string]http.HandlerFunc{
		"/panics": s.panics, "/waits": s.waits, "/events": s.events, "/socket": s.socket,
	} {
		router.GET(path, echo4.WrapHandler(handler))
	}
	return router
}

var routers = []struct {
	name         string
	route, items string // of /orders/7, and of /api/v1/items/7
	serve        func(*shop, *guard.Guard, ...guardhttp.Option) http.Handler
}{
	{"net/http", "/orders/{id}", "/api/", (*shop).netHTTP},
	{"chi", "/orders/{id}", "/api/v1/items/{id}", (*shop).chi},
	{"chi, a group", "/orders/{id}", "/api/*", (*shop).chiGroup},
	{"gin", "/orders/:id", "/api/v1/items/:id", (*shop).gin},
	{"gin with recovery", "/orders/:id", "/api/v1/items/:id", (*shop).ginRecovery},
	{"echo", "/orders/:id", "/api/v1/items/:id", (*shop).echo},
	{"echo 4", "/orders/:id", "/api/v1/items/:id", (*shop).echo4},
}

// names are the routes that a guard has heard of.
type names struct {
	mu  sync.Mutex
	all []string
}

func (n *names) Arrived(_ context.Context, d guard.Decision) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.all = append(n.all, d.Arrival.Route)
}
func (*names) Finished(context.Context, string, time.Duration) {}
func (*names) Called(context.Context, guard.CallDecision)      {}

// eachRouter runs a test on a real server with each router, behind a guard with one slot.
func eachRouter(t *testing.T, test func(t *testing.T, s *shop, g *guard.Guard, url string)) {
	t.Helper()
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			withRouter(t, router.serve, nil, test)
		})
	}
}

// withRouter runs a test on a real server, with an observer of its requests; nil: none.
func withRouter(
	t *testing.T, serve func(*shop, *guard.Guard, ...guardhttp.Option) http.Handler, observer guard.Observer,
	test func(t *testing.T, s *shop, g *guard.Guard, url string),
) {
	t.Helper()
	g, err := guard.New(guard.Config{
		Service: "checkout", SLO: 300 * time.Millisecond, Min: 1, Max: 1, Observer: observer,
	})
	if err != nil {
		t.Fatal(err)
	}
	s := &shop{waiting: make(chan struct{}), hold: make(chan struct{})}
	server := httptest.NewUnstartedServer(serve(s, g))
	server.Config.ErrorLog = discard
	server.Start()
	defer server.Close()
	defer close(s.hold)
	test(t, s, g, server.URL)
	if s.broken != nil {
		t.Errorf("the writer that the handler got: %v", s.broken)
	}
}

// get returns the answer and its body; nil if the server has cut the connection.
func get(t *testing.T, url string) (*http.Response, string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil {
		return nil, ""
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(body)
}

func free(t *testing.T, g *guard.Guard) {
	t.Helper()
	waittest.Until(t, "the slot is free", func() bool { n, _ := g.Load(); return n == 0 })
}

// The route is the pattern, in groups, too. What nobody serves has none: whoever tries paths would make a name with each.
func TestAdmittedRequestIsInTheContext(t *testing.T) {
	for _, router := range routers {
		t.Run(router.name, func(t *testing.T) {
			var heard names
			withRouter(t, router.serve, &heard, func(t *testing.T, s *shop, g *guard.Guard, url string) {
				for i, ask := range []struct{ path, route string }{{"/orders/7", router.route}, {"/api/v1/items/7", router.items}} {
					resp, body := get(t, url+ask.path)
					if resp == nil || resp.StatusCode != http.StatusOK || body != "checkout"+ask.route || s.runs.Load() != int32(i+1) {
						t.Errorf("%v %q after %d runs, want the entry checkout%s", resp, body, s.runs.Load(), ask.route)
					}
					free(t, g)
					if n := g.Snapshot().Latency.Count; n != uint64(i+1) {
						t.Errorf("%d latencies counted", n)
					}
				}
				heard.all = nil
				for _, path := range []string{"/nothing/7", "/else", "/orders", "/api/v2/items/7"} {
					if resp, _ := get(t, url+path); resp == nil || resp.StatusCode != http.StatusNotFound {
						t.Errorf("%s: %v", path, resp)
					}
					free(t, g)
				}
				for _, name := range heard.all {
					if name != "" && name != router.items { // served by the nested router
						t.Errorf("a path that nobody serves is the route %q", name)
					}
				}
			})
		})
	}
}

// A client that goes away is no failure, whatever the handler then answers.
func TestClientThatGoesIsNoFailure(t *testing.T) {
	eachRouter(t, func(t *testing.T, s *shop, g *guard.Guard, url string) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, url+"/waits", nil)
		if err != nil {
			t.Fatal(err)
		}
		answered := make(chan error)
		go func() {
			resp, err := http.DefaultTransport.RoundTrip(r)
			if err == nil {
				resp.Body.Close()
			}
			answered <- err
		}()
		<-s.waiting
		cancel()
		if err := <-answered; !errors.Is(err, context.Canceled) {
			t.Errorf("%v", err)
		}
		free(t, g)
		if now := g.Snapshot(); now.Failed != 0 || now.Latency.Count != 0 {
			t.Errorf("%d failed, %d latencies", now.Failed, now.Latency.Count)
		}
	})
}

func TestRefusedRequestReachesNoHandler(t *testing.T) {
	eachRouter(t, func(t *testing.T, s *shop, g *guard.Guard, url string) {
		refused := func(status int, reason string) {
			t.Helper()
			resp, _ := get(t, url+"/orders/7")
			if resp == nil || resp.StatusCode != status || resp.Header.Get("Retry-After") == "" ||
				resp.Header.Get(guardhttp.RefusedHeader) != reason || s.runs.Load() != 0 {
				t.Errorf("%v after %d runs, want %d for %s", resp, s.runs.Load(), status, reason)
			}
		}
		p, err := g.Acquire(t.Context(), guard.Default)
		if err != nil {
			t.Fatal(err)
		}
		refused(http.StatusServiceUnavailable, "concurrency")
		p.Release(guard.Ignored)

		raw, err := actuators.Setting{
			Schema: actuators.Schema, Service: "checkout", Epoch: 1, Revision: 1, LeaseSeconds: 180,
			Rate: &actuators.Rate{PerSecond: 0.1, Burst: 1, Instances: 1, Fallback: 0.1, Max: 100},
		}.Encode()
		if err == nil {
			err = g.Apply(raw)
		}
		if err == nil {
			p, err = g.Acquire(t.Context(), guard.Default) // takes the token
		}
		if err != nil {
			t.Fatal(err)
		}
		p.Release(guard.Ignored)
		refused(http.StatusTooManyRequests, "rate")
	})
}

func TestPanicsAndErrorsAreFailuresAndLeaveNoSlot(t *testing.T) {
	eachRouter(t, func(t *testing.T, _ *shop, g *guard.Guard, url string) {
		for i, path := range []string{"/panics", "/fails"} {
			if resp, _ := get(t, url+path); resp != nil && resp.StatusCode != http.StatusInternalServerError {
				t.Errorf("%s: %v", path, resp)
			}
			free(t, g)
			if n := g.Snapshot().Failed; n != uint64(i+1) {
				t.Errorf("%d failures after %s", n, path)
			}
		}
	})
}

func TestEventsAreFlushedAndHoldNoSlot(t *testing.T) {
	eachRouter(t, func(t *testing.T, _ *shop, g *guard.Guard, url string) {
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/events", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		lines := bufio.NewReader(resp.Body)
		for {
			line, err := lines.ReadString('\n')
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(line, "data:") {
				break
			}
		}
		free(t, g)
		if n := g.Snapshot().EndlessDeclared; n != 1 {
			t.Errorf("%d endless requests", n)
		}
	})
}

func TestConnectionIsTakenOverAndHoldsNoSlot(t *testing.T) {
	eachRouter(t, func(t *testing.T, _ *shop, g *guard.Guard, url string) {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", strings.TrimPrefix(url, "http://"))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /socket HTTP/1.1\r\nHost: shop\r\nConnection: Upgrade\r\nUpgrade: hello\r\n\r\n")
		said, err := io.ReadAll(conn)
		if err != nil || !strings.HasSuffix(string(said), "\r\n\r\nhello\n") {
			t.Errorf("%q, %v", said, err)
		}
		free(t, g)
		if s := g.Snapshot(); s.EndlessDeclaredTotal != 1 || s.Failed != 0 || s.Latency.Count != 0 {
			t.Errorf("%d endless, %d failed, %d latencies", s.EndlessDeclaredTotal, s.Failed, s.Latency.Count)
		}
	})
}
