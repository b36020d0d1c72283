package signals

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/common/model"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/control/format"
)

// sample is one element of the reply, without the label that named its signal.
type sample struct {
	labels model.Metric
	value  float64
}

type seriesKey struct{ service, instance string }

// reply is the vector of a group's query, indexed by signal, service and instance: what is read for one service costs
// the same however many others are in the reply. One goroutine at a time may use it.
type reply struct {
	by   map[string]map[string]perInstance // by signal, then by service
	read int                               // samples and instances looked at so far
}

// perInstance holds the samples of one signal of one service, by instance.
type perInstance map[string][]sample

func newReply() *reply { return &reply{by: map[string]map[string]perInstance{}} }

// of returns the samples of a signal of one service, by instance.
func (r *reply) of(signal, service string) perInstance {
	found := r.by[signal][service]
	r.read += len(found)
	return found
}

// at returns the samples of a signal of one instance.
func (r *reply) at(signal string, k seriesKey) []sample {
	found := r.by[signal][k.service][k.instance]
	r.read += len(found)
	return found
}

// service returns the samples of a signal of one service, whatever their instance.
func (r *reply) service(signal, service string) []sample {
	var found []sample
	for _, samples := range r.of(signal, service) {
		found = append(found, samples...)
	}
	r.read += len(found)
	return found
}

// tabulate arranges the samples of a vector by signal, service and instance. It drops samples without a signal, of
// unknown services, and native histograms in place of a number; their values are then missing. It takes the labels over
// from the vector, which must not be used afterwards.
func tabulate(v model.Vector, serviceOf func(model.Metric) (string, bool), instance model.LabelName) *reply {
	r := newReply()
	for _, s := range v {
		if s == nil || s.Histogram != nil && string(s.Metric[signalLabel]) != sigEdges {
			continue
		}
		signal := string(s.Metric[signalLabel])
		service, ok := serviceOf(s.Metric)
		if signal == "" || !ok {
			continue
		}
		labels := s.Metric
		delete(labels, signalLabel)
		delete(labels, model.MetricNameLabel)
		k := seriesKey{service, string(labels[instance])}
		if s.Histogram != nil {
			r.add(signal, k, nativeEdges(labels, s.Histogram)...)
			continue
		}
		r.add(signal, k, sample{labels, float64(s.Value)})
	}
	return r
}

// lowerLabel carries the lower bound of a bucket of a native histogram, beside its upper bound in le.
const lowerLabel model.LabelName = "governor_lower"

// nativeEdges lists the buckets of a native histogram that anything has ever fallen into.
func nativeEdges(labels model.Metric, h *model.SampleHistogram) []sample {
	var all []sample
	number := func(v model.FloatString) model.LabelValue {
		return model.LabelValue(strconv.FormatFloat(float64(v), 'g', -1, 64))
	}
	for _, b := range h.Buckets {
		of := labels.Clone()
		of[model.BucketLabel], of[lowerLabel] = number(b.Upper), number(b.Lower)
		all = append(all, sample{of, float64(b.Count)})
	}
	return all
}

// widestBucket is how wide a bucket of a native histogram may be, upper by lower bound, so that the share of its
// requests on either side of the SLO may be interpolated. Those of schema 3, which client libraries use, are 1.09.
const widestBucket = 1.2

// straddled says that the SLO lies inside a bucket of a native histogram which is too wide to tell how many of its
// requests were slow.
func (r *reply) straddled(s subject) string {
	if s.native() == "" {
		return ""
	}
	for _, b := range r.service(sigEdges, s.Name) {
		lower, err := strconv.ParseFloat(string(b.labels[lowerLabel]), 64)
		upper, err2 := strconv.ParseFloat(string(b.labels[model.BucketLabel]), 64)
		if err != nil || err2 != nil || !(lower < s.edge() && s.edge() < upper) || sameEdge(string(b.labels[lowerLabel]), s.edge()) ||
			sameEdge(string(b.labels[model.BucketLabel]), s.edge()) {
			continue
		}
		if !(lower > 0 && upper/lower <= widestBucket) {
			return fmt.Sprintf("%s to %s", b.labels[lowerLabel], b.labels[model.BucketLabel])
		}
	}
	return ""
}

