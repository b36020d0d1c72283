package consul

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// sharedWatch serves all watches of services in a process with one blocking query. Consul accepts 200 connections from
// one address by default, and each blocking query occupies one.
//
//	one service        services/checkout/    all keys of the service
//	several services   services/             all keys of all services; each watch picks its own
//
// A goroutine asks, as long as anybody watches; it is replaced when watches come or go. Each watch applies what concerns
// it in its caller's goroutine, so one that is slow holds up no other.
type sharedWatch struct {
	mu      sync.Mutex
	watches []*serviceWatch
	end     func() // stops the goroutine and waits for it
}

// serviceWatch is the watch of one service.
type serviceWatch struct {
	service string
	news    chan keysRead // the latest that was not applied yet
}

// keysRead is an answer of Consul, or part of one.
type keysRead struct {
	pairs    api.KVPairs
	complete bool // of all keys of the service, so that a key that is not there does not exist
}

// watch blocks until ctx ends and returns its error.
func (s *sharedWatch) watch(ctx context.Context, w *Watcher, service string, apply func(actuators.Part, []byte)) error {
	me := &serviceWatch{service: service, news: make(chan keysRead, 1)}
	s.change(ctx, w, func(all []*serviceWatch) []*serviceWatch { return append(all, me) })
	defer s.change(ctx, w, func(all []*serviceWatch) []*serviceWatch {
		var others []*serviceWatch
		for _, other := range all {
			if other != me {
				others = append(others, other)
			}
		}
		return others
	})
	values := news{}
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case read := <-me.news:
			if ctx.Err() != nil {
				return ctx.Err()
			}
			values.apply(w.Keys, service, read, apply)
		}
	}
}

// change replaces the watches, and the goroutine that serves them.
func (s *sharedWatch) change(ctx context.Context, w *Watcher, to func([]*serviceWatch) []*serviceWatch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.end != nil {
		s.end()
		s.end = nil
	}
	s.watches = to(s.watches)
	if len(s.watches) == 0 {
		return
	}
	watches := append([]*serviceWatch(nil), s.watches...)
	serving, cancel := context.WithCancel(context.WithoutCancel(ctx)) // one caller's end is not the others'
	done := make(chan struct{})
	go func() { defer close(done); w.serve(serving, watches) }()
	s.end = func() { cancel(); <-done }
}

// offer hands over an answer; one that was not applied yet is outdated.
func (s *serviceWatch) offer(read keysRead) {
	select {
	case <-s.news:
	default:
	}
	s.news <- read
}

// narrowFor is how long the process reads less at a time, after it could not read a prefix.
const narrowFor = 10 * time.Minute

// tooWide says whether reading less at a time may help: this token may not read the prefix, or there is too much in it.
func tooWide(err error) bool { return lacksRule(err) || errors.Is(err, errTooLarge) }

// serve supplies the watches until ctx ends.
func (w *Watcher) serve(ctx context.Context, watches []*serviceWatch) {
	services := map[string][]*serviceWatch{}
	for _, watch := range watches {
		services[watch.service] = append(services[watch.service], watch)
	}
	if wait.For(ctx, jitter(firstConnect)) != nil {
		return
	}
	if len(services) == 1 {
		w.serveEach(ctx, services)
		return
	}
	all := w.follower(w.Keys.Services(), true)
	for service := range services {
		all.expect = append(all.expect, w.Keys.Setting(service))
		all.within = append(all.within, w.partPrefixes(service)...)
	}
	all.most = mostTogether + int64(len(services))*mostPerWatch
	for {
		err := w.follow(ctx, all, tooWide, func(pairs api.KVPairs) { w.distribute(pairs, services) })
		if ctx.Err() != nil {
			return
		}
		w.report(all, fmt.Errorf("following each of %d services with a connection of its own until then: %w",
			len(services), err), narrowFor)
		narrow, cancel := context.WithTimeout(ctx, narrowFor)
		w.serveEach(narrow, services)
		cancel()
	}
}

// The size limit of an answer about all services: it holds the keys of services that are not watched here, too, each
// time anything changes. Beyond it, one query for each service costs less.
const (
	mostTogether = 256 << 10 // bytes
	mostPerWatch = 32 << 10  // bytes more for each service that is watched
)

// distribute gives each watch the keys of its service.
func (w *Watcher) distribute(pairs api.KVPairs, services map[string][]*serviceWatch) {
	found := map[string]api.KVPairs{}
	for _, pair := range pairs {
		if service, _, ok := w.Keys.PartOf(pair.Key); ok && services[service] != nil {
			found[service] = append(found[service], pair)
		}
	}
	for service, watches := range services {
		for _, watch := range watches {
			watch.offer(keysRead{found[service], true})
		}
	}
}

// serveEach follows each service by itself until ctx ends.
func (w *Watcher) serveEach(ctx context.Context, services map[string][]*serviceWatch) {
	var following sync.WaitGroup
	for service, watches := range services {
		following.Go(func() { w.serveOne(ctx, service, watches) })
	}
	following.Wait()
}

// partPrefixes are those of the Settings of a service's routes and calls.
func (w *Watcher) partPrefixes(service string) []string {
	return []string{w.Keys.Service(service) + "routes/", w.Keys.Service(service) + "calls/"}
}

// serveOne follows all keys of a service or, while that is not possible, its own Setting alone.
func (w *Watcher) serveOne(ctx context.Context, service string, watches []*serviceWatch) {
	see := func(complete bool) func(api.KVPairs) {
		return func(pairs api.KVPairs) {
			for _, watch := range watches {
				watch.offer(keysRead{pairs, complete})
			}
		}
	}
	wide, own := w.follower(w.Keys.Service(service), true), w.follower(w.Keys.Setting(service), false)
	wide.expect, wide.within = []string{own.key}, w.partPrefixes(service)
	for {
		err := w.follow(ctx, wide, tooWide, see(true))
		if ctx.Err() != nil {
			return
		}
		w.report(wide, err, narrowFor)
		narrow, cancel := context.WithTimeout(ctx, narrowFor)
		_ = w.follow(narrow, own, never, see(false))
		cancel()
	}
}
