// Package plant is the service that the end-to-end tests and the demo overload: a queue with N servers, as control
// engineering draws it, in real time and behind real HTTP.
//
//	arrivals ──► FIFO queue ──► N servers × exponential time ──► (slow dependency) ──► 200 OK
//
// Its capacity is N ÷ mean service time: 8 servers of 40 ms carry 200 requests per second, whatever the speed of the
// machine, because a server sleeps rather than works. A client that gives up leaves its request in the queue: the
// request still takes its turn and occupies a server, as in a service that ignores cancellation. This is what makes
// overload last. The queue may have a maximum length; a request that finds it full is refused at once with 503 Service
// Unavailable.
package plant

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"
)

// Settings can be changed while the plant runs.
type Settings struct {
	// Servers is the number of requests served at once, ≥ 0. Fewer servers let running requests finish first.
	Servers int `json:"servers"`
	// MeanSeconds is the mean of the exponential service time, > 0. It applies to requests that start from now on.
	MeanSeconds float64 `json:"mean_seconds"`
	// DependencySeconds is added, without occupying a server, to the share DependencyShare of all requests.
	DependencySeconds float64 `json:"dependency_seconds"`
	DependencyShare   float64 `json:"dependency_share"`
	// Places is how many requests can wait, ≥ 0; 0: any number.
	Places int `json:"places"`
}

// Validate reports what is out of range.
func (s Settings) Validate() error {
	switch {
	case s.Servers < 0 || s.Servers > 10_000:
		return fmt.Errorf("servers %d: expected 0..10000", s.Servers)
	case !(s.MeanSeconds > 0 && s.MeanSeconds <= 60):
		return fmt.Errorf("mean_seconds %v: expected more than 0, at most 60", s.MeanSeconds)
	case !(s.DependencySeconds >= 0 && s.DependencySeconds <= 60):
		return fmt.Errorf("dependency_seconds %v: expected 0..60", s.DependencySeconds)
	case !(s.DependencyShare >= 0 && s.DependencyShare <= 1):
		return fmt.Errorf("dependency_share %v: expected 0..1", s.DependencyShare)
	case s.Places < 0:
		return fmt.Errorf("places %d: expected 0 or more", s.Places)
	}
	return nil
}

// Plant is the queue and its servers. It is safe for concurrent use.
type Plant struct {
	mu       sync.Mutex
	settings Settings
	random   *rand.Rand
	waiting  []*job // first in, first out
	busy     int
	served   uint64
}

// job is one request: it waits in the queue until a server is free and is then served for the time that the server
// draws.
type job struct {
	arrived time.Time
	times   float64 // the mean service time
	done    chan struct{}
}

// New returns a plant whose service times are drawn from seed.
func New(s Settings, seed uint64) (*Plant, error) {
	if err := s.Validate(); err != nil {
		return nil, fmt.Errorf("new plant: %w", err)
	}
	return &Plant{settings: s, random: rand.New(rand.NewPCG(seed, 0x706c616e74))}, nil
}

// Serve queues one request and returns true when it has been served, false at once where the queue is full. There is no
// way to leave the queue.
func (p *Plant) Serve() bool { return p.serve(1) }

func (p *Plant) serve(times float64) bool {
	j := &job{arrived: time.Now(), times: times, done: make(chan struct{})}
	p.mu.Lock()
	if places := p.settings.Places; places > 0 && len(p.waiting) >= places {
		p.mu.Unlock()
		return false
	}
	p.waiting = append(p.waiting, j)
	p.dispatch(j.arrived)
	p.mu.Unlock()
	<-j.done

	p.mu.Lock()
	slow := p.random.Float64() < p.settings.DependencyShare
	wait := p.settings.DependencySeconds
	p.mu.Unlock()
	if slow && wait > 0 {
		time.Sleep(seconds(wait))
	}
	return true
}

// dispatch puts waiting requests on free servers. A server that became free at the instant free starts the next request
// at that instant, even if the machine runs this a little later: late timers must not cost capacity. Callers hold mu.
func (p *Plant) dispatch(free time.Time) {
	for p.busy < p.settings.Servers && len(p.waiting) > 0 {
		j := p.waiting[0]
		p.waiting[0] = nil
		p.waiting = p.waiting[1:]
		p.busy++
		start := j.arrived
		if free.After(start) {
			start = free
		}
		finish := start.Add(seconds(p.random.ExpFloat64() * j.times * p.settings.MeanSeconds))
		time.AfterFunc(time.Until(finish), func() {
			close(j.done)
			p.mu.Lock()
			defer p.mu.Unlock()
			p.busy--
			p.served++
			p.dispatch(finish)
		})
	}
}

// Set replaces the settings.
func (p *Plant) Set(s Settings) error {
	if err := s.Validate(); err != nil {
		return fmt.Errorf("set plant: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settings = s
	p.dispatch(time.Now())
	return nil
}

// State is the state of the plant at one instant.
type State struct {
	Settings
	Waiting int    `json:"waiting"`
	Busy    int    `json:"busy"`
	Served  uint64 `json:"served"`
}

// State returns a snapshot.
func (p *Plant) State() State {
	p.mu.Lock()
	defer p.mu.Unlock()
	return State{Settings: p.settings, Waiting: len(p.waiting), Busy: p.busy, Served: p.served}
}

// ServeHTTP serves one request through the queue and answers 200, or 503 if the queue is full.
func (p *Plant) ServeHTTP(w http.ResponseWriter, r *http.Request) { p.Times(1).ServeHTTP(w, r) }

// Times is ServeHTTP for requests that take times as long, > 0: they wait in the same queue for the same servers.
func (p *Plant) Times(times float64) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if !p.serve(times) {
			http.Error(w, "the queue is full", http.StatusServiceUnavailable)
			return
		}
		w.Write([]byte("ok\n"))
	})
}

// Control is the endpoint that changes a running plant: GET returns the State, PUT takes Settings and keeps the value
// of every field left out.
func (p *Plant) Control(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPut {
		s := p.State().Settings
		d := json.NewDecoder(http.MaxBytesReader(w, r.Body, 1<<16))
		d.DisallowUnknownFields()
		err := d.Decode(&s)
		if err == nil {
			err = p.Set(s)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
	}
	w.Header().Set("Content-Type", "application/json")
	json.NewEncoder(w).Encode(p.State())
}

func seconds(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
