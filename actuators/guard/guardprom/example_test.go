package guardprom_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/guardprom"
)

// A guarded service with its metrics. The scrape itself is not guarded.
func Example() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Fallback: 50})
	registry := prometheus.NewRegistry()
	registry.MustRegister(guardprom.New(g))

	mux := http.NewServeMux()
	mux.Handle("/metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	mux.Handle("/", guardhttp.New(g, http.NotFoundHandler()))

	scrape := httptest.NewRecorder()
	mux.ServeHTTP(scrape, httptest.NewRequest(http.MethodGet, "/metrics", nil))
	for line := range strings.Lines(scrape.Body.String()) {
		if strings.HasPrefix(line, "guard_limit") {
			fmt.Print(line)
		}
	}
	// Output: guard_limit{service="checkout"} 50
}
