package configs

import (
	commonconfig "github.com/prometheus/common/config"

	"github.com/seed-de83e32b/governor/signals"
)

// Config is one configuration file. The smallest one that works:
//
//	prometheus: {url: "http://localhost:9090"}
//	services:
//	  checkout:
//	    mode: enforce
//	    slo: {latency: 300ms, objective: 99%, errors: 0.1%}
//	    concurrency: {min: 20, max: 400}
//
// A Config that Load returned is complete and valid; treat it as read-only and share it freely.
type Config struct {
	// Where the measurements come from: any server with the Prometheus query API.
	Prometheus Prometheus `yaml:"prometheus" jsonschema:"required"`
	// Where the settings go. Without this section governor finds Consul through the environment variables CONSUL_HTTP_* of
	// Consul's own tools, else at localhost:8500.
	Consul Consul `yaml:"consul"`
	// The pace of the loops of every service that does not set its own. The dead time θ, window/2 + scrape_interval/2 +
	// period/2 + publish_delay, is how late a change shows. Tuning keys that are unset derive from it.
	Timing Timing `yaml:"timing"`
	// The services to govern, by name. Each needs at least one knob (concurrency, rate, shed, retry, calls). The name is the one in the
	// label service of guard's metrics and in Consul's keys: letters, digits and . _ - : @ + ~.
	Services map[string]*Service `yaml:"services" jsonschema:"required"`

	// Learned is what is known of services whose scrape interval the file leaves open, by name; see WithLearned.
	Learned map[string]signals.Learned `yaml:"-"`
	// File is where the Config was read from, Hash the first 12 hex digits of the SHA-256 of its text.
	File string `yaml:"-"`
	Hash string `yaml:"-"`
}

// Prometheus says how to query.
type Prometheus struct {
	// Base URL of the query API, including a path prefix if there is one. Do not put credentials in it.
	URL string `yaml:"url" jsonschema:"required"`
	// HTTP method of the queries. GET is for servers and proxies that refuse POST.
	HTTPMethod string `yaml:"http_method" jsonschema:"enum=POST,enum=GET,default=POST"`
	// Timeout of one query; never more than 80% of the period.
	Timeout Duration `yaml:"timeout" jsonschema:"default=10s" range:"[10ms, 10m]"`

	commonconfig.HTTPClientConfig `yaml:",inline"`
}

// Consul says where the settings are published.
type Consul struct {
	// Address of the agent: host:port, http://…, https://… or unix://…, with the path of a proxy in between if there is one. Unset: CONSUL_HTTP_ADDR, else localhost:8500.
	Address string `yaml:"address"`
	// ACL token. Unset: CONSUL_HTTP_TOKEN or CONSUL_HTTP_TOKEN_FILE. Prefer token_file, which keeps it out of this file.
	Token commonconfig.Secret `yaml:"token"`
	// File that holds the ACL token. It is read again on a reload, and when Consul refuses the token. A relative path starts at the folder of the configuration file.
	TokenFile string `yaml:"token_file"`
	// Datacenter. Unset: the agent's own.
	Datacenter string `yaml:"datacenter"`
	// TLS to the agent. The files are read again on a reload, and when a handshake fails. Unset keys come from CONSUL_CACERT, CONSUL_CLIENT_CERT, CONSUL_CLIENT_KEY and so on.
	TLSConfig ConsulTLS `yaml:"tls_config"`
	// Prefix of every key that governor reads or writes, ending in a slash. Services watch keys below it.
	Prefix string `yaml:"prefix" jsonschema:"default=governor/"`
	// TTL of the leader's session. Consul takes up to twice as long to notice a dead leader.
	SessionTTL Duration `yaml:"session_ttl" jsonschema:"default=10s" range:"[10s, 1d]" why:"Consul accepts no other TTL for a session"`
	// How long a service trusts a setting that is not renewed. The leader renews it after every third of the lease while
	// the measurements of the service are valid. Must be at least three periods.
	Lease Duration `yaml:"lease" jsonschema:"default=3m" range:"[3s, 1d]"`
}

// ConsulTLS is the TLS of the connection to Consul.
type ConsulTLS struct {
	// CA certificate to check the agent's certificate against.
	CAFile string `yaml:"ca_file"`
	// Client certificate.
	CertFile string `yaml:"cert_file"`
	// Key of the client certificate.
	KeyFile string `yaml:"key_file"`
	// Name that the agent's certificate must carry.
	ServerName string `yaml:"server_name"`
	// Accept any certificate. For experiments only.
	InsecureSkipVerify bool `yaml:"insecure_skip_verify"`
}

