package guardprom

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// calls are the metrics of the calls to dependencies. Each has the label to, the name of the dependency.
type calls struct {
	refused                               *prometheus.Desc
	inFlight, limit, target, own, binding *prometheus.Desc
	latency, revision, settingRefused     *prometheus.Desc
}

func newCalls(desc func(name, help string, labels ...string) *prometheus.Desc) calls {
	client := func(name, help string, labels ...string) *prometheus.Desc {
		return desc("client_"+name, help, append([]string{"to"}, labels...)...)
	}
	return calls{
		refused:  client("refused_total", "Calls refused here, before they were sent, by reason.", "reason"),
		inFlight: client("in_flight", "Calls in flight."),
		limit:    client("limit", "Limit of the calls in flight enforced now."),
		target:   client("latency_target_seconds", "Mean latency that the calls may have."),
		own:      client("own_latency_seconds", "Mean latency that the calls have in calm; absent until it is known."),
		binding:  client("binding_seconds_total", "Time with at least 85% of the limit in flight."),
		latency: client("latency_seconds", "Latency of attempts that finished, failed ones included, those that the "+
			"callee refused not. One bucket edge is the caller's SLO."),
		revision: client("setting_revision", "Revision of the calls' Setting in force, 0 while there is none."),
		settingRefused: client("setting_refused_total", "Settings of the calls that were refused, the last good one "+
			"staying in force.", "reason"),
	}
}

func (c *calls) describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		c.refused, c.inFlight, c.limit, c.target, c.own, c.binding, c.latency, c.revision, c.settingRefused,
	} {
		ch <- d
	}
}

func (c *calls) collect(ch chan<- prometheus.Metric, s guard.CallSnapshot, started time.Time) {
	counter, gauge := sinks(ch)
	counter(c.refused, float64(s.NoRoom), s.To, "bulkhead")
	gauge(c.inFlight, float64(s.InFlight), s.To)
	gauge(c.limit, float64(s.Limit), s.To)
	gauge(c.target, s.Setpoint.Seconds(), s.To)
	if s.OwnLatency > 0 {
		gauge(c.own, s.OwnLatency, s.To)
	}
	counter(c.binding, s.Binding.Seconds(), s.To)
	gauge(c.revision, float64(s.Revision), s.To)
	for reason, n := range s.SettingRefused {
		counter(c.settingRefused, float64(n), s.To, string(reason))
	}
	ch <- newHistogram(c.latency, s.Latency, started, s.To)
}
