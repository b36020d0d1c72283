package simulate

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/models"
)

// Bounds of what a file may ask for. Beyond them a run takes minutes, or a slip of the pen is likely.
const (
	maxInstances = 500
	maxServers   = 1e6
	maxLoad      = 1e6 // requests/s
	maxSlowdown  = 1e4
	maxTenants   = 1e6  // of a route
	maxTurns     = 2000 // of a step that comes back
	maxEnd       = 24 * time.Hour
)

// check reports what cannot be simulated, each problem with the path of its key.
func (f file) check(fail func(path []any, format string, args ...any)) {
	at := func(path ...any) []any { return path }
	if f.Title == "" {
		fail(at(), "title is missing; expected a line that says what happens")
	}
	if f.SLO.Latency < span(time.Millisecond) || f.SLO.Latency > span(time.Hour) {
		fail(at("slo", "latency"), "latency: %v; expected 1ms to 1h", time.Duration(f.SLO.Latency))
	}
	if !(f.SLO.Objective > 0 && f.SLO.Objective < 1) {
		fail(at("slo", "objective"), "objective: %g%%; expected more than 0%% and less than 100%%", 100*f.SLO.Objective)
	}
	if l := f.Limit; !(l.Min >= 1 && l.Start >= l.Min && l.Max >= l.Start && l.Max < unlimited) {
		fail(at("limit"), "limit: start %g, min %g, max %g; expected 1 ≤ min ≤ start ≤ max", l.Start, l.Min, l.Max)
	}
	if len(f.Limit.Fixed) == 0 || slices.ContainsFunc(f.Limit.Fixed, func(l float64) bool { return !(l >= 1) }) {
		fail(at("limit", "fixed"), "fixed: expected limits of at least 1 to try")
	}
	if len(f.Services) > 0 {
		f.checkGraph(fail)
	} else {
		f.checkAlone(fail)
		f.checkService(f.Service, func(key, format string, args ...any) { fail(at("service", key), format, args...) })
	}
	f.checkClients(fail)
	f.checkLoad(fail)
	if f.end() > maxEnd {
		fail(at("phases"), "phases: the run takes %v; expected at most %v", f.end(), maxEnd)
	}
	previous := span(0)
	for i, p := range f.Phases {
		for _, until := range p {
			if len(p) != 1 || until <= previous || until%span(time.Second) != 0 {
				fail(at("phases", i), "phases: expected {NAME: END}, with ends in whole seconds that grow")
			}
			previous = until
		}
	}
	for i, s := range f.Script {
		f.checkStep(s, func(key, format string, args ...any) { fail(at("script", i, key), format, args...) })
	}
}

func (f file) checkService(s serviceFile, bad func(key, format string, args ...any)) {
	if s.Servers < 0 || s.Servers > maxServers {
		bad("servers", "servers: %d; expected 0 to a million", s.Servers)
	}
	if s.Time == 0 || s.Time > span(time.Hour) {
		bad("time", "time: %v; expected more than 0s and at most 1h", time.Duration(s.Time))
	}
	if s.Instances < 1 || s.Instances > maxInstances {
		bad("instances", "instances: %d; expected 1 to %d", s.Instances, maxInstances)
	}
	if s.WarmUp.For > 0 && !(s.WarmUp.Slowdown > 0 && s.WarmUp.Slowdown <= maxSlowdown) {
		bad("warm-up", "warm-up: slowdown %g; expected more than 0", s.WarmUp.Slowdown)
	}
}

func (f file) checkClients(fail func(path []any, format string, args ...any)) {
	if r := f.Clients.Retries; r.Times < 0 || r.Times > 20 || r.Times > 0 && (r.Wait == 0 || f.Clients.Timeout == 0) {
		fail([]any{"clients", "retries"}, "retries: expected times, 0 to 20, a wait, and clients with a timeout")
	}
}

