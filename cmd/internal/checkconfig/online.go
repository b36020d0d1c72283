package checkconfig

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/consul"
	"github.com/seed-de83e32b/governor/cmd/internal/plain"
	"github.com/seed-de83e32b/governor/configs"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
	"github.com/seed-de83e32b/governor/daemon/explain"
	"github.com/seed-de83e32b/governor/signals"
)

const (
	consulTimeout = 5 * time.Second
	probesAtOnce  = 8
)

// Online checks the file as Run does. If it is valid, Online queries Prometheus and Consul with the file's clients and
// reports what they hold for each service, signal by signal, and which Settings exist. The exit code is 1 if something
// that governor needs is missing.
//
// It only reads. In particular it creates no session and never touches the leader's lock, so it is safe while a
// governor leads (a read-only tool has released a lock before: patroni/patroni#301). The price is that it cannot tell
// whether the token may write; governor itself says so when it starts.
func Online(ctx context.Context, stdout, stderr io.Writer, file string) int {
	c, ok := load(stderr, file)
	if !ok {
		return 1
	}
	client, err := consul.NewClient(c.Consul.ClientConfig())
	if err != nil {
		fmt.Fprintf(stderr, "%s: %v\n", c.File, err)
		return 1
	}
	defer client.CloseIdleConnections()
	look, err := newLook(ctx, c, client, nil)
	if err != nil {
		fmt.Fprintln(stderr, err)
		return 1
	}
	heading(stdout, c)
	return look.report(ctx, stdout)
}

// look is one look at the servers.
type look struct {
	config *configs.Config
	sensor *signals.Sensor
	consul *consul.Client
}

// newLook prepares a look. A transport other than nil replaces the one to Prometheus that c describes.
func newLook(ctx context.Context, c *configs.Config, client *consul.Client, transport http.RoundTripper) (*look, error) {
	options := c.SensorOptions()
	options.RoundTripper = transport
	learned, err := signals.Learn(ctx, options, c.Signals())
	if err != nil {
		return nil, fmt.Errorf("the client for Prometheus at %s: %w", c.Prometheus.URL, err)
	}
	c = c.WithLearned(learned)
	sensor, err := signals.New(options, c.Signals())
	if err != nil {
		return nil, fmt.Errorf("the client for Prometheus at %s: %w", c.Prometheus.URL, err)
	}
	return &look{config: c, sensor: sensor, consul: client}, nil
}

// report writes its findings to w and returns the exit code.
func (l *look) report(ctx context.Context, w io.Writer) int {
	defer l.sensor.Close()
	var kv kvState
	var reading sync.WaitGroup
	reading.Go(func() { kv = l.readKV(ctx) })
	probes := l.probe(ctx)
	reading.Wait()
	now := time.Now()

	answered, ok := l.prometheus(w, probes)
	ok = kv.report(w, l.config) && ok
	var unready []string
	for _, spec := range l.config.Specs() {
		p := probes[spec.Service]
		missing := l.service(w, spec, p, answered, kv, now)
		if len(missing) > 0 {
			unready = append(unready, spec.Service)
		}
	}
	switch {
	case len(unready) > 0:
		fmt.Fprintf(w, "Not ready: %s\n", strings.Join(unready, ", "))
		return 1
	case !ok:
		fmt.Fprintf(w, "Not ready: see above\n")
		return 1
	}
	fmt.Fprintf(w, "Ready: governor has everything it needs\n")
	return 0
}

// probe queries every service. After the first query that times out it skips the rest.
func (l *look) probe(ctx context.Context) map[string]*signals.Probe {
	names := l.config.Names()
	probes := map[string]*signals.Probe{}
	ask := func(name string) *signals.Probe {
		p, err := l.sensor.Probe(ctx, name)
		if err != nil {
			p.Measurement.Invalid, p.Measurement.Detail = control.QueryError, err.Error()
		}
		return &p
	}
	first := ask(names[0])
	probes[names[0]] = first
	if first.Measurement.Invalid == control.Timeout {
		return probes
	}
	var mu sync.Mutex
	var asking sync.WaitGroup
	slots := make(chan struct{}, probesAtOnce)
	for _, name := range names[1:] {
		slots <- struct{}{}
		asking.Go(func() {
			defer func() { <-slots }()
			p := ask(name)
			mu.Lock()
			defer mu.Unlock()
			probes[name] = p
		})
	}
	asking.Wait()
	return probes
}