// Timing is the pace of a loop.
type Timing struct {
	// How often Prometheus scrapes the service. Unset: governor finds out from the samples, and follows when it changes; 5s
	// until there are some.
	ScrapeInterval Duration `yaml:"scrape_interval" range:"[100ms, 5m]"`
	// The span over which rates and means are taken. Below four scrape intervals, one lost scrape leaves a gap. Unset: 4
	// × scrape_interval.
	Window Duration `yaml:"window" range:"[200ms, 1h]"`
	// How often the loop decides. Deciding more often than Prometheus scrapes gains nothing. Unset: scrape_interval.
	Period Duration `yaml:"period" range:"[100ms, 10m]"`
	// Delay from a decision to its enforcement in the services. Unset: 300ms.
	PublishDelay Duration `yaml:"publish_delay" range:"[1ms, 1m]"`
}

// Service is one governed service.
type Service struct {
	// How far governor may go: observe only reads the signals, shadow decides and shows what it would do, enforce
	// publishes. Metrics that show neither refusals nor requests in flight limit the mode to shadow.
	Mode string `yaml:"mode" jsonschema:"enum=observe,enum=shadow,enum=enforce,default=shadow"`
	// What the service promises its callers. The setpoint of every knob derives from it.
	SLO SLO `yaml:"slo" jsonschema:"required"`
	// The main knob: requests in flight, per instance.
	Concurrency *Concurrency `yaml:"concurrency"`
	// The knob that decides whom the concurrency limit refuses first. It needs concurrency, and metrics by criticality,
	// such as guard's.
	Shed *Shed `yaml:"shed"`
	// The knob for a gateway without a concurrency limit: admissions per second of the whole service. Together with
	// concurrency it improves nothing, and costs a little after an outage.
	Rate *Rate `yaml:"rate"`
	// The retry budget of the calls that the service makes through guard. No law moves it: it is a lever for people, who stop
	// the retries of all instances with an override of 0.
	Retry *Retry `yaml:"retry"`
	// The services that this one calls through guard, by the names it gives them there. Governor sets the latency target of
	// the bulkhead in front of each, the smaller of three times the dependency's own latency and 40% of slo.latency (more for one that is slower by itself), and
	// shows all that the metrics know; an empty section only shows them. Needs preset guard.
	Calls map[string]*Calls `yaml:"calls"`
	// Routes of the service that have SLOs of their own, at most 32, by the names that the service gives them in guard. Governor
	// steers each like a service, called SERVICE/ROUTE; the service itself is then all other requests. Needs preset
	// guard.
	Routes map[string]*Route `yaml:"routes"`
	// The pace of this service. Keys that are not set here come from the global timing.
	Timing Timing `yaml:"timing"`
	// How to find the service in Prometheus.
	Metrics Metrics `yaml:"metrics"`
	// Gains and gates. The defaults fit the pace; set a key only with a reason. θ is the dead time, T the period, n the
	// completions in a window. ln units are relative changes: 0.1 is about 10%.
	Tuning Tuning `yaml:"tuning"`
}

// SLO is the service level objective. Of the admitted requests, at least the share objective finishes within latency,
// and at most the share errors fails.
type SLO struct {
	// The latency of a good request. guard's histogram needs a bucket edge here.
	Latency Duration `yaml:"latency" jsonschema:"required" range:"[1ms, 1h]"`
	// The share of admitted requests that must stay within latency.
	Objective Percent `yaml:"objective" jsonschema:"default=99%" range:"[50%, 100%)" why:"the rest is the error budget, which may not be zero, and below half the median itself is too slow"`
	// The share of admitted requests that may fail.
	Errors Percent `yaml:"errors" jsonschema:"default=1%" range:"(0%, 50%]" why:"an error budget of zero is spent by the first failure"`
}

// Route is a route of a service with an SLO of its own. What it does not set is that of its service: the mode, the
// timing, the tuning and the metrics always are.
type Route struct {
	// What the route promises its callers.
	SLO RouteSLO `yaml:"slo" jsonschema:"required"`
	// The requests of the route in flight, per instance. Unset: the service's own bounds, fallback and law.
	Concurrency *Concurrency `yaml:"concurrency"`
	// Whom the route's concurrency limit refuses first. Unset: governor does not steer it.
	Shed *Shed `yaml:"shed"`
	// Admissions of the route per second, over all instances. Unset: governor does not steer it.
	Rate *Rate `yaml:"rate"`
}

// RouteSLO is the SLO of a route.
type RouteSLO struct {
	// The latency of a good request. guard's histogram of the route needs a bucket edge here.
	Latency Duration `yaml:"latency" jsonschema:"required" range:"[1ms, 1h]"`
	// The share of admitted requests that must stay within latency. Unset: that of the service.
	Objective Percent `yaml:"objective" range:"[50%, 100%)" why:"the rest is the error budget, which may not be zero, and below half the median itself is too slow"`
	// The share of admitted requests that may fail. Unset: that of the service.
	Errors Percent `yaml:"errors" range:"(0%, 50%]" why:"an error budget of zero is spent by the first failure"`
}