func (f file) checkLoad(fail func(path []any, format string, args ...any)) {
	whole := func(m mixFile) bool {
		var sum float64
		for _, s := range m.classes() {
			sum += s
		}
		return m == (mixFile{}) || math.Abs(sum-1) < 1e-9
	}
	if !whole(f.Mix) {
		fail([]any{"mix"}, "mix: the shares do not add up to 100%%")
	}
	if f.Load != nil && len(f.Routes) > 0 {
		fail([]any{"load"}, "load: there are routes, and each has its own load")
	}
	names := map[string]bool{}
	for i, r := range f.Routes {
		bad := func(key, format string, args ...any) { fail([]any{"routes", i, key}, format, args...) }
		if r.Name == "" || names[r.Name] {
			bad("name", "name: %q; expected one that no other route has", r.Name)
		}
		names[r.Name] = true
		if !whole(r.Mix) {
			bad("mix", "mix: the shares do not add up to 100%%")
		}
		if r.Time != nil && *r.Time == 0 && r.Hold == 0 {
			bad("time", "time: 0s; a route without a hold needs a service")
		}
		if r.Tenants < 0 || r.Tenants > maxTenants || !(r.Skew >= 0 && r.Skew <= 10) || r.Skew > 0 && r.Tenants == 0 {
			bad("tenants", "tenants, skew: expected up to %d tenants, and a skew of 0 to 10", maxTenants)
		}
		if r.Deadline > 0 && f.Clients.Retries.Times > 0 {
			bad("deadline", "deadline: clients that try again are all equally patient; leave out retries")
		}
	}
	for i, r := range f.routes() {
		if r.Time != nil && *r.Time > span(time.Hour) || r.Hold > span(maxEnd) || r.Deadline > span(maxEnd) {
			fail([]any{"routes", i}, "expected a time of at most 1h, a hold and a deadline of at most %v", maxEnd)
		}
		if l := f.load(i); !(l.Peak > 0 && l.Peak <= maxLoad) || !(r.Load >= 0) {
			path := []any{"load"}
			if len(f.Routes) > 0 {
				path = []any{"routes", i, "load"}
			}
			fail(path, "load: it never exceeds %g requests/s; expected more, and at most a million", l.Peak)
		}
	}
}

func (f file) checkStep(s stepFile, bad func(key, format string, args ...any)) {
	switch {
	case s.At == nil:
		bad("", "at is missing; expected when the step begins")
	case s.Until != nil && *s.Until <= *s.At:
		bad("until", "the step is over at %v, before it begins", time.Duration(*s.Until))
	}
	if s.Every > 0 && s.At != nil && s.until(f.end())-time.Duration(*s.At) > maxTurns*time.Duration(s.Every) {
		bad("every", "every: %v; it would come back more than %d times", time.Duration(s.Every), maxTurns)
	}
	if s.For > s.Every {
		bad("for", "for: %v; expected every to say how often, and that to be longer", time.Duration(s.For))
	}
	load := s.load()
	stage := s.stage()
	if life := s.Add != 0 || s.Remove != 0 || s.Restart != 0; !load && !stage && !life && s.Metrics == "" {
		bad("", "the step says when, and not what")
	}
	switch {
	case s.Route != "" && !load:
		bad("route", "route: expected the load of that route")
	case s.Ramp > 0 && s.Load == nil && s.Times == nil:
		bad("ramp", "ramp: expected the load that it leads to")
	case s.Instance != 0 && !stage:
		bad("instance", "instance: expected what happens to it: servers, slowdown, slower or dependency")
	}
	if s.Route != "" && !slices.ContainsFunc(f.Routes, func(r routeFile) bool { return r.Name == s.Route }) {
		bad("route", "no route is called %q", s.Route)
	}
	if (s.Load != nil || s.Sine != nil) && s.Route == "" && len(f.Routes) > 1 {
		bad("load", "load: several routes share the load; expected the route whose load it is, or times")
	}
	if s.Times != nil && *s.Times < 0 || s.Load != nil && *s.Load < 0 {
		bad("load", "times, load: expected at least 0")
	}
	if w := s.Sine; w != nil && !(w.Low >= 0 && w.High > w.Low && w.Period > 0) {
		bad("sine", "sine: expected low, a high above it, and a period")
	}
	others := slices.ContainsFunc(f.Script, func(o stepFile) bool { return o.load() && len(o.Surge) == 0 })
	if len(s.Surge) > 0 && others {
		bad("surge", "surge: expected no other step that changes the load")
	}
	for class, times := range s.Surge {
		if !slices.Contains(criticalities, class) || !(times > 0) || len(s.Surge) > 1 || len(f.Routes) > 0 {
			bad("surge", "surge: expected one criticality and its multiple, like {sheddable: 12}, in a scenario without routes")
		}
	}
	if s.Servers != nil && (*s.Servers < 0 || *s.Servers > maxServers) {
		bad("servers", "servers: %d; expected 0 to a million", *s.Servers)
	}
	if s.Slowdown != nil && !(*s.Slowdown > 0 && *s.Slowdown <= maxSlowdown) {
		bad("slowdown", "slowdown: %g; expected more than 0 and at most %g", *s.Slowdown, maxSlowdown)
	}
	if s.Slower != 0 && !f.bearable(s) {
		bad("slower", "slower: expected a factor above 0 that leads to at most %g, and every", maxSlowdown)
	}
	instances := f.Service.Instances
	if len(f.Services) > 0 {
		instances = f.checkWhose(s, bad)
	} else if s.Service != "" || s.Away != 0 {
		bad("service", "service, away: expected a file with several services")
	}
	if s.Instance < 0 || s.Instance > instances {
		bad("instance", "instance: %d; expected 1 to %d", s.Instance, instances)
	}
	if s.Add < 0 || s.Remove < 0 || max(s.Add, s.Remove) > maxInstances || (s.Add+s.Remove)*f.turns(s) > maxInstances {
		bad("add", "add, remove: expected at least 0, and at most %d in all", maxInstances)
	}
	if s.Restart > 0 && s.Every == 0 {
		bad("restart", "restart: expected every to say when the next one goes")
	}
	if s.Metrics != "" && s.Metrics != "lost" {
		bad("metrics", "metrics: %q; expected lost", s.Metrics)
	}
}

