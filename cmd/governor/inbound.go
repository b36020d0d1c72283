package main

import (
	"context"
	"crypto/rand"
	"net/http"
	"net/http/httputil"
	"sync"
)

// requestHeader names an inbound request. The sidecar adds it to what the service receives. If the service copies it to
// the calls that it makes for the request, the sidecar knows which request they belong to.
const requestHeader = "Guard-Request"

// mostInbound bounds the inbound requests that can be found again. The guard's limit keeps nearly all services far below
// it; endless requests, which hold no slot, do not count towards that limit.
const mostInbound = 1 << 16

// inboundRequests finds the context of an inbound request by its name, while its handler runs. A name is random, so a
// process that was not told it cannot have its calls counted for somebody else's request. A name that is not known, or
// not any more, does nothing.
type inboundRequests struct {
	mu     sync.Mutex
	byName map[string]context.Context
	most   int
}

func newInboundRequests(most int) *inboundRequests {
	return &inboundRequests{byName: map[string]context.Context{}, most: most}
}

// through returns a handler that names each request and passes it to proxy. It changes proxy.
func (s *inboundRequests) through(proxy *httputil.ReverseProxy) http.Handler {
	rewrite := proxy.Rewrite
	proxy.Rewrite = func(r *httputil.ProxyRequest) {
		rewrite(r)
		// After the proxy has removed what the client listed in its Connection header.
		r.Out.Header[requestHeader] = r.In.Header[requestHeader]
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r.Header.Del(requestHeader) // a client may not choose the name
		if name, ok := s.enter(r.Context()); ok {
			defer s.leave(name)
			r.Header[requestHeader] = []string{name}
		}
		proxy.ServeHTTP(w, r)
	})
}

func (s *inboundRequests) enter(ctx context.Context) (name string, ok bool) {
	name = rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.byName) >= s.most {
		return "", false
	}
	s.byName[name] = ctx
	return name, true
}

func (s *inboundRequests) leave(name string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.byName, name)
}

// of returns the context of the inbound request that a call names; nil: it names none that is in progress.
func (s *inboundRequests) of(call http.Header) context.Context {
	names := call[requestHeader]
	if len(names) != 1 {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.byName[names[0]]
}
