package models

import (
	"math"
	"time"
)

// Score is what the clients saw, counted exactly and without delay. A request belongs to the phase in which it arrived.
// Requests of a route with a deadline of its own are in Phase.Routes and nowhere else.
type Score struct {
	slo       time.Duration
	objective float64
	Phases    []Phase
	seconds   []second
	current   int
	routes    []Route
	calls     [][]int32 // attempts, by service and second, where there are several services
}

// Phase is a span of a run with a score of its own.
type Phase struct {
	Name     string
	From, To time.Duration

	Offered           int // requests, however often they were sent
	Admitted, Refused int // attempts
	// Good counts requests that finished within the SLO, measured from their first attempt, in total and by
	// criticality.
	Good        int
	OfferedBy   [Classes]int
	GoodBy      [Classes]int
	Routes      []RouteScore   // by Request.Route
	Services    []ServiceScore // of a Graph
	Useful      float64        // server seconds, of all services, that led to a good answer
	latencies   []int32        // admitted and finished, by latencyBin
	latencySeen int
}

// RouteScore is what became of the requests of one route in a phase.
type RouteScore struct {
	Name              string
	Offered           int // requests
	Admitted, Refused int // attempts
	Good              int // finished within the SLO, or within the deadline of the route
	// Of a Graph, which counts the requests that ended otherwise: answered too late, and not answered well at all.
	Late, Failed int
}

// ServiceScore is what one service of a Graph did for the requests of a phase.
type ServiceScore struct {
	Name              string
	Attempts          int     // sent to it
	Admitted, Refused int     // of those that reached it
	Work              float64 // server seconds
}

// second counts one second of a run: the requests that arrived in it and how many of those finished well, and the
// requests that finished in it and how many of those were late.
type second struct {
	arrived, good  int32
	finished, late int32
}

// NewScore returns a Score for an SLO (the share objective within latency slo) over adjoining phases. It reads only
// Name, From and To of each Phase.
func NewScore(slo time.Duration, objective float64, phases []Phase) *Score {
	s := &Score{slo: slo, objective: objective}
	for _, p := range phases {
		s.Phases = append(s.Phases, Phase{Name: p.Name, From: p.From, To: p.To, latencies: make([]int32, latencyBins)})
	}
	s.seconds = make([]second, int(phases[len(phases)-1].To/time.Second)+2)
	return s
}

// phase returns the phase that contains at. It searches from the previous result, because at rarely moves far.
func (s *Score) phase(at time.Duration) *Phase {
	for s.current > 0 && at < s.Phases[s.current].From {
		s.current--
	}
	for s.current < len(s.Phases)-1 && at >= s.Phases[s.current].To {
		s.current++
	}
	return &s.Phases[s.current]
}

func (s *Score) second(at time.Duration) *second {
	return &s.seconds[min(int(at/time.Second), len(s.seconds)-1)]
}

// judge prepares the score for the routes of a plant.
func (s *Score) judge(routes []Route) {
	s.routes = routes
	for i := range s.Phases {
		s.Phases[i].Routes = make([]RouteScore, len(routes))
		for j, r := range routes {
			s.Phases[i].Routes[j].Name = r.Name
		}
	}
}

// watch prepares the score for the services of a Graph.
func (s *Score) watch(services []Service) {
	for i := range s.Phases {
		s.Phases[i].Services = make([]ServiceScore, len(services))
		for j, service := range services {
			s.Phases[i].Services[j].Name = service.Name
		}
	}
	for range services {
		s.calls = append(s.calls, make([]int32, len(s.seconds)))
	}
}

// called counts an attempt at a service for a request that arrived at the instant arrived.
func (s *Score) called(service int, now, arrived time.Duration) {
	s.phase(arrived).Services[service].Attempts++
	s.calls[service][min(int(now/time.Second), len(s.seconds)-1)]++
}

// entered counts the verdict about an attempt that reached a service.
func (s *Score) entered(link Link, root Request, v Verdict) {
	service := &s.phase(root.Arrived).Services[link.To]
	if v == Admitted {
		service.Admitted++
	} else {
		service.Refused++
	}
	if link.From == Clients {
		s.attempted(root, v)
	}
}

// worked counts server seconds of a service.
func (s *Score) worked(arrived time.Duration, service int, seconds float64) {
	s.phase(arrived).Services[service].Work += seconds
}

// ended counts the end of a request that came from outside, with the server seconds behind its answer.
func (s *Score) ended(now time.Duration, root Request, a Answer, seconds float64) {
	p := s.phase(root.Arrived)
	route := &p.Routes[root.Route]
	switch {
	case a.Outcome != Answered:
		route.Failed++
		return
	case now-root.Arrived > s.slo:
		route.Late++
	default:
		p.Useful += seconds
	}
	s.finished(now, root, OK)
}