func (r *reply) add(signal string, k seriesKey, s ...sample) {
	if r.by[signal] == nil {
		r.by[signal] = map[string]perInstance{}
	}
	of := r.by[signal][k.service]
	if of == nil {
		of = perInstance{}
		r.by[signal][k.service] = of
	}
	of[k.instance] = append(of[k.instance], s...)
}

// observedScrape is 2·W divided by the number of samples in those two windows, median over the instances. It leaves
// out instances that did not exist for all of the first window.
func (r *reply) observedScrape(window time.Duration) control.Reading {
	var intervals []float64
	for service, instances := range r.by[sigSamples] {
		for instance, now := range instances {
			before := r.at(sigBefore, seriesKey{service, instance})
			if len(now) != 1 || len(before) != 1 || before[0].value < now[0].value-1 || !(now[0].value > 0) {
				continue
			}
			intervals = append(intervals, 2*window.Seconds()/(now[0].value+before[0].value))
		}
	}
	if len(intervals) == 0 {
		return control.Missing(control.Starting, "no instance has been scraped for two windows yet")
	}
	slices.Sort(intervals)
	return control.Read(intervals[len(intervals)/2])
}

// fill completes the Measurement of the service s from the reply. The faults concern its user-supplied queries.
func (r *reply) fill(m *control.Measurement, s subject, now time.Time, faults faults) {
	var inside float64
	complete := false
	for _, name := range r.instances(s.Name) {
		in := r.instance(s, name, now, faults)
		m.Instances = append(m.Instances, in)
		if c, ok := in.Completed.Value(); ok {
			inside, complete = inside+c, true
		}
	}
	m.Capped = s.unidentified(r)
	m.Quantile, m.Censored = r.quantile(s, complete && inside == 0, faults)

	if len(m.Instances) == 0 {
		m.Invalid, m.Detail = control.NoData, r.absence(s)
		return
	}
	for _, in := range m.Instances {
		if in.Offered.Known() || in.Completed.Known() {
			return
		}
	}
	first := m.Instances[0]
	m.Invalid, m.Detail = first.Offered.Why()
	if m.Invalid == control.Stale {
		m.Detail += hidden(m.Instances, s.Timing.Scrape)
	}
	if n := len(m.Instances); n > 1 {
		m.Detail += fmt.Sprintf(" (%s; none of the %d instances can be judged)", first.Name, n)
	} else {
		m.Detail += fmt.Sprintf(" (%s, the only instance)", first.Name)
	}
}

// hidden says what it usually is when all instances are equally old: a scrape that fails makes one of them old, but a
// server that holds back what is newest makes all.
func hidden(all []control.Instance, scrape time.Duration) string {
	youngest, oldest := math.Inf(1), math.Inf(-1)
	for _, in := range all {
		age, ok := in.Age.Value()
		if !ok {
			return ""
		}
		youngest, oldest = min(youngest, age), max(oldest, age)
	}
	if oldest-youngest > scrape.Seconds()+1 || youngest > mostHidden.Seconds() {
		return ""
	}
	return fmt.Sprintf("; everything is equally old: does the query server hold back the newest samples (VictoriaMetrics: "+
		"-search.latencyOffset, 30s by default, set it to 0s), is scraping slower than every %s, does remote write lag?",
		promDuration(scrape))
}

// mostHidden is the age above which nobody holds samples back on purpose.
const mostHidden = 3 * time.Minute

// identities are labels that commonly tell instances apart.
var identities = []model.LabelName{
	"instance", "exported_instance", "pod", "exported_pod", "pod_name", "k8s_pod_name", "service_instance_id", "container_id", "host",
	"hostname", "host_name", "node", "nodename", "server", "task", "alloc_id",
}

