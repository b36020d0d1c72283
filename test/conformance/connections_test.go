package conformance

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/test/servers"
)

// TestConnectionsAreReused covers several requests on one connection, and services that close theirs.
func TestConnectionsAreReused(t *testing.T) { playScenes(t, overTCP, connections) }

// echoes answers each request with its start and its body.
func echoes(s *peer) {
	for {
		m, got := s.request()
		if !got {
			return
		}
		s.send(echo(m.method, m.start, m.body))
	}
}

// echo is the answer of echoes.
func echo(method, start, body string) string {
	answer := ok("X-For: "+start, "Content-Length: "+strconv.Itoa(len(body)), "", "")
	if method != "HEAD" {
		answer += body
	}
	return answer
}

func order(target, body string) string {
	return text("POST "+target+" HTTP/1.1", "Host: shop", "Content-Length: "+strconv.Itoa(len(body)), "", body)
}

var connections = []scene{
	{
		name: "requests one after the other",
		client: func(c *peer) {
			for _, target := range []string{"/1", "/2", "/3"} {
				c.send(order(target, "body of "+target))
				c.wants(c.answer("POST"), echo("POST", "POST "+target, "body of "+target))
			}
		},
		serve: echoes, most: 3,
	},
	{
		name: "pipelined requests",
		client: func(c *peer) {
			c.send(get("/1") + get("/2") + get("/3"))
			for _, target := range []string{"/1", "/2", "/3"} {
				c.wants(c.answer("GET"), echo("GET", "GET "+target, ""))
			}
		},
		serve: echoes, most: 3,
	},
	{
		name: "pipelined requests with bodies",
		client: func(c *peer) {
			c.send(order("/1", smuggled) + get("/2") + order("/3", "three"))
			c.wants(c.answer("POST"), echo("POST", "POST /1", smuggled))
			c.wants(c.answer("GET"), echo("GET", "GET /2", ""))
			c.wants(c.answer("POST"), echo("POST", "POST /3", "three"))
		},
		serve: echoes, most: 3,
	},
	{
		name: "HEAD, then GET",
		client: func(c *peer) {
			c.send(bare("HEAD /1 HTTP/1.1", "Host: shop"))
			c.wants(c.answer("HEAD"), echo("HEAD", "HEAD /1", ""))
			c.send(get("/2"))
			c.wants(c.answer("GET"), echo("GET", "GET /2", ""))
		},
		serve: echoes, most: 2,
	},
	{
		name: "no requests after Connection: close",
		client: func(c *peer) {
			c.send(get("/1", "Connection: close"))
			c.wants(c.answer("GET"), echo("GET", "GET /1", ""))
			c.gone()
		},
		serve: func(s *peer) {
			m, _ := s.request()
			s.send(echo(m.method, m.start, m.body))
		},
		most: 1,
	},
	{
		name: "HTTP/1.0 with keep-alive",
		client: func(c *peer) {
			for _, target := range []string{"/1", "/2"} {
				c.send(bare("GET "+target+" HTTP/1.0", "Host: shop", "Connection: keep-alive"))
				c.wants(c.answer("GET"), echo("GET", "GET "+target, ""))
			}
		},
		serve: echoes, most: 2,
	},
	{
		name: "the service does not read an upload and answers",
		client: func(c *peer) {
			c.send(order("/1", smuggled))
			c.wants(c.answer("POST"), answered("403 Forbidden", "Content-Length: 0", "", ""))
			c = c.another()
			c.send(get("/2"))
			c.wants(c.answer("GET"), echo("GET", "GET /2", ""))
		},
		serve: func(s *peer) {
			if m := s.requestHead(); m.method == "POST" {
				s.send(answered("403 Forbidden", "Content-Length: 0", "Connection: close", "", ""))
			} else {
				s.send(echo(m.method, m.start, ""))
			}
		},
		most: 2,
	},
	{
		name: "the service closes an idle connection, then comes a POST",
		client: func(c *peer) {
			c.send(order("/1", "one"))
			c.wants(c.answer("POST"), ok("Content-Length: 0", "", ""))
			c.cue("answered")
			if c.leg.through {
				c.await("closed")
			} else { // without a sidecar the client itself has to notice
				old := c
				c = c.another()
				old.close()
			}
			c.send(order("/2", "two"))
			c.wants(c.answer("POST"), ok("Content-Length: 0", "", ""))
		},
		serve: func(s *peer) {
			s.request()
			s.send(ok("Content-Length: 0", "", ""))
			s.await("answered")
			s.closeWrite()
			s.gone() // the sidecar has noticed
			s.cue("closed")
		},
		most: 2,
	},
}

