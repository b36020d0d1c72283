package daemon

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math"
	"net/http"
	"net/http/pprof"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/common/version"
	"github.com/prometheus/exporter-toolkit/web"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Limits on the records in one answer of /api/v1/decisions.
const (
	limitDefault = 1000
	limitMax     = 10_000
)

// answerPatience is how long a client may take to read an answer; one that does not read keeps it in memory.
const answerPatience = time.Minute

// historiesAtOnce bounds the answers about the whole journal, tens of megabytes each, that are made at the same time.
const historiesAtOnce = 4

// Handler serves the HTTP interface. It refuses requests that change something if Options.Closed says so, or if they
// come from a web page of another origin.
func (d *Daemon) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET "+api.Prefix+"/status", d.serveStatus)
	mux.HandleFunc("GET "+api.Prefix+"/loops", d.serveLoops)
	mux.HandleFunc("GET "+api.Prefix+"/history", d.serveHistory)
	mux.HandleFunc("GET "+api.Prefix+"/decisions", d.serveDecisions)
	mux.HandleFunc("GET "+api.Prefix+"/stream", d.serveStream)
	mux.HandleFunc("GET "+api.Prefix+"/audit", d.serveAudit)
	for _, loop := range []string{"/loops/{knob}", "/loops/{service}/{knob}", "/loops/{service}/{of}/{knob}"} {
		mux.HandleFunc("GET "+api.Prefix+loop, d.serveLoop)
		mux.HandleFunc("GET "+api.Prefix+loop+"/history", d.serveHistory)
		for _, kind := range []actuators.OrderKind{actuators.Freeze, actuators.Resume, actuators.Override} {
			mux.Handle("POST "+api.Prefix+loop+"/"+string(kind), d.changing(d.serveOrder(kind)))
			mux.HandleFunc("GET "+api.Prefix+loop+"/"+string(kind), servePostOnly)
		}
	}
	for _, kind := range []actuators.OrderKind{actuators.Freeze, actuators.Resume} {
		mux.Handle("POST "+api.Prefix+"/"+string(kind), d.changing(d.serveOrderAll(kind)))
		mux.HandleFunc(api.Prefix+"/"+string(kind), servePostOnly)
	}
	mux.HandleFunc(api.Prefix+"/", serveNoResource)
	mux.Handle("GET /metrics", promhttp.HandlerFor(d.opts.Registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, Registry: d.opts.Registry, ErrorHandling: promhttp.ContinueOnError,
	}))
	mux.HandleFunc("GET /-/healthy", d.serveHealthy)
	mux.HandleFunc("GET /-/ready", d.serveReady)
	mux.Handle("POST /-/reload", d.changing(d.serveReload))
	mux.HandleFunc("/-/reload", servePostOnly)
	// Profiles cost the process time and show its command line.
	mux.Handle("GET /debug/pprof/", d.changing(pprof.Index))
	mux.Handle("GET /debug/pprof/cmdline", d.changing(pprof.Cmdline))
	mux.Handle("GET /debug/pprof/profile", d.changing(pprof.Profile))
	mux.Handle("GET /debug/pprof/symbol", d.changing(pprof.Symbol))
	mux.Handle("GET /debug/pprof/trace", d.changing(pprof.Trace))
	if page, err := web.NewLandingPage(landing); err == nil {
		mux.Handle("GET /{$}", page)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		until := time.Now().Add(answerPatience)
		if strings.HasPrefix(r.URL.Path, "/debug/pprof/") {
			until = time.Time{} // they take as long as the caller asks for
		}
		_ = http.NewResponseController(w).SetWriteDeadline(until) // not every connection supports it
		w.Header().Set(api.VersionHeader, api.Version())
		mux.ServeHTTP(w, r)
	})
}

var landing = web.LandingConfig{
	Name:        "governor",
	Description: "Adapts the limits of services to their SLOs, from metrics in Prometheus, through Consul.",
	Version:     version.Info(),
	Links: []web.LandingLinks{
		{Address: api.Prefix + "/status", Text: "Status", Description: "role, leader, dependencies, configuration"},
		{Address: api.Prefix + "/loops", Text: "Loops", Description: "every loop with its last decision"},
		{
			Address: api.Prefix + "/decisions", Text: "Decisions",
			Description: "decisions of the last hour (since, last, notable, service, knob, limit)",
		},
		{
			Address: api.Prefix + "/history?since=5m", Text: "History",
			Description: "the last hour as points to draw (since, step, service, knob)",
		},
		{Address: api.Prefix + "/audit", Text: "Audit", Description: "actions of people (service, knob)"},
		{Address: api.Prefix + "/stream", Text: "Stream", Description: "decisions as they are made, as server-sent events"},
		{Address: "/metrics", Text: "Metrics"},
		{Address: "/-/healthy", Text: "Healthy", Description: "the process is alive"},
		{Address: "/-/ready", Text: "Ready", Description: "every loop has decided at least once (a hold counts)"},
	},
}