// unidentified says why the instances of the service cannot be told apart, "" if they can: then several look like one, a
// limit for each is computed from the traffic of all, and nobody notices when one goes.
func (s subject) unidentified(r *reply) string {
	found := r.at(sigSeen, seriesKey{s.Name, ""})
	if s.Preset == Custom || len(found) == 0 {
		return "" // queries of the user's own may aggregate on purpose
	}
	text := fmt.Sprintf("no label %s tells its instances apart, so that several look like one: the mode is capped at shadow; ",
		s.InstanceLabel)
	for _, name := range identities {
		if _, ok := found[0].labels[name]; ok {
			if s.Preset == Guard {
				return text + fmt.Sprintf("its series have %s, which would tell: copy it to instance when scraping", name)
			}
			return text + fmt.Sprintf("its series have %s, which would tell: set instance_label: %s", name, name)
		}
	}
	if s.Preset == Guard || s.InstanceLabel == model.InstanceLabel {
		return text + "keep the label instance, which every scrape adds: does a relabeling rule or a collector drop it?"
	}
	return text + "set instance_label to one that the series have, such as instance, pod or host"
}

// instances lists who belongs to the snapshot: whoever has a current series, and whoever is a target that cannot be
// scraped. Counts that still echo in the window of an instance that has left do not make it a member.
func (r *reply) instances(service string) []string {
	names := map[string]bool{}
	for instance := range r.of(sigSeen, service) {
		names[instance] = true
	}
	for instance := range r.of(sigUp, service) {
		if r.unreachable(seriesKey{service, instance}) {
			names[instance] = true
		}
	}
	return slices.Sorted(maps.Keys(names))
}

// unreachable says that there is still a target of that name, which cannot be scraped. It may well be at work.
func (r *reply) unreachable(k seriesKey) bool {
	up := r.at(sigUp, k)
	return len(up) > 0 && !slices.ContainsFunc(up, func(u sample) bool { return u.value != 0 })
}

// instance reads one instance, or says once and for all why it cannot be judged.
func (r *reply) instance(s subject, name string, now time.Time, faults faults) control.Instance {
	k := seriesKey{s.Name, name}
	in := control.Instance{Name: name}
	nothing := func(why control.Reason, detail string) control.Instance {
		for _, reading := range append(current(&in), in.Windowed()...) {
			*reading = control.Missing(why, detail)
		}
		return in
	}

	// If several processes have the instance's name, those that are gone do not count: a pod may have been replaced.
	var fresh []sample
	youngest := math.Inf(1)
	for _, seen := range r.at(sigSeen, k) {
		age := float64(now.UnixMilli())/1000 - seen.value
		if age <= s.StaleAfter.Seconds() { // false for NaN
			fresh = append(fresh, seen)
		}
		youngest = min(youngest, age)
	}
	in.Age = control.Read(youngest)
	switch {
	case len(r.at(sigSeen, k)) == 0:
		in.Age = control.Missing(control.Stale, "the target cannot be scraped (up = 0)")
		return nothing(control.Stale, "the target cannot be scraped (up = 0)")
	case len(fresh) == 0:
		in.Gone = !r.unreachable(k)
		return nothing(control.Stale, s.stale(youngest))
	case len(fresh) > 1:
		return nothing(control.ManySeries, manySeries(fresh))
	}
	me := fresh[0].labels
	in.Age = control.Read(float64(now.UnixMilli())/1000 - fresh[0].value)

	gauge := func(signal string) control.Reading {
		var mine []sample
		for _, g := range r.at(signal, k) {
			if g.labels.Equal(me) {
				mine = append(mine, g)
			}
		}
		return s.read(signal, mine)
	}
	if s.Preset == Guard {
		in.Limit = gauge(sigLimit)
		in.ServiceTime = gauge(sigServiceTime)
		in.Revision = gauge(sigRevision)
		in.InFlight = gauge(sigInFlight)
		in.ShedThreshold = gauge(sigShedThreshold)
	} else {
		for _, reading := range current(&in) {
			*reading = control.Missing(control.NoData, "not reported: the service has no guard")
		}
	}
	if len(r.at(sigBefore, k)) == 0 {
		in.Unjudged(control.Starting,
			fmt.Sprintf("first seen within the last %s: its counts do not cover the window yet", s.Timing.Window))
		return in
	}
	if n, ok := gauge(sigSamples).Value(); ok && n < 2 {
		in.Unjudged(control.NoData, fmt.Sprintf(
			"%v sample in the window of %s, and a rate needs 2: is the scrape interval really %s, do scrapes time out?",
			n, s.Timing.Window, s.Timing.Scrape))
		return in
	}

	switch s.Preset {
	case Guard:
		r.guard(&in, s, k)
		in.Calls = r.calls(s, k, me)
	case HTTPHistogram:
		r.histogram(&in, s, k)
	default:
		for _, reading := range in.Windowed() {
			*reading = control.Missing(control.NoData, "no query provides it")
		}
	}
	for _, signal := range Signals() {
		if field := field(&in, signal); field != nil && s.Queries[signal] != "" {
			*field = r.queried(s, signal, k, now, faults)
		}
	}
	if s.Preset != Guard {
		derive(&in, s)
	}
	return in
}

