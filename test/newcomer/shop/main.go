// Shop is a service that was written without governor in mind: it serves 8 requests at a time, 40 ms each on average,
// and its metrics are what the client library of Prometheus makes of its handler.
package main

import (
	"fmt"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/seed-de83e32b/governor/models/live/plant"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: shop ADDRESS")
		os.Exit(2)
	}
	if err := serve(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "shop:", err)
		os.Exit(1)
	}
}

func serve(address string) error {
	p, err := plant.New(plant.Settings{Servers: 8, MeanSeconds: 0.04}, 1)
	if err != nil {
		return err
	}
	duration := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "http_request_duration_seconds", Help: "Time to answer a request.",
		Buckets: []float64{.005, .01, .025, .05, .1, .2, .3, .5, 1, 2.5, 5},
	}, []string{"code"})
	prometheus.MustRegister(duration)
	http.Handle("/", promhttp.InstrumentHandlerDuration(duration, p))
	http.Handle("/metrics", promhttp.Handler())
	return http.ListenAndServe(address, nil)
}
