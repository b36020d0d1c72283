package simulate

import (
	"context"
	"math"
	"runtime"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// Row is how a contender fares in a scenario, over several seeds. Shares are percentages, means over the seeds, and NaN where
// the scenario has no such phase or nothing to count.
type Row struct {
	Scenario  string
	Contender Contender
	Timing    control.Timing
	Seeds     []uint64
	Phases    []string // by name, in order of time
	// OfBest is the goodput of a phase as a percentage of what the best fixed limit of that phase got; Worst is that of the
	// worst seed, by phase as well.
	OfBest, Worst map[string]float64
	// Good is the goodput of a phase as a percentage of what was offered.
	Good map[string]float64
	// Late is the share of the requests that finish in the fault, from four dead times after it began, and are slower
	// than the SLO. An objective of 99% allows 1.
	Late float64
	// RefusedInCalm is of all attempts.
	RefusedInCalm float64
	// Critical is the share of the critical requests that are served within the SLO during the fault.
	Critical float64
	// WritesPerMinute counts the Settings with new values during the fault.
	WritesPerMinute float64
	// Demoted counts the requests above the share of their API or tenant, in all seeds together.
	Demoted float64
	// Routes are those of the fault, where there are several.
	Routes []RouteRow
	Graph  *GraphRow // where several services call each other
}

// GraphRow is what became of a scenario of several services in the fault.
type GraphRow struct {
	Last string // the service that the numbers of attempts are about: the last of the scenario
	// Attempts are those per request from outside; Worst is the most in any second of any seed.
	Attempts, Worst float64
	// Wasted is the server time of all services that led to no good answer, in percent, the mean and that of the worst seed.
	Wasted, MostWasted float64
	// Back is how long after the fault it takes until 95% of the requests of five seconds are served in time, the mean and
	// that of the worst seed, in seconds; +Inf: longer than the run.
	Back, LastBack float64
}

// RouteRow is what became of one route, as a percentage of what it offered.
type RouteRow struct {
	Name          string
	Good, Refused float64
	Worst         float64 // Good of the worst seed
}

// Rows does every run with every seed, on as many cores as there are, and finds a row for each. The Seed of the runs does
// not matter. progress is called after every run, from several goroutines but one at a time: how many are done, of how
// many. An error is that of ctx.
func Rows(ctx context.Context, runs []Run, seeds []uint64, progress func(done, all int)) ([]Row, error) {
	type piece struct {
		result Result
		best   Oracle
	}
	rows := make([]Row, len(runs))
	pieces := make([][]piece, len(runs))
	left := make([]int, len(runs))
	var lock sync.Mutex
	done := 0
	finish := func(i, k int, p piece) {
		lock.Lock()
		defer lock.Unlock()
		pieces[i][k] = p
		if left[i]--; left[i] == 0 {
			var sum summary
			for _, p := range pieces[i] {
				sum.add(runs[i], p.result, p.best)
			}
			rows[i], pieces[i] = sum.row(runs[i], seeds), nil
		}
		done++
		progress(done, len(runs)*len(seeds))
	}

	var work sync.WaitGroup
	slots := make(chan struct{}, runtime.GOMAXPROCS(0))
	for i, r := range runs {
		pieces[i], left[i] = make([]piece, len(seeds)), len(seeds)
		for k, seed := range seeds {
			slots <- struct{}{}
			if ctx.Err() != nil {
				work.Wait()
				return nil, ctx.Err()
			}
			one := r // r is that of all seeds
			one.Seed = seed
			work.Go(func() {
				result := one.Do()
				best := bestOf(one.Scenario, seed, result)
				finish(i, k, piece{result, best})
				<-slots
			})
		}
	}
	work.Wait()
	return rows, nil
}

// bestOf is what a result is measured by.
func bestOf(s Scenario, seed uint64, r Result) Oracle {
	if s.Graph != nil {
		return bound(s, r.Score)
	}
	return Best(s, seed)
}

// summary adds up the seeds of a row.
type summary struct {
	ofBest, worst, good                map[string]float64
	late, refused, critical, writes, n float64
	demoted                            float64
	routes                             []RouteRow
	graph                              GraphRow
}

func (s *summary) add(run Run, r Result, best Oracle) {
	if s.n == 0 {
		s.ofBest, s.worst, s.good = map[string]float64{}, map[string]float64{}, map[string]float64{}
	}
	s.n++
	s.demoted += r.Demoted
	for i, p := range r.Score.Phases {
		share := percentOf(p.Good, best.Good[i])
		s.ofBest[p.Name] += share
		s.good[p.Name] += percentOf(p.Good, p.Offered)
		if worst, ok := s.worst[p.Name]; !ok || share < worst || math.IsNaN(share) {
			s.worst[p.Name] = share
		}
	}
	s.refused += run.phase(r.Score, Calm, func(p models.Phase) float64 { return percentOf(p.Refused, p.Admitted+p.Refused) })
	s.critical += run.phase(r.Score, Fault, func(p models.Phase) float64 { return percentOf(p.GoodBy[0], p.OfferedBy[0]) })
	s.writes += run.phase(r.Score, Fault, func(p models.Phase) float64 {
		return float64(r.WritesIn(p.From, p.To)) / (p.To - p.From).Minutes()
	})
	s.late += run.phase(r.Score, Fault, func(p models.Phase) float64 {
		return percentOf(r.Score.Late(p.From+4*run.Timing.DeadTime(), p.To))
	})
	fault := run.Scenario.Phase(Fault)
	if run.Scenario.Graph != nil && fault >= 0 {
		s.addGraph(r, r.Score.Phases[fault])
	}
	if fault < 0 || len(r.Score.Phases[fault].Routes) < 2 {
		return
	}
	for i, route := range r.Score.Phases[fault].Routes {
		if len(s.routes) <= i {
			s.routes = append(s.routes, RouteRow{Name: route.Name, Worst: math.Inf(1)})
		}
		s.routes[i].Worst = min(s.routes[i].Worst, percentOf(route.Good, route.Offered))
		s.routes[i].Good += percentOf(route.Good, route.Offered)
		s.routes[i].Refused += percentOf(route.Refused, route.Admitted+route.Refused)
	}
}

// addGraph adds what only scenarios of several services have.
func (s *summary) addGraph(r Result, fault models.Phase) {
	g := &s.graph
	last := len(fault.Services) - 1
	g.Last = fault.Services[last].Name
	attempts, requests, worst := r.Score.Calls(last, fault.From, fault.To)
	g.Attempts += float64(attempts) / float64(requests)
	g.Worst = max(g.Worst, worst)
	work := 0.0
	for _, service := range fault.Services {
		work += service.Work
	}
	wasted := 100 * (1 - fault.Useful/work)
	g.Wasted += wasted
	g.MostWasted = max(g.MostWasted, wasted)
	back := r.back(fault.To).Seconds()
	if back < 0 {
		back = math.Inf(1)
	}
	g.Back += back
	g.LastBack = max(g.LastBack, back)
}

// back is how long after an instant, a whole second, it takes until 95% of the requests that arrive in five seconds are
// served in time; negative: longer than the run.
func (r Result) back(from time.Duration) time.Duration {
	const span = 5 * time.Second
	phases := r.Score.Phases
	for at := from; at+span <= phases[len(phases)-1].To; at += time.Second {
		if good, offered := r.Score.Goodput(at, at+span); float64(good) >= 0.95*float64(offered) {
			return at - from
		}
	}
	return -1
}

func (s *summary) row(run Run, seeds []uint64) Row {
	for phase := range s.ofBest {
		s.ofBest[phase] /= s.n
		s.good[phase] /= s.n
	}
	for i := range s.routes {
		s.routes[i].Good /= s.n
		s.routes[i].Refused /= s.n
	}
	var phases []string
	for _, p := range run.Scenario.Phases {
		phases = append(phases, p.Name)
	}
	var graph *GraphRow
	if s.graph.Last != "" {
		g := s.graph
		g.Attempts, g.Wasted, g.Back = g.Attempts/s.n, g.Wasted/s.n, g.Back/s.n
		graph = &g
	}
	return Row{
		Graph: graph, Scenario: run.Scenario.Name, Contender: run.Contender, Timing: run.Timing, Seeds: seeds,
		Phases: phases, OfBest: s.ofBest, Worst: s.worst, Good: s.good,
		Late: s.late / s.n, RefusedInCalm: s.refused / s.n, Critical: s.critical / s.n, WritesPerMinute: s.writes / s.n,
		Routes: s.routes, Demoted: s.demoted,
	}
}

// phase is a number of the phase of that name, NaN where there is none.
func (r Run) phase(s *models.Score, name string, of func(p models.Phase) float64) float64 {
	if i := r.Scenario.Phase(name); i >= 0 {
		return of(s.Phases[i])
	}
	return math.NaN()
}

// percentOf is NaN where there is nothing to be a share of.
func percentOf(part, of int) float64 { return 100 * float64(part) / float64(of) }
