package configs

import (
	"cmp"
	"maps"
	"slices"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/signals"
)

// Specs returns control's view of each service and each route, sorted by name. Timings and bounds are complete; tunings
// hold what the file sets, and control derives the rest. The mode is the highest that the service's metrics allow: if
// they cannot show whether a limit binds, enforce becomes shadow.
func (c *Config) Specs() []control.Spec {
	specs := make([]control.Spec, 0, len(c.Services))
	for _, name := range c.Names() {
		s, seen := c.Compartment(name), c.signal(name)
		spec := control.Spec{
			Service: name, Mode: control.Mode(s.Mode), SLO: seen.SLO, Timing: seen.Timing, Tuning: s.Tuning.control(),
		}
		if spec.Mode == control.Enforce && !seen.ShowsBinding() {
			spec.Mode, spec.Capped = control.Shadow, signals.NotBinding
		}
		if k := s.Concurrency; k != nil {
			spec.Concurrency = &control.ConcurrencySpec{
				Min: float64(k.Min), Max: float64(k.Max), Fallback: float64(k.Fallback), Law: control.Law(k.Law),
			}
			if k.Fallback == 0 {
				spec.Concurrency.Fallback = spec.Concurrency.DefaultFallback()
			}
		}
		if k := s.Shed; k != nil {
			spec.Shed = &control.ShedSpec{
				Protect: criticalities[k.Protect], Min: float64(k.Min), Max: float64(k.Max),
				Fallback: float64(cmp.Or(k.Fallback, k.Max)),
			}
		}
		if k := s.Rate; k != nil {
			spec.Rate = &control.RateSpec{
				Min: float64(k.Min), Max: float64(k.Max), Fallback: float64(cmp.Or(k.Fallback, k.Max)),
			}
		}
		if k := s.Retry; k != nil {
			spec.Retry = &control.RetrySpec{Budget: k.Budget}
		}
		for _, to := range slices.Sorted(maps.Keys(s.Calls)) {
			k := s.Calls[to]
			spec.Calls = append(spec.Calls, control.CallSpec{To: to, Min: float64(k.Min), Max: float64(k.Max)})
		}
		specs = append(specs, spec)
	}
	return specs
}

var criticalities = map[string]control.Criticality{
	"critical": control.Critical, "default": control.Default, "sheddable": control.Sheddable,
}

// defaultScrape is the scrape interval of a service of which nothing is known yet.
const defaultScrape = Duration(5 * time.Second)

// timing completes the pace of a service: what it sets itself, else what the file sets for all, else what was learned,
// else the defaults. A lease must last for three periods, so that a learned period is never longer than a third of it.
func (c *Config) timing(name string) control.Timing {
	own, all := c.Compartment(name).Timing, c.Timing
	learned := Duration(0)
	if c.Learns(name) {
		learned = Duration(c.Learned[name].Scrape)
	}
	scrape := cmp.Or(own.ScrapeInterval, all.ScrapeInterval, learned, defaultScrape)
	period := scrape
	if third := c.Consul.Lease / 3; learned > 0 && third > 0 {
		period = min(period, third)
	}
	return control.Timing{
		Scrape:       time.Duration(scrape),
		Window:       time.Duration(cmp.Or(own.Window, all.Window, 4*scrape)),
		Period:       time.Duration(cmp.Or(own.Period, all.Period, period)),
		PublishDelay: time.Duration(cmp.Or(own.PublishDelay, all.PublishDelay, Duration(300*time.Millisecond))),
	}
}

// WithLearned returns the configuration with what is known of services beside it. Where the file gives a scrape
// interval, that stands.
func (c *Config) WithLearned(learned map[string]signals.Learned) *Config {
	next := *c
	next.Learned = maps.Clone(learned)
	return &next
}

// Learns says whether the scrape interval of the service is left to the data.
func (c *Config) Learns(name string) bool {
	s := c.Compartment(name)
	return s != nil && s.Timing.ScrapeInterval == 0 && c.Timing.ScrapeInterval == 0
}

func (t Tuning) control() control.Tuning {
	return control.Tuning{
		Gain:             t.Gain,
		ProportionalGain: t.ProportionalGain,
		DerivativeGain:   t.DerivativeGain,
		CutMax:           t.CutMax,
		RaiseMax:         t.RaiseMax,
		Deadband:         t.Deadband,
		RefusingAt:       float64(t.RefusingAt),
		RefusedCut:       float64(t.RefusedCut),
		MinRequests:      float64(t.MinRequests),
		StaleAfter:       time.Duration(t.StaleAfter),
		TargetWeight:     t.TargetWeight,
		FloorTestHold:    time.Duration(t.FloorTestHold),
		AIMDIncrease:     float64(t.AIMDIncrease),
	}
}

// SensorOptions says how to reach Prometheus.
func (c *Config) SensorOptions() signals.Options {
	return signals.Options{
		URL:     c.Prometheus.URL,
		HTTP:    &c.Prometheus.HTTPClientConfig,
		Method:  c.Prometheus.HTTPMethod,
		Timeout: time.Duration(c.Prometheus.Timeout),
	}
}

// Signals returns the sensor's view of each service and each route, sorted by name.
func (c *Config) Signals() []signals.Service {
	services := make([]signals.Service, 0, len(c.Services))
	for _, name := range c.Names() {
		services = append(services, c.signal(name))
	}
	return services
}

// ClientConfig returns the configuration of Consul's client. The file overrides CONSUL_HTTP_* and the other variables
// of Consul's tools, which override the client's defaults. Each call returns a new one.
func (s Consul) ClientConfig() *api.Config {
	c := api.DefaultConfig()
	set := func(field *string, value string) { *field = cmp.Or(value, *field) }
	set(&c.Address, s.Address)
	set(&c.Datacenter, s.Datacenter)
	if s.Token != "" || s.TokenFile != "" {
		// The file's token must win over one from the environment, whatever form either takes.
		c.Token, c.TokenFile = string(s.Token), s.TokenFile
	}
	set(&c.TLSConfig.CAFile, s.TLSConfig.CAFile)
	set(&c.TLSConfig.CertFile, s.TLSConfig.CertFile)
	set(&c.TLSConfig.KeyFile, s.TLSConfig.KeyFile)
	set(&c.TLSConfig.Address, s.TLSConfig.ServerName)
	c.TLSConfig.InsecureSkipVerify = c.TLSConfig.InsecureSkipVerify || s.TLSConfig.InsecureSkipVerify
	return c
}
