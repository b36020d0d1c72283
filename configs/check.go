package configs

import (
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/configs/internal/strict"
	"github.com/seed-de83e32b/governor/signals"
)

// checker finds conflicts between keys that are each well formed. It judges a key only if everything it depends on was
// read without a problem, so that one slip is reported once.
type checker struct {
	doc      *strict.Document
	warnings []strict.Problem
}

func (c *checker) warn(path, format string, args ...any) {
	line, column := c.doc.Position(path)
	c.warnings = append(c.warnings, strict.Problem{
		Line: line, Column: column, Path: path, Text: fmt.Sprintf(format, args...),
	})
}

func (c *checker) config(cfg *Config) {
	if c.doc.Unreadable() {
		return
	}
	c.prometheus(&cfg.Prometheus)
	c.consul(&cfg.Consul)
	if len(cfg.Services) == 0 && c.doc.Has("services") {
		c.doc.Add("services", "no service; expected at least one")
	}
	for _, name := range slices.Sorted(maps.Keys(cfg.Services)) {
		c.service(cfg, name)
	}
}

func (c *checker) prometheus(p *Prometheus) {
	if c.doc.Has("prometheus.url") {
		// The value is repeated only after it is known to hold no password.
		switch u, err := url.Parse(p.URL); {
		case err != nil || u.User != nil || strings.Contains(p.URL, "@"):
			c.doc.Add("prometheus.url", "not a URL without credentials; expected one like http://localhost:9090, "+
				"with user and password under basic_auth")
		case u.Scheme != "http" && u.Scheme != "https", u.Hostname() == "":
			c.doc.Add("prometheus.url", "%q; expected a URL that starts with http:// or https:// and names a host", p.URL)
		case u.RawQuery != "" || u.Fragment != "":
			c.doc.Add("prometheus.url", "%q has a query or a fragment; expected the base of the API", p.URL)
		}
	}
	if c.doc.OK("prometheus") {
		if err := p.HTTPClientConfig.Validate(); err != nil {
			c.doc.Add("prometheus", "%v", err)
		}
	}
}

func (c *checker) consul(s *Consul) {
	if c.doc.Has("consul.address") {
		switch address, err := consul.ParseAddress(s.Address); {
		case err != nil:
			c.doc.Add("consul.address", "%v", err)
		case address.HasCredentials():
			c.doc.Add("consul.address", "an address with credentials; put them in CONSUL_HTTP_AUTH")
		}
	}
	if c.doc.Has("consul.token") && c.doc.Has("consul.token_file") {
		c.doc.Add("consul.token_file", "set together with token; expected one of them")
	}
	if c.doc.Has("consul.tls_config") && (s.TLSConfig.CertFile == "") != (s.TLSConfig.KeyFile == "") {
		c.doc.Add("consul.tls_config", "cert_file and key_file go together; expected both or none")
	}
	if !c.doc.Has("consul.prefix") {
		return
	}
	if err := actuators.ValidPrefix(s.Prefix); err != nil || !strings.HasSuffix(s.Prefix, "/") {
		c.doc.Add("consul.prefix",
			"%q; expected segments of letters, digits and . _ - : @ + ~, each followed by one slash, like %q", s.Prefix, actuators.DefaultPrefix)
	}
}

func (c *checker) service(cfg *Config, name string) {
	s, at := cfg.Services[name], strict.Join("services", name)
	if err := actuators.ValidServiceName(name); err != nil {
		c.doc.Add(at, "%q; expected %v", name, err)
	}
	if s == nil {
		return // not a section, which is reported already
	}
	c.knobs(s, at)
	if k := at + ".metrics"; c.doc.OK(k + ".preset") {
		c.metrics(&s.Metrics, k)
	}
	if c.doc.OK("timing") && c.doc.OK(at+".timing") {
		c.timing(cfg, name, at)
	}
	if c.doc.OK("timing") && c.doc.OK(at) {
		c.sensor(cfg, name, at)
	}
	c.routes(cfg, name, at)
}

func (c *checker) knobs(s *Service, at string) {
	concurrency, shed, rate, calls := at+".concurrency", at+".shed", at+".rate", at+".calls"
	none := s.Concurrency == nil && s.Shed == nil && s.Rate == nil && s.Retry == nil && len(s.Calls) == 0
	if none && c.doc.OK(concurrency) && c.doc.OK(shed) && c.doc.OK(rate) && c.doc.OK(calls) && c.doc.OK(at+".retry") &&
		!c.doc.Misspelled(at) {
		c.doc.Add(at, "nothing to govern; expected a knob: concurrency, or rate, or both; shed goes with concurrency; "+
			"retry or calls for what the service calls")
	}
	for _, to := range slices.Sorted(maps.Keys(s.Calls)) {
		k := strict.Join(calls, to)
		if err := actuators.ValidServiceName(to); err != nil {
			c.doc.Add(k, "%q; expected %v", to, err)
		} else if c.doc.OK(k) && s.Calls[to] != nil {
			bounds(c, k, s.Calls[to].Min, s.Calls[to].Max, 0)
		}
	}
	if s.Calls != nil && c.doc.OK(at+".metrics.preset") && signals.Preset(s.Metrics.Preset) != signals.Guard {
		c.doc.Add(calls, "set with preset %s, which knows nothing of calls; expected preset guard, or no calls", s.Metrics.Preset)
	}
	c.bounds(s, at)
	if s.Shed != nil && c.doc.OK(shed) && s.Concurrency == nil && c.doc.OK(concurrency) && !c.doc.Misspelled(at) {
		c.doc.Add(shed, noLimitToShed)
	}
}

