package frames

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/cmd/govtop/internal/fixture"
	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// daemon answers like a governor whose clock stands still. After it starts serving, only the fields below mu change.
type daemon struct {
	api.Snapshot
	journal []api.Record // loop by loop, two each: how it came into its state
	history api.History
	mute    bool                          // it never answers
	every   time.Duration                 // between rounds in which the stream tells of every loop
	beat    time.Duration                 // between heartbeats
	round   func(n int, loops []api.Loop) // changes the loops for the n-th round; nil: nothing changes

	mu   sync.Mutex
	told int // rounds
}

// often is the interval between events of a daemon in these tests.
const often = 100 * time.Millisecond

// fleet is the fixture's fleet, with a change.
func fleet(change func(*daemon)) *daemon {
	d := &daemon{
		Snapshot: api.Snapshot{Status: fixture.Status()}, history: fixture.History(),
		every: often, beat: often,
	}
	d.consistsOf(fixture.Mixed())
	if change != nil {
		change(d)
	}
	slices.SortFunc(d.Loops, func(a, b api.Loop) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
	return d
}

func (d *daemon) consistsOf(f fixture.Fleet) { d.Loops, d.journal = f.Loops, f.Decisions }

// rename gives the loop i another service.
func (d *daemon) rename(i int, service string) {
	l := &d.Loops[i]
	l.Service, l.Decision.Service = service, service
	if l.Published != nil {
		l.Published.Key = fixture.Key(service)
	}
	for j := range 2 {
		d.journal[2*i+j].Decision.Service = service
	}
}

// serve starts the daemon and returns the arguments and variables with which govtop finds it.
func (d *daemon) serve(t testing.TB) (args, variables []string) {
	server := httptest.NewServer(d)
	t.Cleanup(server.Close)
	t.Cleanup(server.CloseClientConnections)
	return []string{"--connect", "http://governor.test:9747"}, []string{"HTTP_PROXY=" + server.URL}
}

func (d *daemon) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if d.mute {
		<-r.Context().Done()
		return
	}
	w.Header().Set(api.VersionHeader, "0.3.0")
	w.Header().Set("Content-Type", "application/json")
	q := r.URL.Query()
	var answer any
	switch part := fixture.Path(r); {
	case part[0] == "status":
		answer = d.Status
	case part[0] == "loops" && len(part) == 1:
		answer = d.loopsAt(q.Get("at"))
	case part[0] == "history":
		answer = d.history
	case len(part) == 4 && part[3] == "history":
		answer = api.History{Loops: []api.LoopHistory{d.past(part[1], part[2], q.Get("since"))}}
	case part[0] == "decisions":
		answer = d.decisions(q.Get("service"), q.Get("knob"))
	case part[0] == "audit":
		answer = fixture.Audit()
	case r.Method == http.MethodPost:
		answer = api.Receipt{Leader: "gov-a", Note: "recorded; gov-a enforces it"}
	case part[0] == "stream":
		d.stream(w, r)
		return
	default:
		w.WriteHeader(http.StatusNotFound)
		answer = api.Error{Error: "no such resource"}
	}
	_ = json.NewEncoder(w).Encode(answer)
}

// past is the history of one loop.
func (d *daemon) past(service, knob, since string) api.LoopHistory {
	long, err := time.ParseDuration(since)
	if err != nil {
		long = time.Hour
	}
	past := api.LoopHistory{Service: service, Knob: control.Knob(knob)}
	for _, l := range d.Loops {
		if l.Service == service && string(l.Knob) == knob {
			past.Points = fixture.Past(l, fixture.Now, min(long, time.Hour))
		}
	}
	return past
}

// loopsAt is the fleet as it was at an instant; "" for now.
func (d *daemon) loopsAt(instant string) []api.Loop {
	at, err := time.Parse(time.RFC3339Nano, instant)
	if err != nil {
		return d.Loops
	}
	return fixture.LoopsAt(d.Loops, fixture.Now, at)
}

// decisions is what the journal has of a service's knob; "" stands for any.
func (d *daemon) decisions(service, knob string) api.Decisions {
	return api.Decisions{Decisions: slices.DeleteFunc(slices.Clone(d.journal), func(r api.Record) bool {
		return service != "" && service != r.Decision.Service || knob != "" && knob != string(r.Decision.Knob)
	})}
}

func (d *daemon) stream(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/event-stream")
	seq := uint64(1000)
	say := func(kind string, what any) {
		seq++
		body, _ := json.Marshal(what)
		fmt.Fprintf(w, "event: %s\nid: %d\ndata: %s\n\n", kind, seq, body)
	}
	say(api.EventSnapshot, d.Snapshot)
	w.(http.Flusher).Flush()
	loops := append([]api.Loop(nil), d.Loops...)
	next := time.NewTicker(d.every)
	defer next.Stop()
	alive := time.NewTicker(d.beat)
	defer alive.Stop()
	for {
		select {
		case <-r.Context().Done():
			return
		case <-alive.C:
			fmt.Fprint(w, "event: heartbeat\n\n")
		case <-next.C:
			d.mu.Lock()
			d.told++
			n := d.told
			d.mu.Unlock()
			if d.round != nil {
				d.round(n, loops)
			}
			for _, l := range loops {
				say(api.EventLoop, l)
			}
		}
		w.(http.Flusher).Flush()
	}
}

// rounds is how often the stream has reported every loop.
func (d *daemon) rounds() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.told
}