// silent says that Prometheus did not answer at all.
func silent(p *signals.Probe) bool {
	return p == nil || p.Measurement.Invalid == control.Timeout || p.Measurement.Invalid == control.QueryError
}

// prometheus reports whether Prometheus answered for any service, and whether governor can work with the server as
// configured.
func (l *look) prometheus(w io.Writer, probes map[string]*signals.Probe) (answered, ok bool) {
	fmt.Fprintf(w, "prometheus  %s\n", l.config.Prometheus.URL)
	var slowest time.Duration
	method, answers, failure := "", 0, ""
	for _, name := range slices.Sorted(maps.Keys(probes)) {
		p := probes[name]
		if silent(p) {
			failure = p.Measurement.Detail
			continue
		}
		answers++
		slowest, method = max(slowest, p.Took), p.Method
	}
	if answers == 0 {
		fmt.Fprintf(w, "  MISSING   an answer: %s\n\n", oneLine(failure))
		return false, false
	}
	fmt.Fprintf(w, "  answers   %s, slowest query %s\n", method, brief(slowest))
	ok = method == l.config.Prometheus.HTTPMethod
	if !ok {
		fmt.Fprintf(w, "  MISSING   answers to %s: set http_method: %s\n", l.config.Prometheus.HTTPMethod, method)
	}
	fmt.Fprintln(w)
	return true, ok
}

// kvState is the content of Consul.
type kvState struct {
	settings map[string]consul.Stored
	calls    map[string]map[string]consul.Stored // by service and callee
	holder   consul.Holder                       // current or last holder of the lock; zero: never held
	held     bool
	foreign  *consul.ForeignLock // nil: a governor holds the lock, or nobody
	took     time.Duration
	err      error
}

func (l *look) readKV(ctx context.Context) (s kvState) {
	ctx, cancel := context.WithTimeout(ctx, consulTimeout)
	defer cancel()
	keys := actuators.Keys{Prefix: l.config.Consul.Prefix}
	began := time.Now()
	all, err := consul.NewPublisher(l.consul, keys, consul.PublisherOptions{Timeout: consulTimeout}).ReadAll(ctx)
	s.settings, s.calls, s.err = all.Settings, all.Calls, err
	s.took = time.Since(began)
	if s.err != nil {
		return s
	}
	s.holder, s.held, err = consul.LookUpHolder(ctx, l.consul, keys)
	if s.foreign, _ = errors.AsType[*consul.ForeignLock](err); s.foreign == nil {
		s.err = err
	}
	return s
}

func (s kvState) report(w io.Writer, c *configs.Config) (ok bool) {
	fmt.Fprintf(w, "consul      %s, keys %s…\n", consulAddress(c), c.Consul.Prefix)
	if s.err != nil {
		fmt.Fprintf(w, "  MISSING   an answer: %s\n\n", oneLine(s.err.Error()))
		return false
	}
	fmt.Fprintf(w, "  answers   in %s\n", brief(s.took))
	leader := "none has ever been elected"
	switch {
	case s.foreign != nil:
		fmt.Fprintf(w, "  MISSING   a free lock: %s\n", oneLine(s.foreign.Error()))
		leader = ""
	case s.held:
		leader = fmt.Sprintf("%s at %s, epoch %d", s.holder.Instance, s.holder.API, s.holder.Epoch)
	case s.holder.Instance != "":
		leader = fmt.Sprintf("nobody; the last was %s, epoch %d", s.holder.Instance, s.holder.Epoch)
	}
	if leader != "" {
		fmt.Fprintf(w, "  leader    %s\n", oneLine(leader))
	}
	var foreign []string
	for name := range s.settings {
		if c.Compartment(name) == nil {
			foreign = append(foreign, name)
		}
	}
	if slices.Sort(foreign); len(foreign) > 0 {
		fmt.Fprintf(w, "  others    settings of services and routes that are not in this file: %s\n", strings.Join(foreign, ", "))
	}
	fmt.Fprintln(w)
	return s.foreign == nil
}