// TestAServiceThatBreaksOffIsAnError covers a service that is not there or ends its connections by force. Here no
// answer of the service exists, so the sidecar has to say so.
func TestAServiceThatBreaksOffIsAnError(t *testing.T) {
	t.Parallel()
	requests := map[string]string{
		"GET": get("/"), "HEAD": head, "POST": post("Content-Length: 5", "", "hello"), "POST in chunks": chunked("5", "hello", "0", "", ""),
		"upgrade": get("/", "Connection: Upgrade", "Upgrade: websocket"),
	}
	for name, serve := range map[string]func(*peer){
		"resets at once":           func(s *peer) { s.reset() },
		"closes at once":           func(s *peer) { s.close() },
		"resets after the request": func(s *peer) { s.request(); s.reset() },
		"closes after the request": func(s *peer) { s.request(); s.close() },
		"resets in the head":       func(s *peer) { s.request(); s.send("HTTP/1.1 200 OK\r\nX-A: 1\r\n"); s.reset() },
		"resets in the body": func(s *peer) {
			s.request()
			s.send(ok("Content-Length: 10", "", "half"))
			s.await("half") // a reset may overtake the bytes before it
			s.reset()
		},
	} {
		for request, send := range requests {
			if name == "resets in the body" && request == "HEAD" {
				continue
			}
			t.Run(name+"/"+request, func(t *testing.T) {
				t.Parallel()
				w := borrow(t, overTCP)
				l := w.begin(true, serve)
				l.asClient(func(c *peer) {
					c.send(send)
					if name == "resets in the body" {
						c.answerHead("", 200)
						c.expect("half")
						c.cue("half")
						if n, err := c.body.Read(make([]byte, 1)); n > 0 || err == nil || broken(err) == timedOut || err.Error() == "EOF" {
							c.fail("the answer goes on or seems whole")
						}
						return
					}
					method, _, _ := strings.Cut(send, " ")
					c.wantsError(c.answer(method), 502, 503, 504, cutOff)
				})
				clean := w.end(l)
				for _, err := range l.errs {
					t.Error(err)
				}
				if strings.HasPrefix(request, "POST") && l.number() > 1 {
					t.Errorf("the service got the POST more than once: %v", l.seen)
				}
				w.giveBack(clean && !t.Failed())
			})
		}
	}
	t.Run("not there", func(t *testing.T) {
		t.Parallel()
		sidecar, process := startSidecar(t, "http://"+servers.Unused(t), 1000)
		defer process.Kill()
		for request, send := range requests {
			l := &leg{network: "tcp", address: sidecar, ends: time.Now().Add(patience)}
			l.asClient(func(c *peer) {
				c.send(send)
				method, _, _ := strings.Cut(send, " ")
				c.wantsError(c.answer(method), 502, 503, 504, cutOff)
			})
			for _, err := range l.errs {
				t.Errorf("%s: %v", request, err)
			}
		}
	})
}

// TestAPOSTIsNotSentTwice: the service closes a connection that it has kept alive, with a POST on it and no answer. The
// service may have acted, so the client has to know.
func TestAPOSTIsNotSentTwice(t *testing.T) {
	t.Parallel()
	w := borrow(t, overTCP)
	l := w.begin(true, func(s *peer) {
		s.request()
		s.send(ok("Content-Length: 0", "", ""))
		s.request()
		s.close()
	})
	l.asClient(func(c *peer) {
		c.send(order("/1", "one"))
		c.wants(c.answer("POST"), ok("Content-Length: 0", "", ""))
		c.send(order("/2", "two"))
		c.wantsError(c.answer("POST"), 502, cutOff)
	})
	clean := w.end(l)
	for _, err := range l.errs {
		t.Error(err)
	}
	if l.number() != 2 {
		t.Errorf("the service saw %v", l.seen)
	}
	w.giveBack(clean && !t.Failed())
}

// TestUpgradedConnectionsPassBytes covers WebSocket and other protocols, accepted and refused.
func TestUpgradedConnectionsPassBytes(t *testing.T) { playScenes(t, overTCP, upgrades) }

var (
	upgrade = get("/chat", "Connection: keep-alive, Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", "Sec-WebSocket-Protocol: chat, superchat", "Sec-WebSocket-Extensions: permessage-deflate; x")
	switched = bare("HTTP/1.1 101 Switching Protocols", "Connection: Upgrade", "Upgrade: websocket",
		"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=", "Sec-WebSocket-Protocol: chat", "Set-Cookie: a=1", "Set-Cookie: b=2")
)

// accepts reads the request for an upgrade, which has to come as it was sent, and answers.
func (p *peer) accepts(request, answer string) {
	m := p.requestHead()
	want := parse(request, false)[0]
	if lines := differ(want, m, added...); len(lines) > 0 {
		p.fail("the service saw %v: %v", m, lines)
	}
	p.send(answer)
}

// asks sends the request for an upgrade and reads the answer.
func (p *peer) asks(request, answer string) {
	p.send(request)
	m, err := readHead(p.r, true)
	if err != nil {
		p.fail("the answer to an upgrade: %v", err)
	}
	p.wants(m, answer)
}

// refusedUpgrade is a scene in which the service answers an upgrade as if it were an ordinary request.
func refusedUpgrade(name, answer string) scene {
	return scene{
		name: name,
		client: func(c *peer) {
			c.send(upgrade)
			c.wants(c.answer("GET"), answer)
			c.send(get("/next"))
			c.wants(c.answer("GET"), plainAnswer)
		},
		serve: func(s *peer) {
			for {
				m, got := s.request()
				switch {
				case !got:
					return
				case m.start == "GET /next":
					s.send(plainAnswer)
				default:
					s.send(answer)
				}
			}
		},
		most: 2,
	}
}

