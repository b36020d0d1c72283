package guardhttp_test

import (
	"fmt"
	"log"
	"net/http"
	"net/http/httptest"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// A guarded server in five lines.
func Example() {
	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
	if err != nil {
		log.Fatal(err)
	}
	handler := guardhttp.New(g, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, "paid")
	}))

	server := httptest.NewServer(handler) // http.ListenAndServe(":8080", handler)
	defer server.Close()
	resp, err := http.Get(server.URL)
	if err != nil {
		log.Fatal(err)
	}
	defer resp.Body.Close()
	fmt.Println(resp.Status)
	// Output: 200 OK
}

// Health checks and scrapes pass a full service; the criticality comes from the route, the tenant
// from what the edge has found out.
func ExampleNew_options() {
	g, _ := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 20, Max: 400})
	handler := guardhttp.New(g, http.NotFoundHandler(),
		guardhttp.WithBypass(func(r *http.Request) bool {
			return r.URL.Path == "/healthy" || r.URL.Path == "/metrics"
		}),
		guardhttp.WithCriticality(func(r *http.Request) guard.Criticality {
			if r.URL.Path == "/pay" {
				return guard.Critical
			}
			return guard.Default
		}),
		guardhttp.WithKey(func(r *http.Request) string {
			return r.Header.Get("X-Tenant-Id") // set by the edge, which has authenticated the tenant
		}),
	)

	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/pay", nil))
	fmt.Println(w.Code, g.Snapshot().Admitted[guard.Critical])
	// Output: 404 1
}