// load says whether the step changes the load.
func (s stepFile) load() bool {
	return s.Times != nil || s.Load != nil || s.Sine != nil || len(s.Surge) > 0
}

// stage says whether the step changes the condition of instances.
func (s stepFile) stage() bool {
	return s.Servers != nil || s.Slowdown != nil || s.Slower != 0 || s.Dependency != nil || s.Away != 0
}

// turns is how often a step comes, 1 where it does not come back.
func (f file) turns(s stepFile) int {
	if s.Every == 0 || s.At == nil {
		return 1
	}
	return 1 + max(0, int((s.until(f.end())-time.Duration(*s.At))/time.Duration(s.Every)))
}

// bearable says whether a service that a step makes slower and slower stays within what can be simulated.
func (f file) bearable(s stepFile) bool {
	last := math.Pow(s.Slower, float64(f.turns(s)))
	return s.Slower > 0 && s.Every > 0 && last > 0 && last <= maxSlowdown
}

// phases are those of the file, or the usual ones.
func (f file) phases() (phases []models.Phase) {
	from := time.Duration(0)
	for _, p := range f.Phases {
		for name, until := range p {
			phases = append(phases, models.Phase{Name: name, From: from, To: time.Duration(until)})
			from = time.Duration(until)
		}
	}
	if len(phases) == 0 {
		return slices.Clone(usualPhases)
	}
	return phases
}

func (f file) end() time.Duration {
	phases := f.phases()
	return phases[len(phases)-1].To
}

// scenario is what the file says, for a run. The file has been checked.
func (f file) scenario(name string) Scenario {
	s := Scenario{
		Name: name, Title: f.Title, Intent: f.Intent,
		SLO:   f.slo(),
		Start: f.Limit.Start, Min: f.Limit.Min, Max: f.Limit.Max, Fixed: f.Limit.Fixed,
		Phases: f.phases(),
	}
	for _, step := range f.Script {
		if step.Metrics != "" {
			s.Outages = append(s.Outages, step.spans(f.end())...)
		}
	}
	if len(f.Services) > 0 {
		s.Tiers = f.tiers()
		s.Graph = f.graph()
		return s
	}
	cfg := models.Config{
		ServiceTime: time.Duration(f.Service.Time), Law: f.Service.Law.Law,
		ClientTimeout: time.Duration(f.Clients.Timeout),
		Retries:       f.Clients.Retries.Times, RetryWait: time.Duration(f.Clients.Retries.Wait),
		CancelPassedOn: f.Service.DropsAbandoned,
		RejectCost:     time.Duration(f.Service.RejectCost),
		Mix:            f.mix(),
		Instances:      f.instances(),
		Balancer:       models.Balancer(f.Service.Balancer),
		LatencyEdges:   edges(s.SLO.Latency),
	}
	if len(f.Routes) == 0 {
		cfg.Load = f.load(0)
	}
	for i, r := range f.Routes {
		route := models.Route{
			Name: r.Name, Load: f.load(i), Mix: r.Mix.classes(), ServiceTime: cfg.ServiceTime, Law: cfg.Law,
			Hold: time.Duration(r.Hold), Deadline: time.Duration(r.Deadline), Endless: r.Endless,
			Tenants: r.Tenants, Skew: r.Skew,
		}
		if r.Time != nil {
			route.ServiceTime = time.Duration(*r.Time)
		}
		if r.Law != nil {
			route.Law = r.Law.Law
		}
		cfg.Routes = append(cfg.Routes, route)
	}
	s.Plant = func(seed uint64) models.Config {
		c := cfg
		c.Seed = seed
		return c
	}
	return s
}