// service reports on one service and returns what is missing.
func (l *look) service(w io.Writer, spec control.Spec, p *signals.Probe, answered bool, kv kvState, now time.Time) (
	missing []string,
) {
	configured := control.Mode(l.config.Compartment(spec.Service).Mode)
	fmt.Fprintf(w, "%-11s %s: %s\n", kindOf(spec.Service), spec.Service, modeText(spec.Mode, configured))
	if kv.err == nil {
		fmt.Fprintf(w, "  setting   %s\n", setting(kv.settings[spec.Service], now))
		for _, c := range spec.Calls {
			fmt.Fprintf(w, "  setting   calls to %s: %s\n", c.To, setting(kv.calls[spec.Service][c.To], now))
		}
	}
	if silent(p) {
		missing = append(missing, "a measurement")
		if answered && p != nil { // else the reason is already above, once for all services
			fmt.Fprintf(w, "  advice    %s: %s\n", p.Measurement.Invalid, oneLine(p.Measurement.Detail))
		}
	} else {
		fmt.Fprintf(w, "  instances %s\n", oneLine(instances(p.Measurement)))
		fmt.Fprintf(w, "  traffic   %s\n", oneLine(traffic(p, spec.Timing.Window)))
		if spec.Shed != nil {
			fmt.Fprintf(w, "  classes   %s\n", classes(p.Measurement))
		}
		for _, line := range calls(p.Measurement) {
			fmt.Fprintf(w, "  calls     %s\n", oneLine(line))
		}
		fmt.Fprintf(w, "  edges     %s\n", edges(p, spec.SLO.Latency))
		fmt.Fprintf(w, "  scrape    %s\n", oneLine(scrape(p)))
		table(w, p, spec.Timing.Window)
		verdict, err := control.Judge(spec, p.Measurement)
		if err != nil { // of a valid configuration: a fault of ours
			verdict = control.Verdict{Hold: control.QueryError, Detail: err.Error()}
		}
		for _, a := range append(slices.Clone(p.Advice), advice(verdict, p.Measurement)...) {
			fmt.Fprintf(w, "  advice    %s\n", oneLine(a))
		}
		missing = l.missing(p, spec, verdict)
	}
	if len(missing) > 0 {
		fmt.Fprintf(w, "  MISSING   %s\n", strings.Join(missing, ", "))
	}
	fmt.Fprintln(w)
	return missing
}

// advice is what a loop would say in place of a decision, where the probe itself has not said it.
func advice(v control.Verdict, m control.Measurement) []string {
	switch {
	case v.Hold == "" && v.LeftOut != "":
		return []string{fmt.Sprintf("%s, left out: %s", control.Implausible, v.LeftOut)}
	case v.Hold == control.Implausible && m.Invalid == "":
		return []string{fmt.Sprintf("%s: %s", v.Hold, v.Detail)}
	case strings.HasPrefix(v.Detail, "slow requests: no "), strings.HasPrefix(v.Detail, "failed requests: "):
	case v.Doubt != "" && m.Partial == "":
		return []string{fmt.Sprintf("%s, %s: governor only tightens", v.Doubt, v.Detail)}
	}
	return nil
}