var upgrades = []scene{
	{
		name: "echo",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			for _, frame := range []string{"\x81\x05hello", "\x82\x03\x00\xff\r", "\x88\x00"} {
				c.send(frame)
				c.raw(frame)
			}
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			for _, frame := range []string{"\x81\x05hello", "\x82\x03\x00\xff\r", "\x88\x00"} {
				s.raw(frame)
				s.send(frame)
			}
		},
	},
	{
		name:   "bytes of the service in the packet of its answer",
		client: func(c *peer) { c.asks(upgrade, switched); c.raw("\x81\x05hello") },
		serve:  func(s *peer) { s.accepts(upgrade, switched+"\x81\x05hello") },
	},
	{
		name: "bytes of the client in the packet of its request",
		client: func(c *peer) {
			c.asks(upgrade+"\x81\x05hello", switched)
			c.raw("got it")
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			s.raw("\x81\x05hello")
			s.send("got it")
		},
	},
	{
		name: "another protocol",
		client: func(c *peer) {
			c.asks(tunnel, tunneled)
			c.send("ping")
			c.raw("pong")
		},
		serve: func(s *peer) {
			s.accepts(tunnel, tunneled)
			s.raw("ping")
			s.send("pong")
		},
	},
	{
		name:   "the service ends it",
		client: func(c *peer) { c.asks(upgrade, switched); c.raw("bye"); c.gone() },
		serve:  func(s *peer) { s.accepts(upgrade, switched); s.send("bye"); s.close() },
	},
	{
		name:   "the client ends it",
		client: func(c *peer) { c.asks(upgrade, switched); c.send("bye"); c.close(); c.await("noticed") },
		serve:  func(s *peer) { s.accepts(upgrade, switched); s.raw("bye"); s.gone(); s.cue("noticed") },
	},
	{
		name: "the client has sent all and reads on",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			c.send("all")
			c.closeWrite()
			c.cue("closed")
			c.raw("answer to all")
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			s.raw("all")
			s.await("closed")
			s.send("answer to all")
		},
	},
	{
		name: "the service has sent all and reads on",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			c.raw("all")
			c.await("closed")
			c.send("answer to all")
			c.await("heard")
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			s.send("all")
			s.closeWrite()
			s.cue("closed")
			s.raw("answer to all")
			s.cue("heard")
		},
	},
	{
		name: "1 MB both ways at once",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			c.sendAside(strings.Repeat("client→service\n", 64<<10))
			c.raw(strings.Repeat("service→client\n", 64<<10))
			c.await("received")
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			s.sendAside(strings.Repeat("service→client\n", 64<<10))
			s.raw(strings.Repeat("client→service\n", 64<<10))
			s.cue("received")
		},
	},
	{
		name: "the service has heard enough",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			c.sendAside(strings.Repeat("client→service\n", 64<<10))
			c.raw("bye")
			c.gone()
		},
		serve: func(s *peer) { s.accepts(upgrade, switched); s.raw("client"); s.send("bye"); s.close() },
	},
	{
		name: "the client has heard enough",
		client: func(c *peer) {
			c.asks(upgrade, switched)
			c.raw("service")
			c.send("bye")
			c.close()
			c.await("noticed")
		},
		serve: func(s *peer) {
			s.accepts(upgrade, switched)
			s.sendAside(strings.Repeat("service→client\n", 64<<10))
			s.raw("bye")
			s.gone()
			s.cue("noticed")
		},
	},
	refusedUpgrade("refused with 403", answered("403 Forbidden", "Content-Type: text/plain", "Content-Length: 2", "", "no")),
	refusedUpgrade("refused with 426", answered("426 Upgrade Required", "Sec-WebSocket-Version: 13, 8", "Content-Length: 0", "", "")),
	refusedUpgrade("answered as if it were none", plainAnswer),
	{
		name: "in HTTP/1.0 there is none",
		client: func(c *peer) {
			c.send(bare("GET / HTTP/1.0", "Host: shop", "Connection: Upgrade", "Upgrade: websocket"))
			c.wants(c.answer("GET"), plainAnswer)
		},
		serve: func(s *peer) { s.requestHead(); s.send(plainAnswer) },
	},
	{
		name: "after another request on the same connection",
		client: func(c *peer) {
			c.send(get("/1"))
			c.wants(c.answer("GET"), plainAnswer)
			c.asks(upgrade, switched)
			c.raw("hello")
		},
		serve: func(s *peer) {
			for {
				m, got := s.request()
				if !got {
					return
				}
				if m.start == "GET /chat" {
					s.send(switched + "hello")
					return
				}
				s.send(plainAnswer)
			}
		},
	},
}

var (
	tunnel   = get("/", "Connection: Upgrade", "Upgrade: Shop-Tunnel/2")
	tunneled = bare("HTTP/1.1 101 X", "Connection: Upgrade", "Upgrade: Shop-Tunnel/2")
)
