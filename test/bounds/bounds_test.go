package bounds

import (
	"bytes"
	"encoding/json"
	"math"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"gonum.org/v1/gonum/mat"
	"gonum.org/v1/gonum/optimize/convex/lp"
)

// phase is the linear program of a phase: maximize the sum of what is served of each route, where no route is served above
// its offer and no service works more than its servers can.
type phase struct {
	Phase    string      `json:"phase"`
	Offered  []float64   `json:"offered_per_second"`       // by route
	Work     [][]float64 `json:"work_seconds_per_request"` // by service and route
	Capacity []float64   `json:"capacity_servers"`         // by service
	Optimum  float64     `json:"optimum_per_second"`
}

// solve is the optimum by the simplex method. Slack variables make equations of the constraints: one for each route's
// offer and for each service's capacity.
func (p phase) solve(t *testing.T) float64 {
	t.Helper()
	routes, rows := len(p.Offered), len(p.Offered)+len(p.Capacity)
	c := make([]float64, routes+rows)
	a := mat.NewDense(rows, routes+rows, nil)
	b := make([]float64, rows)
	for r, offered := range p.Offered {
		c[r] = -1
		a.Set(r, r, 1)
		b[r] = offered
	}
	for s, capacity := range p.Capacity {
		for r, work := range p.Work[s] {
			a.Set(routes+s, r, work)
		}
		b[routes+s] = capacity
	}
	for i := range rows {
		a.Set(i, routes+i, 1)
	}
	best, _, err := lp.Simplex(c, a, b, 1e-10, nil)
	if err != nil {
		t.Fatalf("simplex: %v", err)
	}
	return -best
}

// TestBoundsAreOptimal compares the bound of each phase of each scenario that comes with governor with the simplex method's.
func TestBoundsAreOptimal(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "run", "./cmd/governor", "simulate", "--all", "--bounds")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "GOWORK=off")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %v\n%s", cmd, err, stderr.Bytes())
	}
	var scenarios []struct {
		Scenario string  `json:"scenario"`
		Phases   []phase `json:"phases"`
	}
	if err := json.Unmarshal(out, &scenarios); err != nil {
		t.Fatal(err)
	}
	if len(scenarios) < 10 {
		t.Fatalf("only %d scenarios", len(scenarios))
	}
	for _, s := range scenarios {
		for _, p := range s.Phases {
			if best := p.solve(t); math.Abs(best-p.Optimum) > 1e-6*max(1, best) {
				t.Errorf("%s, %s: the simulator has %.4f requests/s, the simplex method %.4f", s.Scenario, p.Phase, p.Optimum, best)
			} else {
				t.Logf("%s, %s: %.1f requests/s", s.Scenario, p.Phase, best)
			}
		}
	}
}

// TestSolverKnowsTwoServices solves a program in which two services decide, which the simulator's formula overestimates:
// routes 1 and 2 share a service of 10 servers, routes 2 and 3 one of 4, each request needs a second.
func TestSolverKnowsTwoServices(t *testing.T) {
	p := phase{
		Offered: []float64{9, 9, 2}, Capacity: []float64{10, 4},
		Work: [][]float64{{1, 1, 0}, {0, 1, 1}},
	}
	if got := p.solve(t); math.Abs(got-12) > 1e-9 { // 9 + 1 + 2
		t.Errorf("got %v", got)
	}
}

// TestSolverIsNeverBeaten compares the solver with random points that meet the constraints.
func TestSolverIsNeverBeaten(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	for range 50 {
		p := phase{Offered: make([]float64, 3), Capacity: make([]float64, 2), Work: [][]float64{make([]float64, 3), make([]float64, 3)}}
		for i := range p.Offered {
			p.Offered[i] = 10 * r.Float64()
			p.Work[0][i], p.Work[1][i] = r.Float64(), r.Float64()
		}
		for s := range p.Capacity {
			p.Capacity[s] = 5 * r.Float64()
		}
		best := p.solve(t)
		for range 200 {
			sum, scale := 0.0, 1.0
			x := make([]float64, 3)
			for i := range x {
				x[i] = p.Offered[i] * r.Float64()
				sum += x[i]
			}
			for s, capacity := range p.Capacity {
				work := 0.0
				for i := range x {
					work += p.Work[s][i] * x[i]
				}
				scale = min(scale, capacity/work)
			}
			if sum*scale > best+1e-9 {
				t.Fatalf("%+v: %v serves %v, the solver's best is %v", p, x, sum*scale, best)
			}
		}
	}
}
