package daemon

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
	"github.com/seed-de83e32b/governor/daemon/publish"
)

// states are the values of the label state of governor_loop_state.
var states = []control.State{
	control.Steady, control.Raising, control.Cutting, control.AtMin, control.AtMax, control.Ineffective,
	control.Infeasible, control.NotObeyed, control.Hold, control.Frozen, control.Override,
}

// metrics are governor's own metrics at /metrics. They answer three questions: is it deciding, do the services follow,
// does it help? An unknown quantity has no series; it is never NaN and never zero.
type metrics struct {
	value, published              *prometheus.GaugeVec
	setpoint, measured            *prometheus.GaugeVec // seconds
	setpointShare, measuredShare  *prometheus.GaugeVec
	state, age, badRatio          *prometheus.GaugeVec
	refused, refusedBy, culprit   *prometheus.GaugeVec
	decisions, holds              *prometheus.CounterVec
	writes, writeFailures, drifts *prometheus.CounterVec

	measureDuration, tickLateness prometheus.Histogram
	actions                       *prometheus.CounterVec
	expiry                        *prometheus.GaugeVec
	frozen                        prometheus.Gauge
	ticksSkipped, streamsDropped  prometheus.Counter
	reloaded, reloadedAt          prometheus.Gauge

	blamed map[string]string // the culprit by service, as the series show it; decided and forget are never called at once
}

func newMetrics(reg prometheus.Registerer) *metrics {
	auto := promauto.With(reg)
	loop := []string{"service", "knob"}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		return auto.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return auto.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	}
	return &metrics{
		blamed:    map[string]string{},
		value:     gauge("governor_loop_value", "Value that the loop wants.", loop...),
		published: gauge("governor_loop_published_value", "Value in the KV.", loop...),
		setpoint:  gauge("governor_loop_setpoint_seconds", "Setpoint for the mean latency of admitted requests.", loop...),
		measured:  gauge("governor_loop_measured_seconds", "Measured mean latency of admitted requests.", loop...),
		setpointShare: gauge("governor_loop_setpoint_ratio",
			"Setpoint for the share of protected requests that are refused, for the knob shed; for retry, the configured budget.",
			loop...),
		measuredShare: gauge("governor_loop_measured_ratio",
			"Measured share of protected requests that were refused, for the knob shed; for retry, retries per call.", loop...),
		state: gauge("governor_loop_state", "1 for the loop's current state.", "service", "knob", "state"),
		age:   gauge("governor_signal_age_seconds", "Age of the oldest sample behind the last decision.", loop...),
		badRatio: gauge("governor_slo_bad_ratio",
			"Slow or failed share of the admitted requests, as a multiple of the SLO's budget: above 1 violates the SLO.",
			loop...),
		refused: gauge("governor_refused_ratio", "Share of the offered requests that were refused, by any policy.", loop...),
		refusedBy: gauge("governor_refused_by_policy_ratio",
			"Share of the offered requests that each policy refused: concurrency, shed, rate, callee, share, roof, endless.", "service", "knob", "policy"),
		culprit: gauge("governor_culprit_info",
			"1 for the service that explains why another one, or itself, is slow or fails; no series while none is known.",
			"service", "culprit"),
		decisions: counter("governor_decisions_total", "Decisions, including holds.", loop...),
		holds:     counter("governor_holds_total", "Decisions to hold.", "service", "knob", "reason"),
		writes: counter("governor_setting_writes_total",
			"Settings written, to change a value or to renew a lease.", "service", "kind"),
		writeFailures: counter("governor_setting_write_failures_total",
			"Settings that could not be written, by reason.", "service", "reason"),
		drifts: counter("governor_setting_drifts_total",
			"Times the KV held something that this leader had not written.", "service", "kind"),
		actions: counter("governor_operator_actions_total",
			"Actions of people: freeze, override, resume. An expired order counts as a resume. The kill switch has no service.",
			"service", "knob", "action"),
		expiry: gauge("governor_loop_order_expiry_timestamp_seconds",
			"When the loop's freeze or override expires; no series while the loop is automatic.",
			"service", "knob", "order"),
		frozen: auto.NewGauge(prometheus.GaugeOpts{
			Name: "governor_frozen", Help: "1 while the kill switch freezes every loop.",
		}),
		measureDuration: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "governor_measure_duration_seconds", Help: "Duration of the slowest query of a tick.",
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 13),
		}),
		tickLateness: auto.NewHistogram(prometheus.HistogramOpts{
			Name: "governor_tick_lateness_seconds", Help: "Delay from a tick's grid point to its start.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 8),
		}),
		ticksSkipped: auto.NewCounter(prometheus.CounterOpts{
			Name: "governor_ticks_skipped_total", Help: "Grid points that passed without a tick, counted as they pass.",
		}),
		streamsDropped: auto.NewCounter(prometheus.CounterOpts{
			Name: "governor_streams_dropped_total", Help: "Stream readers that were disconnected because they fell behind.",
		}),
		reloaded: auto.NewGauge(prometheus.GaugeOpts{
			Name: "governor_config_last_reload_successful",
			Help: "1 if the last read of the configuration, at the start or by a reload, succeeded.",
		}),
		reloadedAt: auto.NewGauge(prometheus.GaugeOpts{
			Name: "governor_config_last_reload_success_timestamp_seconds",
			Help: "When the configuration in force was read.",
		}),
	}
}