// Metrics says which metrics carry the signals of a service.
type Metrics struct {
	// The set of metrics. guard reads what the guard library and the sidecar export, http_histogram a latency histogram
	// that the service already has, custom only the queries.
	Preset string `yaml:"preset" jsonschema:"enum=guard,enum=http_histogram,enum=custom,default=guard"`
	// Labels that every series of the service carries: job, namespace, cluster and the like. Preset guard finds a service
	// by its label service and needs them only if Prometheus holds the service more than once. Preset http_histogram finds
	// the service by these labels alone.
	Labels map[string]string `yaml:"labels"`
	// The label that tells the instances of the service apart, for presets other than guard; for example pod. Unset:
	// instance.
	InstanceLabel string `yaml:"instance_label"`
	// The histogram of preset http_histogram.
	Histogram *Histogram `yaml:"histogram"`
	// Your own PromQL, by signal: all that preset custom reads; with another preset, each query replaces the preset's own.
	// A query returns an instant vector with one sample per instance, or one without the instance's label for the whole
	// service. In a query, $window stands for the window.
	Queries Queries `yaml:"queries"`
}

// Histogram describes a classic histogram of latencies and the series that go with it. The selectors are PromQL, with
// or without braces. The labels of metrics are added to each.
type Histogram struct {
	// Name of the histogram without _bucket, _sum and _count: http_request_duration_seconds.
	Metric string `yaml:"metric" jsonschema:"required"`
	// Unit of the histogram. Unset: milliseconds if the name ends in _milliseconds or _ms, else seconds.
	Unit string `yaml:"unit" jsonschema:"enum=seconds,enum=milliseconds"`
	// The requests by which to judge the service; for example handler!="/healthz". Unset: all.
	Selector string `yaml:"selector"`
	// The admitted requests in the histogram; for example code!~"429|503". The others count as refused. Without it,
	// refused requests, which take no time, make an overloaded service look fast. Unset: all.
	Admitted string `yaml:"admitted"`
	// The refused requests, if admitted does not tell: in the histogram or, with a metric name, in another counter, like
	// http_requests_rejected_total{reason="limit"}.
	Refused string `yaml:"refused"`
	// The failed requests among the admitted ones; for example code=~"5..". Unset: failures are not seen.
	Failed string `yaml:"failed"`
	// The gauge of the requests in flight, like http_requests_in_flight.
	InFlight string `yaml:"inflight"`
}

// Queries holds one query per signal. Those that count requests, from offered to slow, return requests per second.
type Queries struct {
	// Arrivals per second, admitted or refused. Preset custom needs it.
	Offered string `yaml:"offered"`
	// Admitted requests per second. Unset, with preset custom: offered less refused.
	Admitted string `yaml:"admitted"`
	// Refused requests per second.
	Refused string `yaml:"refused"`
	// Admitted requests that finished, per second. Unset, with preset custom: admitted.
	Completed string `yaml:"completed"`
	// Admitted requests that failed, per second.
	Failed string `yaml:"failed"`
	// Finished requests slower than the SLO's latency, per second. Without it governor cannot tell whether the SLO is met.
	Slow string `yaml:"slow"`
	// Mean latency of the finished requests, in seconds: the measurement that drives the loop. Preset custom needs it.
	Mean string `yaml:"mean"`
	// The latency within which the share objective of the finished requests stays, in seconds, for the whole service.
	Quantile string `yaml:"quantile"`
	// Requests in flight.
	InFlight string `yaml:"inflight"`
	// The concurrency limit in force.
	Limit string `yaml:"limit"`
}

// Concurrency bounds the concurrency limit, counted in requests in flight per instance of the service.
type Concurrency struct {
	// The limit never goes below min. min = max fixes it.
	Min int `yaml:"min" jsonschema:"required" range:"[1, 1000000]" why:"closing a service on purpose is not a concurrency limit"`
	// The limit never goes above max, and neither does the reflex in guard.
	Max int `yaml:"max" jsonschema:"required" range:"[1, 1000000]"`
	// The starting limit of a service that has never seen a setting, and the limit it drifts to after governor has been
	// silent for a lease, while the service is healthy. Between min and max. Unset: the geometric mean of the two.
	Fallback int `yaml:"fallback" range:"[1, 1000000]"`
	// The controller. pid follows a prediction by Little's law. aimd adds steadily and cuts by Little's law; it is slower.
	Law string `yaml:"law" jsonschema:"enum=pid,enum=aimd,default=pid"`
}