// edges are those of guard's classic histogram, in percent of the SLO.
func edges(slo time.Duration) (e []time.Duration) {
	for _, share := range []time.Duration{5, 10, 20, 30, 40, 50, 60, 80, 100, 125, 150, 200, 300, 500, 1000} {
		e = append(e, slo*share/100)
	}
	return e
}

func (f file) slo() control.SLO {
	return control.SLO{Latency: time.Duration(f.SLO.Latency), Objective: float64(f.SLO.Objective)}
}

func (f file) mix() [models.Classes]float64 {
	if f.Mix == (mixFile{}) {
		return usualMix.classes()
	}
	return f.Mix.classes()
}

// routes are those of the file, or the only one there is.
func (f file) routes() []routeFile {
	if len(f.Routes) > 0 {
		return f.Routes
	}
	if f.Load != nil {
		return []routeFile{{Load: *f.Load}}
	}
	return []routeFile{{Load: usualLoad}}
}

// until is when the step is over for good.
func (s stepFile) until(end time.Duration) time.Duration {
	if s.Until != nil {
		return min(end, time.Duration(*s.Until))
	}
	return end
}

// active says whether the step is in force.
func (s stepFile) active(at, end time.Duration) bool {
	begin := time.Duration(*s.At)
	if at < begin || at >= s.until(end) {
		return false
	}
	return s.Every == 0 || s.For == 0 || (at-begin)%time.Duration(s.Every) < time.Duration(s.For)
}

// spans are the times in which the step is in force: one, or one a repetition.
func (s stepFile) spans(end time.Duration) (spans []Span) {
	until := s.until(end)
	if s.Every == 0 {
		return []Span{{time.Duration(*s.At), until}}
	}
	last := s.Every
	if s.For > 0 {
		last = s.For
	}
	for at := time.Duration(*s.At); at < until; at += time.Duration(s.Every) {
		spans = append(spans, Span{at, min(until, at+time.Duration(last))})
	}
	return spans
}

// load is that of the route of that index.
func (f file) load(i int) models.Load {
	route := f.routes()[i]
	load := models.Constant(route.Load)
	end := f.end()
	for _, s := range f.Script {
		if s.At == nil || s.Route != "" && s.Route != route.Name {
			continue
		}
		rate, peak := s.rate(route.Load)
		switch {
		case len(s.Surge) > 0:
			load = f.surge(s, route.Load)
		case rate != nil:
			before := load.Rate
			load.Peak = max(load.Peak, peak)
			load.Rate = func(at time.Duration) float64 {
				if s.active(at, end) {
					return rate(at)
				}
				return before(at)
			}
		}
	}
	return load
}

// rate is the load that the step asks for while it is active, and its highest value; nil where it asks for none.
func (s stepFile) rate(base float64) (rate func(at time.Duration) float64, peak float64) {
	switch {
	case s.Sine != nil:
		return func(at time.Duration) float64 {
			turns := (at - time.Duration(*s.At)).Seconds() / time.Duration(s.Sine.Period).Seconds()
			return s.Sine.Low + (s.Sine.High-s.Sine.Low)*(1-math.Cos(2*math.Pi*turns))/2
		}, s.Sine.High
	case s.Times != nil:
		peak = *s.Times * base
	case s.Load != nil:
		peak = *s.Load
	default:
		return nil, 0
	}
	to := peak
	if s.Ramp > 0 {
		return func(at time.Duration) float64 {
			done := min(1, (at-time.Duration(*s.At)).Seconds()/time.Duration(s.Ramp).Seconds())
			return base + done*(to-base)
		}, peak
	}
	return func(time.Duration) float64 { return to }, peak
}