// guard fills in the readings that the preset guard counts over the window.
func (r *reply) guard(in *control.Instance, s subject, k seriesKey) {
	counter := func(signal string) control.Reading { return s.read(signal, r.at(signal, k)) }
	in.Offered = counter(sigOffered)
	in.Admitted = counter(sigAdmitted)
	in.Refused = counter(sigRefused)
	in.RefusedByShed = counter(sigRefusedByShed)
	in.RefusedByRate = counter(sigRefusedByRate)
	elsewhere := groupByLabel(r.at(sigRefusedElsewhere, k), reasonLabel)
	for reason, reading := range map[string]*control.Reading{
		"callee": &in.RefusedForCallee, "share": &in.RefusedByShare, "roof": &in.RefusedByRoof, "endless": &in.RefusedEndless,
	} {
		*reading = s.read(sigRefusedElsewhere, elsewhere[reason])
	}
	in.Failed = counter(sigFailed)
	in.Completed = counter(sigCompleted)
	in.Slow, in.Fast = r.slow(s, k, in.Completed)
	in.Resets = counter(sigResets)
	in.Mean = mean(in.Offered, in.Completed, counter(sigLatencySum), s.Timing.Window)
	in.Waited = counter(sigWaited)
	cut := groupByLabel(r.at(sigCutShortSeconds, k), partLabel)
	in.CutShort = control.CutShort{
		Count: counter(sigCutShort), Own: s.read(sigCutShortSeconds, cut["own"]), Waited: s.read(sigCutShortSeconds, cut["calls"]),
	}
	in.Binding = counter(sigBinding)
	if spent, ok := in.Binding.Value(); ok {
		in.Binding = control.Read(min(1, spent/s.Timing.Window.Seconds()))
	}
	for c := range in.Classes {
		class := func(signal string) control.Reading {
			return s.read(signal, groupByLabel(r.at(signal, k), criticalityLabel)[control.Criticality(c).String()])
		}
		in.Classes[c] = control.Class{Offered: class(sigClassOffered), Refused: class(sigClassRefused)}
	}
}

// histogram fills in the readings that a histogram counts over the window, except those that derive computes.
func (r *reply) histogram(in *control.Instance, s subject, k seriesKey) {
	for _, reading := range in.Windowed() {
		*reading = control.Missing(control.NoData, "not reported: the service has no guard")
	}
	in.Completed = r.outcome(s, sigCompleted, k)
	in.Slow, in.Fast = r.slow(s, k, in.Completed)
	in.Resets = s.read(sigResets, r.at(sigResets, k))
	in.Failed = control.Missing(control.NoData, "no selector tells which requests failed: set failed")
	if s.Histogram.Failed != "" {
		in.Failed = r.outcome(s, sigFailed, k)
	}
	if s.Histogram.InFlight != "" {
		in.InFlight = s.read(sigInFlight, r.at(sigInFlight, k))
	}
	sum := s.read(sigLatencySum, r.at(sigLatencySum, k)).Times(control.Read(s.Histogram.unit()))
	in.Mean = mean(in.Completed, in.Completed, sum, s.Timing.Window)
	switch {
	case s.from[sigTotal].metric != "": // whatever is not admitted was refused
		in.Refused = s.read(sigTotal, r.at(sigTotal, k)).Less(in.Completed)
	case s.Histogram.Refused != "":
		in.Refused = r.outcome(s, sigRefused, k)
	default:
		in.Refused = none(in.Completed)
	}
}