func (d *Daemon) serveStatus(w http.ResponseWriter, _ *http.Request) { answer(w, d.Status()) }

// serveLoops answers with the loops as they are now, or as they were at an instant in the past.
func (d *Daemon) serveLoops(w http.ResponseWriter, r *http.Request) {
	text := r.URL.Query().Get("at")
	if text == "" {
		loops, _ := d.recorder.Loops()
		answer(w, loops)
		return
	}
	at, err := instant(text, time.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, "at="+text+": "+err.Error(), "")
		return
	}
	answer(w, d.recorder.journal.At(at))
}

func (d *Daemon) serveLoop(w http.ResponseWriter, r *http.Request) {
	if l, ok := d.loop(w, r); ok {
		answer(w, l)
	}
}

// loop returns the loop that the path names, or answers that it does not exist. Each slash of its name may be escaped or
// not, also in the name of a route ("checkout/export") or of a knob ("calls/payments"): no two loops have the same full name.
func (d *Daemon) loop(w http.ResponseWriter, r *http.Request) (api.Loop, bool) {
	name := r.PathValue("knob")
	for _, before := range []string{"of", "service"} {
		if segment := r.PathValue(before); segment != "" {
			name = segment + "/" + name
		}
	}
	loops, _ := d.recorder.Loops()
	names := make([]string, len(loops))
	for i, l := range loops {
		if names[i] = l.Service + "/" + string(l.Knob); names[i] == name {
			return l, true
		}
	}
	refuse(w, http.StatusNotFound, "there is no loop "+name, "the loops are: "+strings.Join(names, ", "))
	return api.Loop{}, false
}

// serveHistory answers for one loop, or for the loops that the query selects.
func (d *Daemon) serveHistory(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	service, knob := q.Get("service"), q.Get("knob")
	if r.PathValue("knob") != "" {
		l, ok := d.loop(w, r)
		if !ok {
			return
		}
		service, knob = l.Service, string(l.Knob)
	}
	since, err := instant(q.Get("since"), time.Now())
	if err != nil {
		refuse(w, http.StatusBadRequest, "since="+q.Get("since")+": "+err.Error(), "")
		return
	}
	step := time.Duration(0)
	if text := q.Get("step"); text != "" {
		if step, err = time.ParseDuration(text); err != nil || step <= 0 {
			refuse(w, http.StatusBadRequest, "step="+text+": expected a duration like 30s", "")
			return
		}
	}
	select {
	case d.histories <- struct{}{}:
		defer func() { <-d.histories }()
	case <-r.Context().Done():
		return
	}
	answer(w, api.History{Loops: d.recorder.journal.History(since, step, service, control.Knob(knob))})
}

// instant reads a point in time; see api.ParseInstant. "" means as far back as the journal reaches.
func instant(text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	return api.ParseInstant(text, now)
}

func (d *Daemon) serveDecisions(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	since, err := number(q, "since", 0, math.MaxUint64)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(),
			"pass the \"next\" of an earlier answer, or leave it out for the whole journal")
		return
	}
	limit, err := number(q, "limit", limitDefault, limitMax)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	last, err := number(q, "last", 0, limitMax)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "")
		return
	}
	s := selection{service: q.Get("service"), knob: control.Knob(q.Get("knob")), notable: q.Get("notable") == "true"}
	if last > 0 {
		since, limit = d.recorder.journal.Newest(int(last), s), last
	}
	d.sendDecisions(w, since, s, int(limit))
}