// surge multiplies the arrivals of one criticality and leaves the others as they are.
func (f file) surge(s stepFile, base float64) models.Load {
	usual := f.mix()
	burst, more := usual, 0.0
	for name, times := range s.Surge {
		if class := slices.Index(criticalities, name); class >= 0 {
			more = (times - 1) * usual[class]
			burst[class] += more
		}
	}
	for i := range burst {
		burst[i] /= 1 + more
	}
	end := f.end()
	return models.Load{
		Peak: max(base, (1+more)*base),
		Rate: func(at time.Duration) float64 {
			if s.active(at, end) {
				return (1 + more) * base
			}
			return base
		},
		Mix: func(at time.Duration) [models.Classes]float64 {
			if s.active(at, end) {
				return burst
			}
			return usual
		},
	}
}

// instances are the copies of the service over time, each with the conditions that it meets.
func (f file) instances() []models.Instance {
	lives := make([]models.Instance, f.Service.Instances)
	for _, m := range f.moves() {
		m.change(&lives, m.at)
	}
	for i := range lives {
		name := cmp.Or(f.Service.Name, service)
		lives[i].Name = name
		if len(lives) > 1 {
			lives[i].Name = fmt.Sprintf("%s-%0*d", name, len(fmt.Sprint(len(lives))), i+1)
		}
		lives[i].Stages = f.stages(i+1, lives[i].From)
	}
	return lives
}

// move is one change of the set of instances.
type move struct {
	at     time.Duration
	change func(lives *[]models.Instance, at time.Duration)
}

// moves are the changes of the instances, in order of time.
func (f file) moves() (moves []move) {
	first := f.Service.Instances
	for _, s := range f.Script {
		if s.Add+s.Remove == 0 && s.Restart == 0 {
			continue
		}
		spans := s.spans(f.end())
		for turn, at := range spans {
			moves = append(moves, move{at.From, func(lives *[]models.Instance, now time.Duration) {
				for range s.Add {
					*lives = append(*lives, models.Instance{From: now})
				}
				for range s.Remove {
					for i := len(*lives) - 1; i >= 0; i-- {
						if in := &(*lives)[i]; in.To == 0 {
							in.To = now
							break
						}
					}
				}
				if s.Restart > 0 && turn < first {
					(*lives)[turn].To = now
					*lives = append(*lives, models.Instance{From: now + time.Duration(s.Restart)})
				}
			}})
		}
	}
	slices.SortStableFunc(moves, func(a, b move) int { return int(a.at - b.at) })
	return moves
}

// stages are the conditions that an instance meets, which comes up at the instant up. number counts from 1.
func (f file) stages(number int, up time.Duration) (stages []models.Stage) {
	end := f.end()
	instants := []time.Duration{0}
	warm := up
	if up > 0 && f.Service.WarmUp.For > 0 {
		warm = up + time.Duration(f.Service.WarmUp.For)
		instants = append(instants, up, warm)
	}
	var steps []stepFile
	for _, s := range f.Script {
		concerned := s.Instance == 0 || s.Instance == number
		if !s.stage() || !concerned {
			continue
		}
		steps = append(steps, s)
		for _, span := range s.spans(end) {
			instants = append(instants, span.From, span.To)
		}
	}
	slices.Sort(instants)
	for _, at := range slices.Compact(instants) {
		stage := models.Stage{
			Servers: f.Service.Servers, Slowdown: 1,
			DependencyDelay: time.Duration(f.Service.Dependency.Delay),
			DependencyShare: float64(f.Service.Dependency.Share),
		}
		for _, s := range steps {
			if s.active(at, end) {
				s.put(&stage, at)
			}
		}
		if at >= up && at < warm {
			stage.Slowdown *= f.Service.WarmUp.Slowdown
		}
		if n := len(stages); n > 0 {
			stage.From = stages[n-1].From
			if stage == stages[n-1] {
				continue
			}
		}
		stage.From = at
		stages = append(stages, stage)
	}
	return stages
}

// put changes a stage as the step says.
func (s stepFile) put(stage *models.Stage, at time.Duration) {
	if s.Servers != nil {
		stage.Servers = *s.Servers
	}
	if s.Slowdown != nil {
		stage.Slowdown = *s.Slowdown
	}
	if s.Away != 0 {
		stage.Absence = models.Absence(s.Away)
	}
	if s.Slower != 0 {
		times := 1 + (at-time.Duration(*s.At))/time.Duration(s.Every)
		stage.Slowdown = math.Pow(s.Slower, float64(times))
	}
	if s.Dependency != nil {
		stage.DependencyDelay = time.Duration(s.Dependency.Delay)
		stage.DependencyShare = float64(s.Dependency.Share)
	}
}