// decided updates the series of one loop after a decision.
func (m *metrics) decided(l api.Loop) {
	d := l.Decision
	labels := []string{l.Service, string(l.Knob)}
	show := func(g *prometheus.GaugeVec, n control.Number, more ...string) {
		if all := append(labels, more...); n.Known() {
			g.WithLabelValues(all...).Set(float64(n))
		} else {
			g.DeleteLabelValues(all...)
		}
	}
	show(m.value, d.Value)
	switch l.MeasuredUnit {
	case api.Share, api.Retries:
		show(m.setpointShare, d.Setpoint)
		show(m.measuredShare, d.Measured)
	default:
		show(m.setpoint, d.Setpoint)
		show(m.measured, d.Measured)
	}
	show(m.age, d.Inputs.AgeSeconds)
	show(m.badRatio, d.Inputs.BadRatio)
	show(m.refused, d.Inputs.RefusedShare)
	show(m.refusedBy, d.Inputs.RefusedBy.Concurrency, "concurrency")
	show(m.refusedBy, d.Inputs.RefusedBy.Shed, "shed")
	show(m.refusedBy, d.Inputs.RefusedBy.Rate, "rate")
	show(m.refusedBy, d.Inputs.RefusedBy.Callee, "callee")
	show(m.refusedBy, d.Inputs.RefusedBy.Share, "share")
	show(m.refusedBy, d.Inputs.RefusedBy.Roof, "roof")
	show(m.refusedBy, d.Inputs.RefusedBy.Endless, "endless")
	m.blame(l.Service, d.Inputs.Culprit)
	if p := l.Published; p != nil && p.Revision > 0 {
		m.published.WithLabelValues(labels...).Set(p.Value)
	}
	for _, s := range states {
		on := 0.0
		if s == d.State {
			on = 1
		}
		m.state.WithLabelValues(l.Service, string(l.Knob), string(s)).Set(on)
	}
	m.decisions.WithLabelValues(labels...).Inc()
	if d.State == control.Hold {
		m.holds.WithLabelValues(l.Service, string(l.Knob), string(d.HoldReason)).Inc()
	}
}

// blame names the culprit of what a service suffers; "": nobody. All loops of a service name the same one.
func (m *metrics) blame(service, culprit string) {
	if m.blamed[service] == culprit {
		return
	}
	m.culprit.DeletePartialMatch(prometheus.Labels{"service": service})
	delete(m.blamed, service)
	if culprit != "" {
		m.culprit.WithLabelValues(service, culprit).Set(1)
		m.blamed[service] = culprit
	}
}

