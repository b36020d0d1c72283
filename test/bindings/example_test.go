package bindings

import (
	"cmp"
	"context"
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"connectrpc.com/connect"
	"github.com/gin-gonic/gin"
	"github.com/go-chi/chi/v5"
	echo4 "github.com/labstack/echo/v4"
	"github.com/labstack/echo/v5"
	"golang.org/x/time/rate"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/source"
)

func newGuard() *guard.Guard {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	return g
}

// entry is what a handler sees of its request: its API, which is the service and the route.
func entry(ctx context.Context) string {
	origin, ok := guard.OriginOf(ctx)
	if !ok {
		return "not guarded"
	}
	return origin.Entry
}

// ask prints the answer of a handler.
func ask(h http.Handler, path string) {
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
	fmt.Println(w.Code, w.Body)
}

func Example_netHTTP() {
	g := newGuard()
	mux := http.NewServeMux()
	mux.HandleFunc("GET /orders/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, entry(r.Context())) })

	handler := guardhttp.New(g, mux, guardhttp.WithRoute(guardhttp.PatternIn(mux)))

	ask(handler, "/orders/7")
	// Output: 200 checkout/orders/{id}
}

func Example_chi() {
	g := newGuard()
	router := chi.NewRouter()

	router.Use(guardhttp.Middleware(g, guardhttp.WithRoute(chiPattern(router))))

	router.Get("/orders/{id}", func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, entry(r.Context())) })
	ask(router, "/orders/7")
	// Output: 200 checkout/orders/{id}
}

// chiPattern returns the pattern with which router serves a request.
func chiPattern(router chi.Routes) func(*http.Request) string {
	return func(r *http.Request) string {
		return router.Find(chi.NewRouteContext(), r.Method, cmp.Or(r.URL.RawPath, r.URL.Path))
	}
}

func Example_gin() {
	gin.SetMode(gin.ReleaseMode)
	g := newGuard()
	router := gin.New()
	router.GET("/orders/:id", func(c *gin.Context) { c.String(http.StatusOK, entry(c.Request.Context())) })

	handler := guardhttp.New(g, router, guardhttp.WithRoute(guardhttp.PatternBy(ginPatterns(router))))

	ask(handler, "/orders/7")
	// Output: 200 checkout/orders/:id
}

// ginPatterns returns an engine with the routes that router has so far. Its handlers only name the pattern.
func ginPatterns(router *gin.Engine) *gin.Engine {
	finder := gin.New()
	finder.UseRawPath, finder.UseEscapedPath = router.UseRawPath, router.UseEscapedPath
	finder.RemoveExtraSlash = router.RemoveExtraSlash
	for _, route := range router.Routes() {
		finder.Handle(route.Method, route.Path, func(c *gin.Context) { c.Request.Pattern = c.FullPath() })
	}
	return finder
}

func Example_echo() {
	g := newGuard()
	router := echo.New()

	router.Use(echo.WrapMiddleware(guardhttp.Middleware(g, guardhttp.WithRoute(guardhttp.PatternOf))), answerErrors)

	router.GET("/orders/:id", func(c *echo.Context) error { return c.String(http.StatusOK, entry(c.Request().Context())) })
	ask(router, "/orders/7")
	// Output: 200 checkout/orders/:id
}

// answerErrors writes the answer to an error that a handler returned, which Echo would do after the guard has judged the
// request.
func answerErrors(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c *echo.Context) error {
		if err := next(c); err != nil {
			c.Echo().HTTPErrorHandler(c, err)
		}
		return nil
	}
}

func Example_echo4() {
	g := newGuard()
	router := echo4.New()

	router.Use(namePattern4, echo4.WrapMiddleware(guardhttp.Middleware(g, guardhttp.WithRoute(guardhttp.PatternOf))), answerErrors4)

	router.GET("/orders/:id", func(c echo4.Context) error { return c.String(http.StatusOK, entry(c.Request().Context())) })
	ask(router, "/orders/7")
	// Output: 200 checkout/orders/:id
}

// namePattern4 names the pattern of a request, as Echo 5 does.
func namePattern4(next echo4.HandlerFunc) echo4.HandlerFunc {
	return func(c echo4.Context) error {
		c.Request().Pattern = c.Path()
		return next(c)
	}
}

// answerErrors4 is answerErrors for Echo 4.
func answerErrors4(next echo4.HandlerFunc) echo4.HandlerFunc {
	return func(c echo4.Context) error {
		if err := next(c); err != nil {
			c.Error(err)
		}
		return nil
	}
}

func Example_connect() {
	g := newGuard()
	mux := http.NewServeMux()
	mux.Handle("/shop.Cart/Add", connect.NewUnaryHandler("/shop.Cart/Add", add)) // mux.Handle(shopv1connect.NewCartHandler(cart{}))

	handler := guardhttp.New(g, mux, guardhttp.WithRoute(guardhttp.PatternIn(mux)))

	r := httptest.NewRequest(http.MethodPost, "/shop.Cart/Add", strings.NewReader(`"apples"`))
	r.Header.Set("Content-Type", "application/json")
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, r)
	fmt.Println(w.Code, w.Body)
	// Output: 200 "apples for checkout/shop.Cart/Add"
}

func add(
	ctx context.Context, r *connect.Request[wrapperspb.StringValue],
) (*connect.Response[wrapperspb.StringValue], error) {
	return connect.NewResponse(wrapperspb.String(r.Msg.GetValue() + " for " + entry(ctx))), nil
}

// The rate of the service "mailer" is that of a limiter. What it allows is this instance's part.
func Example_rateLimiter() {
	limiter := rate.NewLimiter(10, 5)
	ctx, end := context.WithCancel(context.Background())
	var settings source.Memory // &consul.Watcher{Client: client}
	if err := settings.Set(actuators.Setting{
		Schema: actuators.Schema, Service: "mailer", Epoch: 1, Revision: 1, LeaseSeconds: 180,
		Rate: &actuators.Rate{PerSecond: 400, Burst: 40, Instances: 4, Fallback: 100, Min: 10, Max: 1000},
	}); err != nil {
		log.Fatal(err)
	}

	err := guard.Watch(ctx, &settings, "mailer", func(s actuators.Setting) {
		if s.Rate != nil {
			perSecond, burst := s.Rate.Part()
			limiter.SetLimit(rate.Limit(min(perSecond, float64(rate.Inf))))
			limiter.SetBurst(int(burst))
		}
		fmt.Println(limiter.Limit(), "mails a second, at once", limiter.Burst())
		end() // a service goes on: it runs Watch in a goroutine
	})
	fmt.Println(err)
	// Output:
	// 100 mails a second, at once 10
	// <nil>
}