// Shed decides whom the concurrency limit refuses first when the service is fuller than the shed threshold: requests in
// flight ÷ concurrency limit, as a percentage. The classes of requests are critical, default, sheddable and
// background.
type Shed struct {
	// The least important class that is still protected. While requests of a protected class are refused, the threshold
	// falls, so that the classes below make room earlier.
	Protect string `yaml:"protect" jsonschema:"required,enum=critical,enum=default,enum=sheddable"`
	// The threshold never goes below min. A wider range than the default hurts the classes in the middle.
	Min Percent `yaml:"min" jsonschema:"default=40%" range:"[5%, 100%]" why:"a lower threshold would refuse the least important of an idle service"`
	// The threshold never goes above max. min = max fixes it; below three times the capacity a fixed 60% is as good.
	Max Percent `yaml:"max" jsonschema:"default=60%" range:"[5%, 100%]" why:"at 100% nothing is shed, more has no meaning"`
	// The starting threshold of a service that has never seen a setting, and the threshold it drifts to after governor has
	// been silent for a lease. Between min and max. Unset: max.
	Fallback Percent `yaml:"fallback" range:"[5%, 100%]"`
}

// Rate bounds the rate of admissions, counted over all instances of the service together.
type Rate struct {
	// The rate never goes below min.
	Min PerSecond `yaml:"min" jsonschema:"required" range:"[1/m, 1000000000/s]" why:"closing a service on purpose is not a rate limit"`
	// The rate never goes above max. At max it is off: nothing is refused because of it.
	Max PerSecond `yaml:"max" jsonschema:"required" range:"[1/m, 1000000000/s]"`
	// The starting rate of a service that has never seen a setting, and the rate it drifts to after governor has been
	// silent for a lease. Between min and max. Unset: max, no limit.
	Fallback PerSecond `yaml:"fallback" range:"[1/m, 1000000000/s]"`
}

// Retry sets the retry budget.
type Retry struct {
	// Retries allowed as a share of the calls to a dependency, for instances that have not been told otherwise. 0 allows
	// none.
	Budget float64 `yaml:"budget" jsonschema:"default=0.1" range:"[0, 1]" why:"more retries than calls are an outage by themselves"`
}

// Calls bounds the calls in flight to one dependency, counted per instance of the service. Within the bounds, guard finds
// the limit by itself.
type Calls struct {
	// The limit never goes below min.
	Min int `yaml:"min" jsonschema:"default=1" range:"[1, 1000000]" why:"closing a dependency on purpose is not a limit"`
	// The limit never goes above max. The default leaves it to guard.
	Max int `yaml:"max" jsonschema:"default=1000000" range:"[1, 1000000]"`
}

// Tuning sets gains and gates of the loops of one service.
type Tuning struct {
	// Integral gain on the predicted error, per period. The loop is stable below 2. Unset: 1.
	Gain float64 `yaml:"gain" range:"(0, 2)" why:"the loop oscillates from 2 on"`
	// Proportional gain. Unset: 0.
	ProportionalGain *float64 `yaml:"proportional_gain" range:"[0, 2)" why:"the loop oscillates from 2 on"`
	// Derivative gain. Unset: 0.
	DerivativeGain *float64 `yaml:"derivative_gain" range:"[0, 2)" why:"the loop oscillates from 2 on"`
	// Largest cut in one period, in ln units. Unset: 0.7, which halves the limit.
	CutMax float64 `yaml:"cut_max" range:"(0, 3]"`
	// Largest raise in one period, in ln units. Unset: the smaller of 0.2 and 0.6·T/θ.
	RaiseMax float64 `yaml:"raise_max" range:"(0, 1]"`
	// Smallest move, in ln units. Unset: the larger of 0.05 and 4/√n.
	Deadband float64 `yaml:"deadband" range:"(0, 1]"`
	// Refused share from which the limit counts as binding, even if few requests are in flight. Unset: 1%.
	RefusingAt Percent `yaml:"refusing_at" range:"(0%, 100%]"`
	// Refused share above which the limit may be cut even if the mean latency is fine. Unset: 5%.
	RefusedCut Percent `yaml:"refused_cut" range:"(0%, 100%]"`
	// Fewest arrivals in a window that allow a decision. Unset: 100.
	MinRequests int `yaml:"min_requests" range:"[1, 1000000]"`
	// Age from which the oldest sample counts as stale. Unset: 2 × scrape_interval + 1s.
	StaleAfter Duration `yaml:"stale_after" range:"[100ms, 1h]"`
	// Weight of one period in the moving average that the latency target follows. Unset: 0.5·T/θ.
	TargetWeight float64 `yaml:"target_weight" range:"(0, 1]"`
	// How long the result of a floor test stands. Unset: the larger of 20·θ and 5m.
	FloorTestHold Duration `yaml:"floor_test_hold" range:"[1s, 1d]"`
	// Additive increase of the law aimd in one period, as a share of the limit, at least one request. Unset: 2%.
	AIMDIncrease Percent `yaml:"aimd_increase" range:"(0%, 100%]"`
}