// sendDecisions answers with up to limit selected records after the cursor since, as an api.Decisions, piece by piece:
// thousands of records at once would take tens of megabytes for each caller.
func (d *Daemon) sendDecisions(w http.ResponseWriter, since uint64, s selection, limit int) {
	header(w, http.StatusOK)
	out := bufio.NewWriter(w)
	defer out.Flush()
	next, sent := since, 0
	out.WriteString(`{"decisions":[`)
	for sent < limit {
		piece := d.recorder.journal.Since(next, s, min(streamPiece, limit-sent))
		for _, record := range piece.Decisions {
			body, err := json.Marshal(record)
			if err != nil {
				panic(http.ErrAbortHandler) // an answer that ends here must not look whole
			}
			if sent > 0 {
				out.WriteByte(',')
			}
			if _, err := out.Write(body); err != nil {
				return // the client has gone
			}
			sent++
		}
		if next = piece.Next; len(piece.Decisions) == 0 {
			break
		}
	}
	fmt.Fprintf(out, `],"next":%d}`+"\n", next)
}

func number(q url.Values, name string, unset, most uint64) (uint64, error) {
	text := q.Get(name)
	if text == "" {
		return unset, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil || n > most {
		return 0, fmt.Errorf("%s=%s: expected a whole number from 0 to %d", name, text, most)
	}
	return n, nil
}

// serveHealthy answers whether the loops of this process come round. A dependency that is down makes nothing unhealthy.
func (d *Daemon) serveHealthy(w http.ResponseWriter, _ *http.Request) {
	if stopped := d.Stopped(); stopped != nil {
		refuse(w, http.StatusServiceUnavailable, stopped.Error(),
			"this governor does not lead; /debug/pprof/goroutine?debug=2 shows where it hangs; restart it")
		return
	}
	fmt.Fprintln(w, "governor is alive")
}

// serveReady answers whether governor does its work: the configuration is loaded (else there would be no answer) and
// every loop has completed a tick, with a decision or a hold. Prometheus or Consul being down does not make governor
// unready: it holds, as it should.
func (d *Daemon) serveReady(w http.ResponseWriter, _ *http.Request) {
	loops, decided := d.recorder.Loops()
	if decided < len(loops) {
		refuse(w, http.StatusServiceUnavailable,
			fmt.Sprintf("%d of %d loops have not completed a tick yet", len(loops)-decided, len(loops)),
			"the first tick comes at most one period after the start")
		return
	}
	fmt.Fprintln(w, "governor is ready")
}

// changing wraps a handler that changes something, or that only those may use who may.
func (d *Daemon) changing(h http.HandlerFunc) http.Handler {
	browsers := http.NewCrossOriginProtection()
	browsers.SetDenyHandler(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		refuse(w, http.StatusForbidden, "the request comes from a page of another origin", "")
	}))
	return browsers.Handler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if d.opts.Closed != nil {
			if why := d.opts.Closed(); why != nil {
				refuse(w, http.StatusForbidden, why.Error(),
					"listen on loopback, or name users or client certificates in --web.config.file")
				return
			}
		}
		h(w, r)
	}))
}

func (d *Daemon) serveReload(w http.ResponseWriter, r *http.Request) {
	if err := d.Reload(r.Context()); err != nil {
		refuse(w, http.StatusInternalServerError, err.Error(), "the configuration in force is unchanged")
		return
	}
	answer(w, d.Status().Config)
}

func servePostOnly(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Allow", "POST")
	refuse(w, http.StatusMethodNotAllowed, r.Method+" changes nothing here", "use POST")
}

func serveNoResource(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		refuse(w, http.StatusMethodNotAllowed, r.Method+" is not supported here",
			"use GET; to change a loop, POST to "+api.Prefix+"/loops/{service}/{knob}/freeze, /resume or /override")
		return
	}
	refuse(w, http.StatusNotFound, "there is no resource "+r.URL.Path, "try "+api.Prefix+"/status, /loops, "+
		"/loops/{service}/{knob}, /loops/{service}/{knob}/history, /history, /decisions, /audit, /stream")
}

func answer(w http.ResponseWriter, v any) { send(w, http.StatusOK, v) }

func refuse(w http.ResponseWriter, code int, message, hint string) {
	send(w, code, api.Error{Error: message, Hint: hint})
}

func header(w http.ResponseWriter, code int) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(code)
}

func send(w http.ResponseWriter, code int, v any) {
	body, err := json.Marshal(v)
	if err != nil {
		code = http.StatusInternalServerError
		body, _ = json.Marshal(api.Error{Error: "cannot encode the answer: " + err.Error()})
	}
	header(w, code)
	_, _ = w.Write(append(body, '\n')) // the client may have gone away
}
