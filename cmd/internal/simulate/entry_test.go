package simulate

import (
	"math"
	"testing"
)

// The rates at the entry are max-min fair, and fill the services.
func TestEntryRates(t *testing.T) {
	inf := math.Inf(1)
	full := func(callsPerSecond float64) float64 { return callsPerSecond / entryUse }
	for name, c := range map[string]struct {
		offered  []float64   // by API
		capacity []float64   // by service
		calls    [][]float64 // by service and API
		want     []float64
	}{
		"nothing is known":         {[]float64{5, 7}, []float64{inf}, [][]float64{{1, 1}}, []float64{inf, inf}},
		"it fits":                  {[]float64{5, 7}, []float64{full(12.1)}, [][]float64{{1, 1}}, []float64{inf, inf}},
		"equal shares":             {[]float64{50, 70}, []float64{full(20)}, [][]float64{{1, 1}}, []float64{10, 10}},
		"a small one in full":      {[]float64{5, 70}, []float64{full(20)}, [][]float64{{1, 1}}, []float64{inf, 15}},
		"several calls":            {[]float64{50, 70}, []float64{full(20)}, [][]float64{{4, 1}}, []float64{4, 4}},
		"the innocent as it likes": {[]float64{50, 70}, []float64{full(20), inf}, [][]float64{{1, 0}, {1, 1}}, []float64{20, inf}},
		"two full services": {
			[]float64{50, 50, 50},
			[]float64{full(20), full(60)},
			[][]float64{{1, 1, 0}, {0, 1, 1}},
			[]float64{10, 10, inf},
		},
		"a service that is away": {[]float64{50, 70}, []float64{0}, [][]float64{{1, 0}}, []float64{1, inf}},
	} {
		e := entryLoop{}
		for _, offered := range c.offered {
			e.apis = append(e.apis, entryAPI{offered: 5 * offered, requests: 10})
		}
		for s, capacity := range c.capacity {
			service := entryService{capacity: capacity}
			for _, calls := range c.calls[s] {
				service.learned = append(service.learned, 10*calls)
			}
			e.services = append(e.services, service)
		}
		got := e.rates(5)
		for a, want := range c.want {
			if math.Abs(got[a]-want) > 1e-9 {
				t.Errorf("%s: got %v, expected %v", name, got, c.want)
				break
			}
		}
	}
}
