package conformance

import (
	"errors"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestRefusedRequests covers what clients see while the only slot is held. The service sees nothing.
func TestRefusedRequests(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ method, send string }{
		"GET":                      {"GET", get("/")},
		"HEAD":                     {"HEAD", head},
		"POST":                     {"POST", post("Content-Length: 5", "", "hello")},
		"POST in chunks":           {"POST", chunked("5", "hello", "0", "", "")},
		"POST that waits for 100":  {"POST", asked},
		"POST without its body":    {"POST", post("Content-Length: 5", "", "")},
		"PROPFIND":                 {"PROPFIND", bare("PROPFIND / HTTP/1.1", "Host: shop")},
		"OPTIONS":                  {"OPTIONS", bare("OPTIONS / HTTP/1.1", "Host: shop")},
		"upgrade":                  {"GET", upgrade},
		"HTTP/1.0":                 {"GET", "GET / HTTP/1.0\r\n\r\n"},
		"absolute target":          {"GET", bare("GET http://shop/a HTTP/1.1", "Host: shop")},
		"client that has sent all": {"GET", get("/")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := borrow(t, oneSlot)
			l := w.begin(true, func(s *peer) {
				s.request()
				s.cue("held")
				s.await("refused")
				s.send(plainAnswer)
				echoes(s)
			})
			l.asClient(func(holder *peer) {
				holder.send(get("/holds-the-slot"))
				holder.await("held")
				c2 := holder.another()
				c2.send(c.send)
				if name == "client that has sent all" {
					c2.closeWrite()
				}
				c2.wantsRefusal(c2.answer(c.method))
				if n := l.number(); n != 1 {
					holder.fail("the service saw %d requests", n)
				}
				holder.cue("refused")
				holder.wants(holder.answer("GET"), plainAnswer)
				holder.send(get("/next"))
				holder.wants(holder.answer("GET"), echo("GET", "GET /next", ""))
			})
			clean := w.end(l)
			for _, err := range l.errs {
				t.Error(err)
			}
			w.giveBack(clean && !t.Failed())
		})
	}
}

// wantsRefusal fails the role if an answer is no refusal for want of a slot.
func (p *peer) wantsRefusal(m message) {
	again := m.values("retry-after")
	if m.start != "503" || m.broken != "" || len(m.interim) > 0 || len(again) != 1 || !regexp.MustCompile(`^[1-9]\d*$`).MatchString(again[0]) ||
		!m.lists("guard-refused", "concurrency") {
		p.fail("the client got %v, want 503 with Retry-After and Guard-Refused", m)
	}
}

// TestRefusedRequestsOverHTTP2 does the same for HTTP/2. A client of gRPC gets an answer of gRPC.
func TestRefusedRequestsOverHTTP2(t *testing.T) {
	t.Parallel()
	for name, send := range map[string]func(*frames) uint32{
		"GET": func(f *frames) uint32 { return f.request(true, "GET", "/") },
		"gRPC": func(f *frames) uint32 {
			id := f.request(false, "POST", "/shop.Orders/Place", "content-type", "application/grpc", "te", "trailers")
			f.data(id, true, frame("hello"))
			return id
		},
		"gRPC with a codec, before its message": (*frames).rpc,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			service := startGoService(t)
			sidecar, process := startSidecar(t, "h2c://"+service.address, 1)
			t.Cleanup(process.Kill)
			l := &leg{network: "tcp", address: sidecar, ends: time.Now().Add(patience)}
			service.handlers.Store("holds", http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				l.cues.give("held")
				select {
				case <-l.cues.of("refused"):
				case <-r.Context().Done():
				}
				plain(w)
				w.Header().Set("Content-Length", "0")
			}))
			l.asClient(func(p *peer) {
				f := p.http2()
				holder := f.request(true, "GET", "/holds-the-slot", "case", "holds")
				p.await("held")
				other := p.another().http2()
				s := other.answer(send(other))
				m := s.message()
				if !strings.HasPrefix(name, "gRPC") {
					other.wantsRefusal(m)
				} else if m.start != "200" || len(m.values("grpc-status")) != 1 || m.values("grpc-status")[0] != "8" || len(s.headers) != 1 ||
					s.endedWith != "HEADERS" || !strings.HasPrefix(m.values("content-type")[0], "application/grpc") {
					other.fail("the client got %v, want a header alone with grpc-status 8", m)
				}
				p.cue("refused")
				f.wants(f.answer(holder), "GET", ok("Content-Length: 0", "", ""))
			})
			if err := errors.Join(l.errs...); err != nil {
				t.Error(err)
			}
		})
	}
}
