package control

import (
	"math"
	"time"

	"github.com/seed-de83e32b/governor/actuators/little"
)

// Setpoint turns the SLO, a promise about a high quantile, into a setpoint for the mean latency, which is what the law
// drives. The distance D̂ = quantile − mean hardly depends on the queue in front of a service, so it can be learned at
// any time and then
//
//	τ* = clip(0.9·SLO − D̂, max(1.3·m₀, 0.3·SLO), 0.6·SLO)
//
// Example: SLO 300 ms, the p99 runs 150 ms above the mean, m₀ = 40 ms: τ* = 270 − 150 = 120 ms. Nothing here integrates, so
// nothing can wind up, and the SLO, not the measurement, anchors it: a service that slowly degrades does not move it
// beyond the clip. It also keeps the estimates that the floor needs.
type Setpoint struct {
	slo    time.Duration
	weight float64 // of a new sample in D̂

	distance float64                   // D̂ in seconds, NaN before the first sample
	inForce  float64                   // τ*, moved when it would change by more than 5 %
	burning  [len(BurnRates)]time.Time // when each pair of windows last burned too fast; zero: not
	own      *little.OwnLatency
	carried  little.Carried
}

const (
	setpointUnknown   = 0.4 // of the SLO, before D̂ is known
	setpointHeadroom  = 0.9
	setpointLow       = 0.3
	setpointHigh      = 0.6
	setpointOwnMargin = 1.3 // × m₀: a setpoint nearer to the service's own latency would cut useful work
	setpointStep      = 0.05
	burnTightens      = 0.9
	setpointSure      = 8 // × what a quantile needs at least: fewer requests than this and it counts for less
)

func newSetpoint(slo, window time.Duration, weight float64) *Setpoint {
	return &Setpoint{
		slo: slo, weight: weight, distance: math.NaN(),
		inForce: setpointUnknown * slo.Seconds(), own: little.NewOwnLatency(slo, window),
	}
}

// observe learns from a snapshot that passed the data gate and is not partial.
func (s *Setpoint) observe(now time.Time, v *view) {
	s.own.Observe(now, v.mean, v.healthy())
	s.carried.Observe(now, v.throughput)
	s.observeBurn(now, v.burn)
	if q, ok := v.quantile.Value(); ok && !v.censored && v.completed >= v.quantileNeeds {
		if d := q - v.mean; math.IsNaN(s.distance) {
			s.distance = d
		} else {
			s.distance += s.weight * min(1, v.completed/(setpointSure*v.quantileNeeds)) * (d - s.distance)
		}
	}
	if tau := s.ideal(); math.Abs(math.Log(tau/s.inForce)) > setpointStep {
		s.inForce = tau
	}
}

// observeBurn notes which pairs of windows burn too fast. Each holds the setpoint down until it has not for one long
// window. What is unknown neither tightens nor releases.
func (s *Setpoint) observeBurn(now time.Time, burn [len(BurnRates)]Burn) {
	for i, b := range burn {
		long, ok := b.Long.Value()
		short, ok2 := b.Short.Value()
		switch rate := BurnRates[i]; {
		case ok && ok2 && long > rate.Multiple && short > rate.Multiple:
			s.burning[i] = now
		case now.Sub(s.burning[i]) >= rate.Long:
			s.burning[i] = time.Time{}
		}
	}
}

// burnSteps is how many pairs of windows hold the setpoint down.
func (s *Setpoint) burnSteps() int {
	n := 0
	for _, since := range s.burning {
		if !since.IsZero() {
			n++
		}
	}
	return n
}

// target is τ* in force, tightened by a tenth for each burn rate that is too high.
func (s *Setpoint) target() float64 {
	return s.inForce * math.Pow(burnTightens, float64(s.burnSteps()))
}

// restore starts from a published τ*, so that a new leader does not learn D̂ from nothing.
func (s *Setpoint) restore(tau float64) {
	if slo := s.slo.Seconds(); tau > setpointLow*slo && tau < setpointHigh*slo {
		s.inForce, s.distance = tau, setpointHeadroom*slo-tau
	}
}

// ideal is τ* by the formula.
func (s *Setpoint) ideal() float64 {
	slo := s.slo.Seconds()
	low := max(setpointOwnMargin*s.own.Seconds(), setpointLow*slo)
	tau := setpointUnknown * slo
	if !math.IsNaN(s.distance) {
		tau = setpointHeadroom*slo - s.distance
	}
	return max(min(tau, setpointHigh*slo), low)
}

// infeasible says that the SLO leaves no room above the service's own latency: a status, never a hold, because a plain
// slow-down looks the same.
func (s *Setpoint) infeasible() bool {
	return setpointHeadroom*s.slo.Seconds()-s.distance < setpointOwnMargin*s.own.Seconds()
}

// floor is X̂max·m₀: the requests in flight, per instance, of a service that carries what it has carried before.
func (s *Setpoint) floor(now time.Time) float64 { return s.carried.PerSecond(now) * s.own.Seconds() }