// ordered updates the series of one loop's order; nil: none.
func (m *metrics) ordered(service string, knob control.Knob, o *actuators.Order) {
	m.expiry.DeletePartialMatch(prometheus.Labels{"service": service, "knob": string(knob)})
	if o != nil {
		m.expiry.WithLabelValues(service, string(knob), string(o.Kind)).Set(float64(o.ExpiresAt.UnixMilli()) / 1000)
	}
}

// forget removes the series of a loop that a reload removed.
func (m *metrics) forget(id loopID) {
	labels := prometheus.Labels{"service": id.service, "knob": string(id.knob)}
	for _, g := range []*prometheus.GaugeVec{
		m.value, m.published, m.setpoint, m.measured, m.setpointShare, m.measuredShare,
		m.state, m.age, m.badRatio, m.refused, m.refusedBy, m.expiry,
	} {
		g.DeletePartialMatch(labels)
	}
	m.blame(id.service, "")
	for _, c := range []*prometheus.CounterVec{m.decisions, m.holds, m.actions} {
		c.DeletePartialMatch(labels)
	}
}

func (m *metrics) wrote(service string, w Write) {
	if w.Kind != publish.None {
		m.writes.WithLabelValues(service, string(w.Kind)).Inc()
	}
	if w.Err != nil {
		m.writeFailures.WithLabelValues(service, failureReason(w.Err)).Inc()
	}
	if w.Drift != NoDrift {
		m.drifts.WithLabelValues(service, string(w.Drift)).Inc()
	}
}

// failureReason names a failed write in one word, for a label.
func failureReason(err error) string {
	for _, kind := range []struct {
		err  error
		name string
	}{
		{consul.ErrConflict, "conflict"},
		{consul.ErrFenced, "fenced"},
		{consul.ErrDenied, "denied"},
		{consul.ErrInvalid, "invalid"},
		{consul.ErrTooLarge, "too_large"},
		{errUnreadable, "unreachable"},
		{consul.ErrUnknown, "unknown"},
	} {
		if errors.Is(err, kind.err) {
			return kind.name
		}
	}
	return "error"
}

// statusCollector exports the daemon's status at the time of the scrape.
type statusCollector struct{ d *Daemon }

var (
	leaderDesc     = prometheus.NewDesc("governor_leader", "1 while this governor holds the lock and writes.", nil, nil)
	epochDesc      = prometheus.NewDesc("governor_leader_epoch", "Epoch of the known leader; 0: none.", nil, nil)
	prometheusDesc = prometheus.NewDesc("governor_prometheus_up", "1 if the last query of Prometheus succeeded.", nil, nil)
	foreignDesc    = prometheus.NewDesc("governor_leader_lock_foreign",
		"1 while a session that is no governor's holds the leader's lock, so that nobody can lead.",
		[]string{"session", "name", "node"}, nil)
	lastTickDesc = prometheus.NewDesc("governor_last_tick_timestamp_seconds",
		"When the loops last came round: the end of the last tick, of the group where that is longest ago; a hold counts. "+
			"Before the first tick, the start.", nil, nil)
	periodDesc = prometheus.NewDesc("governor_tick_period_seconds", "Longest period between two ticks of a group.", nil, nil)
	consulDesc = prometheus.NewDesc("governor_consul_up", "1 if the last request to Consul succeeded.", nil, nil)
)

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{
		leaderDesc, epochDesc, prometheusDesc, consulDesc, foreignDesc, lastTickDesc, periodDesc,
	} {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	s := c.d.Status()
	gauge := func(d *prometheus.Desc, v float64) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v)
	}
	gauge(leaderDesc, oneIf(s.Role == api.Leader))
	gauge(epochDesc, float64(s.Leader.Epoch))
	gauge(prometheusDesc, oneIf(s.Prometheus.OK))
	gauge(consulDesc, oneIf(s.Consul.OK))
	if f := s.ForeignLock; f != nil {
		ch <- prometheus.MustNewConstMetric(foreignDesc, prometheus.GaugeValue, 1, f.Session, f.Name, f.Node)
	}
	if p := c.d.pace.Load(); len(p.workers) > 0 {
		gauge(lastTickDesc, float64(p.lastRound().UnixMilli())/1000)
		gauge(periodDesc, p.longest.Seconds())
	}
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
