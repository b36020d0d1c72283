package sidecar

import (
	"context"
	"crypto/rand"
	"sync"
)

// mostInbound bounds the inbound requests that can be found again. The guard's limit keeps nearly all services far below
// it; endless requests, which hold no slot, do not count towards that limit.
const mostInbound = 1 << 16

// Requests finds the context of an inbound request by its name, while its handler runs. The name is in the Guard-Context that
// the service receives and copies to the calls that it makes for the request. A name is random, so a
// process that was not told it cannot have its calls counted for somebody else's request. A name that is not known, or
// not any more, does nothing.
type Requests struct {
	mu     sync.Mutex
	byName map[string]context.Context
	most   int
}

// NewRequests returns an empty register.
func NewRequests() *Requests { return newRequests(mostInbound) }

func newRequests(most int) *Requests {
	return &Requests{byName: map[string]context.Context{}, most: most}
}

// enter names a request, unless there are too many.
func (s *Requests) enter(ctx context.Context) (name string, ok bool) {
	name = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byName) >= s.most {
		return "", false
	}
	s.byName[name] = ctx
	return name, true
}

func (s *Requests) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// of returns the context of the inbound request of that name; nil: none of that name is in progress.
func (s *Requests) of(name string) context.Context {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[name]
}