// missing lists what governor cannot do without. The verdict is that of the loops themselves: what they would not act
// on is not ready, whatever else there is.
func (l *look) missing(p *signals.Probe, spec control.Spec, v control.Verdict) (missing []string) {
	if m := p.Measurement; m.Invalid != "" {
		return []string{fmt.Sprintf("a measurement (%s)", m.Invalid)}
	}
	if !slices.ContainsFunc(p.Measurement.Instances, judged) {
		missing = append(missing, "an instance to judge by")
	}
	for _, f := range p.Signals {
		needed := f.Signal == signals.Offered || f.Signal == signals.Completed || f.Signal == signals.Mean
		if n, counted := f.Series.Value(); needed && counted && n == 0 {
			missing = append(missing, string(f.Signal))
		}
	}
	for _, what := range p.Unlabeled {
		missing = append(missing, "a selector that fits ("+what+")")
	}
	capped := p.Measurement.Capped != ""
	if capped && l.config.Compartment(spec.Service).Mode == string(control.Enforce) {
		missing = append(missing, "a label that tells the instances apart")
	}
	switch v.Hold {
	case "", control.Idle, control.TooLittleTraffic: // traffic comes and goes
	default:
		if len(missing) == 0 {
			missing = append(missing, fmt.Sprintf("a measurement (%s)", v.Hold))
		}
	}
	if slow := strings.HasPrefix(v.Detail, "slow requests: "); v.Doubt != "" && !slow {
		missing = append(missing, fmt.Sprintf("what allows to loosen (%s)", v.Doubt))
	} else if slow && p.AtSLO {
		missing = append(missing, "slow")
	}
	if !p.AtSLO && l.config.Compartment(spec.Service).Metrics.Queries.Slow == "" {
		missing = append(missing, fmt.Sprintf("slow (no bucket edge at the SLO of %s)", configs.Duration(spec.SLO.Latency)))
	}
	return missing
}

func judged(i control.Instance) bool { return i.Age.Known() }

func instances(m control.Measurement) string {
	n, oldest := 0, 0.0
	why := map[string][]string{}
	for _, i := range m.Instances {
		if age, ok := i.Age.Value(); ok {
			n, oldest = n+1, max(oldest, age)
			continue
		}
		reason, _ := i.Age.Why()
		why[string(reason)] = append(why[string(reason)], i.Name)
	}
	if len(m.Instances) == 0 {
		return "none"
	}
	text := fmt.Sprintf("%d, newest samples at most %s old", n, seconds(oldest))
	if n == 0 {
		text = "none to judge by"
	}
	for _, reason := range slices.Sorted(maps.Keys(why)) {
		text += fmt.Sprintf("; %s: %s", reason, strings.Join(why[reason], ", "))
	}
	return text
}

func traffic(p *signals.Probe, window time.Duration) string {
	n, ok := p.Arrivals.Value()
	if !ok {
		return "unknown: " + because(p.Arrivals)
	}
	return fmt.Sprintf("%.0f requests in %s, %s/s", n, configs.Duration(window), format.Number(n/window.Seconds()))
}

// classes shows the arrivals by criticality: shedding helps nobody if all requests are of one class.
func classes(m control.Measurement) string {
	var parts []string
	for c := range control.Criticality(control.Criticalities) {
		sum, known := 0.0, false
		for _, i := range m.Instances {
			if n, ok := i.Classes[c].Offered.Value(); ok {
				sum, known = sum+n, true
			}
		}
		if known {
			parts = append(parts, fmt.Sprintf("%s %.0f", c, sum))
		}
	}
	if len(parts) == 0 {
		return "none seen, so nothing can steer the shed threshold"
	}
	return strings.Join(parts, ", ")
}

// calls shows the services that this one calls, as far as the metrics know.
func calls(m control.Measurement) []string {
	var lines []string
	for _, d := range control.Dependencies(m) {
		lines = append(lines, fmt.Sprintf("to %s: %s", d.Name, explain.Calls(d)))
	}
	return lines
}

// edges shows the bucket edges next to the SLO.
func edges(p *signals.Probe, slo time.Duration) string {
	if len(p.Edges) == 0 {
		return "no histogram"
	}
	var near []string
	if p.Below > 0 {
		near = append(near, p.Below.String())
	}
	if p.AtSLO {
		near = append(near, slo.String()+" (the SLO)")
	}
	if p.Above > 0 {
		near = append(near, p.Above.String())
	}
	text := fmt.Sprintf("%d, around the SLO of %s: %s", len(p.Edges), slo, strings.Join(near, ", "))
	if !p.AtSLO {
		text += ", none at it"
	}
	return text
}