// Calls counts the attempts at a service of a Graph in [from, to), and the requests that arrived from outside then; worst
// is the most attempts per request in any whole second of it with requests.
func (s *Score) Calls(service int, from, to time.Duration) (attempts, requests int, worst float64) {
	for i := int(from / time.Second); i < int(to/time.Second) && i < len(s.seconds); i++ {
		n, arrived := int(s.calls[service][i]), int(s.seconds[i].arrived)
		attempts += n
		requests += arrived
		if arrived > 0 {
			worst = max(worst, float64(n)/float64(arrived))
		}
	}
	return attempts, requests, worst
}

func (s *Score) arrived(at time.Duration, class, route int) {
	p := s.phase(at)
	p.Routes[route].Offered++
	if s.routes[route].Deadline > 0 {
		return
	}
	p.Offered++
	p.OfferedBy[class]++
	s.second(at).arrived++
}

func (s *Score) attempted(r Request, v Verdict) {
	p := s.phase(r.Arrived)
	admitted, refused := 1, 0
	if v != Admitted && v != Aside {
		admitted, refused = 0, 1
	}
	route := &p.Routes[r.Route]
	route.Admitted += admitted
	route.Refused += refused
	if s.routes[r.Route].Deadline == 0 {
		p.Admitted += admitted
		p.Refused += refused
	}
}

func (s *Score) finished(at time.Duration, r Request, o Outcome) {
	latency := at - r.Sent
	p := s.phase(r.Arrived)
	if deadline := s.routes[r.Route].Deadline; deadline > 0 {
		if o == OK && at-r.Arrived <= deadline {
			p.Routes[r.Route].Good++
		}
		return
	}
	p.latencies[latencyBin(latency)]++
	p.latencySeen++
	end := s.second(at)
	end.finished++
	if latency > s.slo {
		end.late++
		return
	}
	if o == OK && at-r.Arrived <= s.slo {
		p.Good++
		p.GoodBy[r.Criticality]++
		p.Routes[r.Route].Good++
		s.second(r.Arrived).good++
	}
}

// Quantile is the q-quantile of latency over the admitted requests of the phase, to within 1%; 0 if none finished.
func (p *Phase) Quantile(q float64) time.Duration {
	if p.latencySeen == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(p.latencySeen)))
	for bin, n := range p.latencies {
		if rank -= int(n); rank <= 0 {
			return latencyOf(bin)
		}
	}
	return latencyOf(latencyBins - 1)
}

// AboveSLO is the time in [from, to) during which the service violated its SLO: whole seconds in which more of the
// finishing requests were late than the objective allows, or in which requests arrived and none finished.
func (s *Score) AboveSLO(from, to time.Duration) time.Duration {
	var n time.Duration
	for i := int(from / time.Second); i < int(to/time.Second) && i < len(s.seconds); i++ {
		sec := s.seconds[i]
		late := float64(sec.late) > (1-s.objective)*float64(sec.finished)
		hung := sec.finished == 0 && sec.arrived > 0
		if late || hung {
			n += time.Second
		}
	}
	return n
}

// Late counts the requests that finished in [from, to) and those of them that took longer than the SLO. Both instants
// are whole seconds.
func (s *Score) Late(from, to time.Duration) (late, finished int) {
	for i := int(from / time.Second); i < int(to/time.Second) && i < len(s.seconds); i++ {
		late += int(s.seconds[i].late)
		finished += int(s.seconds[i].finished)
	}
	return late, finished
}

// Goodput counts the requests that arrived in [from, to) and those of them that finished within the SLO. Both instants
// are whole seconds.
func (s *Score) Goodput(from, to time.Duration) (good, offered int) {
	for i := int(from / time.Second); i < int(to/time.Second) && i < len(s.seconds); i++ {
		good += int(s.seconds[i].good)
		offered += int(s.seconds[i].arrived)
	}
	return good, offered
}

// Latencies are kept in bins of 1% width from 0.1 ms to about 28 min.
const (
	latencyBins  = 1670
	latencyLeast = 0.1e-3
)

var binWidth = math.Log(1.01)

func latencyBin(d time.Duration) int {
	bin := math.Log(d.Seconds()/latencyLeast) / binWidth
	return int(max(0, min(latencyBins-1, bin))) // -Inf for 0 falls into the first bin
}

func latencyOf(bin int) time.Duration {
	return time.Duration(latencyLeast * math.Exp((float64(bin)+0.5)*binWidth) * float64(time.Second))
}