// outcome reads the count of the requests with a certain outcome. A series for an outcome appears when the outcome
// first happens, so an empty result means zero, but only if the histogram has the labels that the selector uses.
func (r *reply) outcome(s subject, signal string, k seriesKey) control.Reading {
	has := hasLabels(signal)
	if len(r.at(signal, k)) == 0 && s.from[has].metric != "" {
		if len(r.at(has, k)) > 0 {
			return control.Read(0)
		}
		return control.Missing(control.NoData, fmt.Sprintf("nothing found for %s, nor for %s: no series has those labels",
			s.selector(signal), s.selector(has)))
	}
	return s.read(signal, r.at(signal, k))
}

// derive completes the counts of a service without guard. Requests that no metric calls refused count as admitted. A
// histogram counts requests when they finish, so arrivals are the admitted plus the refused requests.
func derive(in *control.Instance, s subject) {
	queried := func(signal Signal) bool { return s.Queries[signal] != "" }
	if s.Preset == Custom {
		if !queried(Refused) {
			in.Refused = none(in.Offered)
		}
		if !queried(Admitted) {
			in.Admitted = in.Offered.Less(in.Refused)
		}
		if !queried(Completed) {
			in.Completed = in.Admitted
		}
	} else {
		if !queried(Admitted) {
			in.Admitted = in.Completed
		}
		if !queried(Offered) {
			in.Offered = in.Admitted.Plus(in.Refused)
		}
	}
	arrivals, known := in.Offered.Value()
	finished, ok := in.Completed.Value()
	if why, _ := in.Mean.Why(); known && ok && arrivals == 0 && finished == 0 && why != "" {
		// A histogram does not see requests that hang.
		if n := in.InFlight.Or(0); n >= 1 && !queried(Offered) {
			detail := fmt.Sprintf("nothing finished in %s, while %s requests are in flight", s.Timing.Window, format.Count(n))
			in.Offered, in.Mean = control.Missing(control.NoData, detail), control.Missing(control.NoData, detail)
			return
		}
		in.Mean = control.Missing(control.Idle, fmt.Sprintf("no request in %s", s.Timing.Window))
	}
}

// none is zero if the reading it is based on is known, and otherwise missing.
func none(of control.Reading) control.Reading { return of.Times(control.Read(0)) }

// current lists the readings of an instance that are current values, not counts over the window.
func current(in *control.Instance) []*control.Reading {
	return []*control.Reading{&in.InFlight, &in.Limit, &in.ServiceTime, &in.Revision, &in.ShedThreshold}
}

// read turns the samples of one instance and signal into a Reading.
func (s subject) read(signal string, found []sample) control.Reading {
	switch {
	case len(found) == 0:
		detail := "nothing found for " + s.selector(signal)
		if s.Preset == Guard && strings.HasPrefix(s.from[signal].metric, "guard_latency_seconds_") {
			detail += "; where only the native histogram is kept, it is found within minutes"
		}
		return control.Missing(control.NoData, detail)
	case len(found) > 1:
		return control.Missing(control.ManySeries, manySeries(found))
	}
	v, name := found[0].value, cmp.Or(s.from[signal].metric, "the query of "+signal)
	switch {
	case math.IsNaN(v):
		return control.Missing(control.NaN, name+" reads NaN")
	case math.IsInf(v, 0):
		return control.Missing(control.NotFinite, fmt.Sprintf("%s reads %v", name, v))
	case v < 0:
		return control.Missing(control.Implausible, fmt.Sprintf("%s reads %v, which cannot be negative", name, v))
	}
	return control.Read(v)
}