const noLimitToShed = "shed decides whom the concurrency limit refuses first, but there is no limit; expected " +
	"concurrency: {min: …, max: …} next to it, or no shed"

// bounds checks the bounds of the knobs of a service or a route.
func (c *checker) bounds(s *Service, at string) {
	concurrency, shed, rate := at+".concurrency", at+".shed", at+".rate"
	if s.Concurrency != nil && c.doc.OK(concurrency) {
		k := s.Concurrency
		bounds(c, concurrency, k.Min, k.Max, k.Fallback)
	}
	if s.Rate != nil && c.doc.OK(rate) {
		k := s.Rate
		bounds(c, rate, k.Min, k.Max, k.Fallback)
		if k.Min == k.Max {
			c.doc.Add(rate+".min", "%s is max too, and at max the rate is off, so that nothing would be limited; "+
				"expected min < max", k.Min)
		}
	}
	if s.Shed != nil && c.doc.OK(shed) {
		k := s.Shed
		bounds(c, shed, k.Min, k.Max, k.Fallback)
	}
}

// bounds checks the range of a knob and a fallback in it (0: none is set). A bound that the file does not set has its
// default.
func bounds[T interface {
	comparable
	int | Percent | PerSecond
}](c *checker, at string, lo, hi, fallback T) {
	var unset T
	byDefault := func(key string) string {
		if c.doc.Has(at + "." + key) {
			return ""
		}
		return " (the default)"
	}
	switch {
	case lo > hi && byDefault("min") != "":
		c.doc.Add(at+".max", "%v is below min, %v (the default); expected min ≤ max", hi, lo)
	case lo > hi:
		c.doc.Add(at+".min", "%v is above max, %v%s; expected min ≤ max", lo, hi, byDefault("max"))
	case fallback != unset && (fallback < lo || fallback > hi):
		c.doc.Add(at+".fallback", "%v is outside the bounds; expected at least min, %v%s, and at most max, %v%s",
			fallback, lo, byDefault("min"), hi, byDefault("max"))
	}
}

// timing checks the pace of one service and what depends on it.
func (c *checker) timing(cfg *Config, name, at string) {
	s, t := cfg.Services[name], cfg.timing(name)
	scrape := !cfg.Learns(name) // what is not known yet contradicts nothing
	// where names the key that set a duration: the service's own, else the global one.
	where := func(key string) string {
		for _, path := range []string{at + ".timing." + key, "timing." + key} {
			if c.doc.Has(path) {
				return path
			}
		}
		return at + ".timing." + key
	}
	switch {
	case scrape && t.Window < 2*t.Scrape:
		c.doc.Add(where("window"),
			"%s holds fewer than two scrapes, %s apart, so there is no rate; expected at least %s",
			Duration(t.Window), Duration(t.Scrape), Duration(4*t.Scrape))
	case scrape && t.Window < 4*t.Scrape:
		c.warn(where("window"), "%s is less than 4 × scrape_interval, %s: one lost scrape leaves the loop without data",
			Duration(t.Window), Duration(4*t.Scrape))
	}
	if scrape && t.Period < t.Scrape {
		c.warn(where("period"), "%s is shorter than scrape_interval, %s: some decisions will see nothing new",
			Duration(t.Period), Duration(t.Scrape))
	}
	if stale := at + ".tuning.stale_after"; c.doc.Has(stale) && scrape && time.Duration(s.Tuning.StaleAfter) < t.Scrape {
		c.warn(stale, "%s is shorter than scrape_interval, %s: samples will look stale between scrapes",
			s.Tuning.StaleAfter, Duration(t.Scrape))
	}
	if c.doc.OK("consul.lease") && time.Duration(cfg.Consul.Lease) < 3*t.Period {
		key := "consul.lease"
		if !c.doc.Has(key) {
			key = where("period")
		}
		c.doc.Add(key, "the lease, %s, is shorter than three periods of %s, so a setting would expire between "+
			"renewals; expected a lease of at least %s", cfg.Consul.Lease, Duration(t.Period), Duration(3*t.Period))
	}
}