func scrape(p *signals.Probe) string {
	got, ok := p.ObservedScrape.Value()
	switch {
	case !ok && p.Learned:
		return fmt.Sprintf("learned %s; in the window: %s", configs.Duration(p.Scrape), because(p.ObservedScrape))
	case !ok:
		return "unknown: " + because(p.ObservedScrape)
	}
	whence := "configured"
	if p.Learned {
		whence = "learned"
	}
	return fmt.Sprintf("every %s, %s %s", seconds(got), whence, configs.Duration(p.Scrape))
}

// table shows every signal that was looked for, or that follows from others.
func table(w io.Writer, p *signals.Probe, window time.Duration) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	defer t.Flush()
	fmt.Fprintf(t, "  signal\tseries\tnewest\tin %s\tfound by\n", configs.Duration(window))
	for _, f := range p.Signals {
		by, series, newest := oneLine(f.Selector), "–", "–"
		if _, known := f.Value.Value(); by == "" && !known {
			continue
		} else if by == "" {
			by = "the other signals"
		}
		if n, ok := f.Series.Value(); ok {
			series = strconv.FormatFloat(n, 'f', 0, 64)
		}
		if age, ok := f.Age.Value(); ok {
			newest = seconds(age)
		}
		fmt.Fprintf(t, "  %s\t%s\t%s\t%s\t%s\n", f.Signal, series, newest, value(f), by)
	}
}

func value(f signals.Found) string {
	v, ok := f.Value.Value()
	switch {
	case !ok:
		reason, _ := f.Value.Why()
		return string(reason)
	case f.Unit == "seconds":
		return seconds(v)
	}
	return format.Number(v)
}

func setting(s consul.Stored, now time.Time) string {
	switch {
	case s.Err != nil:
		return "unreadable, the leader will replace it: " + oneLine(s.Err.Error())
	case s.Index == 0:
		return "none yet"
	}
	var knobs []string
	v := s.Setting
	switch {
	case v.Callee != "" && v.Concurrency != nil:
		knobs = append(knobs, "target "+format.Latency(v.Concurrency.LatencyTargetSeconds))
	case v.Concurrency != nil:
		knobs = append(knobs, fmt.Sprintf("concurrency %d", v.Concurrency.Limit))
	}
	if v.Shed != nil {
		knobs = append(knobs, "shed "+format.Number(100*v.Shed.Threshold)+"%")
	}
	if v.Rate != nil {
		knobs = append(knobs, rate(*v.Rate))
	}
	if v.Retry != nil {
		knobs = append(knobs, "retry "+format.Ratio(v.Retry.BudgetRatio))
	}
	age, lease := now.Sub(v.IssuedAt), time.Duration(v.LeaseSeconds*float64(time.Second))
	text := fmt.Sprintf("%s; epoch %d, revision %d, ", strings.Join(knobs, ", "), v.Epoch, v.Revision)
	if v.IssuedAt.IsZero() {
		return text + "it does not say when it was written"
	}
	text += fmt.Sprintf("written %s ago", brief(age))
	switch {
	case age < -time.Minute:
		text += ": its writer's clock is ahead of this host's"
	case age > lease:
		text += fmt.Sprintf(": older than its lease, %s, so nobody renews it", configs.Duration(lease))
	}
	return text
}

func rate(r actuators.Rate) string {
	if r.PerSecond >= r.Max {
		return "rate off"
	}
	return "rate " + format.Rate(r.PerSecond)
}

func because(r control.Reading) string {
	reason, detail := r.Why()
	if detail == "" {
		return string(reason)
	}
	return fmt.Sprintf("%s, %s", reason, detail)
}

// brief rounds a duration for people.
func brief(d time.Duration) string {
	switch {
	case d.Abs() >= time.Minute:
		return d.Round(time.Second).String()
	case d.Abs() >= time.Second:
		return d.Round(100 * time.Millisecond).String()
	}
	return max(d, 0).Round(time.Millisecond).String()
}

func seconds(s float64) string { return brief(time.Duration(s * float64(time.Second))) }

// oneLine makes foreign text fit into a line of the report.
func oneLine(s string) string { return strings.Join(strings.Fields(plain.Clean(s)), " ") }