// slow counts the completed requests above the SLO, and those within. It needs a bucket edge exactly there: between two
// edges it would be a guess about where requests lie inside a bucket.
func (r *reply) slow(s subject, k seriesKey, completed control.Reading) (slow, fast control.Reading) {
	if !completed.Above(0) {
		return completed, completed
	}
	neither := func(why string) (slow, fast control.Reading) {
		none := control.Missing(control.NoData, why)
		return none, none
	}
	fast, ok := r.upToSLO(s, r.at(sigBucket, k))
	if wide := r.straddled(s); wide != "" {
		return neither(fmt.Sprintf("no bucket edge at the SLO of %s: the native histogram %s has one "+
			"bucket from %s, too wide to tell; add an edge there, or move the SLO to one", s.SLO.Latency, s.native(), wide))
	}
	if !ok {
		try := "add one there, or move the SLO to an edge"
		if s.Preset == Guard {
			try = "set guard.Config.SLO (sidecar: --slo.latency) to it"
		}
		return neither(fmt.Sprintf("no bucket edge at the SLO of %s: %s has le = %s; %s",
			s.SLO.Latency, s.from[sigBucket].metric, strings.Join(r.edges(s.Name), ", "), try))
	}
	if why := s.uncovered(r.at(sigSeriesBefore, k), r.at(sigEdgesBefore, k), s.Timing.Window); why != "" {
		return neither(why)
	}
	return completed.Less(fast), fast
}

// uncovered says why requests and those within the SLO are not the same ones: series of the histogram had no edge at the
// SLO at the beginning of the window. "": all had one.
func (s subject) uncovered(series, edges []sample, window time.Duration) string {
	all, with := 0.0, 0.0
	for _, n := range series {
		all += n.value
	}
	for _, n := range edges {
		if sameEdge(string(n.labels[model.BucketLabel]), s.edge()) {
			with += n.value
		}
	}
	switch {
	case with >= all: // NaN never is
		return ""
	case window == 0:
		return fmt.Sprintf("%v of %v series have no bucket edge at the SLO of %s", all-with, all, s.SLO.Latency)
	}
	return fmt.Sprintf("%v of %v series had no bucket edge at the SLO of %s %s ago: the window does not know their slow requests",
		all-with, all, s.SLO.Latency, promDuration(window))
}

// upToSLO counts the requests in the buckets up to the SLO and says whether an edge lies exactly there. While an
// exporter changes its spelling ("1", then "1.0"), each request is in one of the two series.
func (r *reply) upToSLO(s subject, buckets []sample) (control.Reading, bool) {
	var at []sample
	for _, b := range buckets {
		if sameEdge(string(b.labels[model.BucketLabel]), s.edge()) {
			at = append(at, b)
		}
	}
	sum := control.Read(0)
	by := groupByLabel(at, model.BucketLabel)
	for _, spelling := range slices.Sorted(maps.Keys(by)) {
		sum = sum.Plus(s.read(sigBucket, by[spelling]))
	}
	return sum, len(at) > 0
}

// mean divides the sum of latencies by their number, both over the window, so that extrapolation cancels.
func mean(offered, completed, sum control.Reading, window time.Duration) control.Reading {
	switch {
	case !completed.Known():
		return completed
	case completed.AtMost(0) && sum.Known() && offered.AtMost(0):
		return control.Missing(control.Idle, fmt.Sprintf("no request in %s", window))
	}
	return sum.Over(completed, fmt.Sprintf("no admitted request finished in %s", window))
}

// quantile reads the objective's quantile over all instances, and whether it is censored: a value at the largest finite
// bucket edge only says "at least that". If the edges are unknown, any value may be at the top.
func (r *reply) quantile(s subject, idle bool, faults faults) (control.Reading, bool) {
	if s.Queries[Quantile] != "" {
		return r.queriedQuantile(s, idle, faults), false
	}
	if s.Preset == Custom {
		return control.Missing(control.NoData, "no query provides it"), false
	}
	found := r.service(sigQuantile, s.Name)
	if len(found) == 1 && math.IsNaN(found[0].value) && idle {
		return control.Missing(control.Idle, fmt.Sprintf("no request finished in %s", s.Timing.Window)), false
	}
	q := s.read(sigQuantile, found)
	if !q.Known() {
		return q, false
	}
	if s.native() != "" {
		top := math.Inf(1) // exponential buckets have no end
		for _, b := range r.service(sigEdges, s.Name) {
			if lower, err := strconv.ParseFloat(string(b.labels[lowerLabel]), 64); err == nil && b.labels[model.BucketLabel] == "+Inf" {
				top = min(top, lower)
			}
		}
		return q.Times(control.Read(s.Histogram.unit())), q.AtLeast(top)
	}
	top := math.Inf(-1)
	for _, le := range r.edges(s.Name) {
		if e, err := strconv.ParseFloat(le, 64); err == nil && !math.IsInf(e, 0) {
			top = max(top, e)
		}
	}
	return q.Times(control.Read(s.Histogram.unit())), q.AtLeast(top)
}

