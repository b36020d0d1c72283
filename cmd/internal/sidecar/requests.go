package sidecar

import (
	"context"
	"crypto/rand"
	"net/http"
	"sync"
)

// RequestHeader names an inbound request. The sidecar adds it to what the service receives. If the service copies it to
// the calls that it makes for the request, the sidecar knows which request they belong to.
const RequestHeader = "Guard-Request"

// mostInbound bounds the inbound requests that can be found again. The guard's limit keeps nearly all services far below
// it; endless requests, which hold no slot, do not count towards that limit.
const mostInbound = 1 << 16

// Requests finds the context of an inbound request by its name, while its handler runs. A name is random, so a
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

// admit names the request and returns what must be called when it is over.
func (s *Requests) admit(r *http.Request) (over func()) {
	delete(r.Header, RequestHeader) // a client may not choose the name
	name, ok := s.enter(r.Context())
	if !ok {
		return func() {}
	}
	r.Header[RequestHeader] = []string{name}
	return func() { s.leave(name) }
}

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

// of returns the context of the inbound request that a call names; nil: it names none that is in progress.
func (s *Requests) of(call http.Header) context.Context {
	names := call[RequestHeader]
	if len(names) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[names[0]]
}