// edges lists the bucket edges of the service, smallest first.
func (r *reply) edges(service string) []string {
	var all []string
	for _, e := range r.service(sigEdges, service) {
		all = append(all, string(e.labels[model.BucketLabel]))
	}
	slices.SortFunc(all, func(a, b string) int {
		x, _ := strconv.ParseFloat(a, 64)
		y, _ := strconv.ParseFloat(b, 64)
		return cmp.Or(cmp.Compare(x, y), cmp.Compare(a, b))
	})
	return slices.Compact(all)
}

// absence says why a service is not in the reply at all.
func (r *reply) absence(s subject) string {
	found := s.selector(sigSeen) + " finds nothing"
	if s.Preset != Guard {
		if !s.Native {
			found += ", and no native histogram of that name has been found either"
		}
		return found + ": is the service scraped, and are the labels spelled as in Prometheus?"
	}
	if up := r.service(sigUp, s.Name); len(up) > 0 {
		return fmt.Sprintf("%s now; its %d targets answer scrapes, but without it: has the service stopped using guard?",
			found, len(up))
	}
	if len(r.service(sigOffered, s.Name)) > 0 {
		return found + " now, and its last instances have just left the targets"
	}
	if strings.Contains(s.Name, "/") {
		return found + ": is the route scraped, and is it among the routes of the service's guard.Config?"
	}
	return found + ": is the service scraped, and spelled as in its guard.Config?"
}

// manySeries says in which labels the series differ. The text does not depend on the order of the series.
func manySeries(found []sample) string {
	names := map[model.LabelName]bool{}
	for _, s := range found {
		for n := range s.labels {
			names[n] = true
		}
	}
	var differing []string
	for _, n := range slices.Sorted(maps.Keys(names)) {
		values := slices.Sorted(maps.Keys(groupByLabel(found, n)))
		if len(values) < 2 {
			continue
		}
		const most = 4
		shown := values
		if len(shown) > most {
			shown = append(slices.Clone(shown[:most]), "…")
		}
		differing = append(differing, fmt.Sprintf("%s (%s)", n, strings.Join(shown, ", ")))
	}
	if len(differing) == 0 {
		return fmt.Sprintf("%d series with the same labels where one was expected", len(found))
	}
	return brief(fmt.Sprintf(
		"%d series where one was expected; they differ in %s: scrape each instance once, or select one by labels",
		len(found), strings.Join(differing, ", ")))
}

func groupByLabel(found []sample, name model.LabelName) map[string][]sample {
	by := map[string][]sample{}
	for _, s := range found {
		by[string(s.labels[name])] = append(by[string(s.labels[name])], s)
	}
	return by
}

// stale says how old the newest sample is.
func (s subject) stale(age float64) string {
	if math.IsNaN(age) || math.IsInf(age, 0) {
		return "stale: nothing tells how old the samples are"
	}
	return fmt.Sprintf("stale %s > %s", seconds(age), seconds(s.StaleAfter.Seconds()))
}

// seconds writes a duration the way an operator reads it: 240s, 11s, 0.5s.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || math.IsInf(s, 0):
		return "unknown"
	case math.Abs(s) >= 1e15:
		return strconv.FormatFloat(s, 'g', 3, 64) + "s"
	}
	return strconv.FormatFloat(math.Round(s*10)/10, 'f', -1, 64) + "s"
}
