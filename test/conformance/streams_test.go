package conformance

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// aMoment is how long the sidecar has for a mistake that it makes at once. It bounds no wait for what should happen.
const aMoment = 50 * time.Millisecond

// TestBytesPassAtOnce covers streams in both directions: each side sees what the other has sent before that one goes on.
func TestBytesPassAtOnce(t *testing.T) { playScenes(t, overTCP, streams) }

// download is a scene in which the service sends its body in two parts, the second when the client has the first.
func download(name, headAndFirst, first, rest, second string) scene {
	return scene{
		name: name,
		client: func(c *peer) {
			c.send(get("/events"))
			c.answerHead("GET", 200)
			c.expect(first)
			c.cue("first")
			c.expect(second)
			c.expectEnd()
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(headAndFirst)
			s.await("first")
			s.send(rest)
		},
	}
}

// upload is a scene in which the client sends its body in two parts, the second when the service has the first.
func upload(name, headAndFirst, first, rest, second string) scene {
	return scene{
		name: name,
		client: func(c *peer) {
			c.send(headAndFirst)
			c.await("first")
			c.send(rest)
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.expect(first)
			s.cue("first")
			s.expect(second)
			s.expectEnd()
			s.send(plainAnswer)
		},
	}
}

var streams = []scene{
	download("server-sent events", answered("200 OK", "Content-Type: text/event-stream", "Transfer-Encoding: chunked", "", "9", "data: 1\n\n", ""),
		"data: 1\n\n", "9\r\ndata: 2\n\n\r\n0\r\n\r\n", "data: 2\n\n"),
	download("chunks of JSON", answered("200 OK", "Content-Type: application/json", "Transfer-Encoding: chunked", "", "1", "[", ""), "[", "1\r\n]\r\n0\r\n\r\n", "]"),
	download("chunks without a type", answered("200 OK", "Transfer-Encoding: chunked", "", "1", "[", ""), "[", "1\r\n]\r\n0\r\n\r\n", "]"),
	download("a body of known length", ok("Content-Length: 4", "", "ab"), "ab", "cd", "cd"),
	download("a body up to the end of the connection", ok("Connection: close", "", "ab"), "ab", "cd", "cd"),
	download("the head before the body", ok("Content-Length: 4", "", ""), "", "abcd", "abcd"),
	download("the head before the first chunk", ok("Transfer-Encoding: chunked", "", ""), "", "2\r\nab\r\n0\r\n\r\n", "ab"),
	download("an event of 100 kB", ok("Transfer-Encoding: chunked", "", "186a0", strings.Repeat("x", 100_000), ""),
		strings.Repeat("x", 100_000), "1\r\n.\r\n0\r\n\r\n", "."),

	upload("an upload in chunks", post("Transfer-Encoding: chunked", "", "5", "first", ""), "first", "6\r\nsecond\r\n0\r\n\r\n", "second"),
	upload("an upload of known length", post("Content-Length: 11", "", "first"), "first", "second", "second"),
	upload("the head of an upload before its body", post("Content-Length: 6", "", ""), "", "second", "second"),
	upload("the head of an upload before its first chunk", post("Transfer-Encoding: chunked", "", ""), "", "6\r\nsecond\r\n0\r\n\r\n", "second"),
	{
		name: "an answer that begins before the upload ends",
		client: func(c *peer) {
			c.send(post("Transfer-Encoding: chunked", "", "5", "first", ""))
			c.answerHead("POST", 200)
			c.expect("first")
			c.send("6\r\nsecond\r\n0\r\n\r\n")
			c.expect("second")
			c.expectEnd()
		},
		serve: func(s *peer) {
			s.requestHead()
			s.expect("first")
			s.send(ok("Transfer-Encoding: chunked", "", "5", "first", ""))
			s.expect("second")
			s.send("6\r\nsecond\r\n0\r\n\r\n")
			s.expectEnd()
		},
	},
	{
		name: "an answer that ends before the upload",
		client: func(c *peer) {
			c.send(post("Content-Length: 1000000", "", "first"))
			c.wants(c.answer("POST"), answered("413 Too Large", "Content-Length: 2", "Content-Type: text/plain", "", "no"))
		},
		serve: func(s *peer) {
			s.requestHead()
			s.expect("first")
			s.send(answered("413 Too Large", "Content-Length: 2", "Content-Type: text/plain", "Connection: close", "", "no"))
		},
	},
	{
		name: "an answer that ends before the upload has begun",
		client: func(c *peer) {
			c.send(post("Transfer-Encoding: chunked", "", ""))
			c.wants(c.answer("POST"), answered("401 Unauthorized", "WWW-Authenticate: Basic", "Content-Length: 0", "", ""))
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(answered("401 Unauthorized", "WWW-Authenticate: Basic", "Content-Length: 0", "Connection: close", "", ""))
		},
	},
	{
		name: "a client that leaves before the answer",
		client: func(c *peer) {
			c.send(get("/slow"))
			c.await("asked")
			c.reset()
			c.await("noticed")
		},
		serve: func(s *peer) {
			s.requestHead()
			s.cue("asked")
			s.goneSoon()
			s.cue("noticed")
		},
	},
	{
		name: "a client that leaves in the answer",
		client: func(c *peer) {
			c.send(get("/events"))
			c.answerHead("GET", 200)
			c.expect("first")
			c.reset()
			c.await("noticed")
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(ok("Transfer-Encoding: chunked", "", "5", "first", ""))
			s.goneSoon()
			s.cue("noticed")
		},
	},
	{
		name: "a client that leaves in the upload",
		client: func(c *peer) {
			c.send(post("Transfer-Encoding: chunked", "", "5", "first", ""))
			c.await("first")
			c.reset()
			c.await("noticed")
		},
		serve: func(s *peer) {
			s.requestHead()
			s.expect("first")
			s.cue("first")
			if n, err := s.body.Read(make([]byte, 1)); n > 0 || err == nil || err.Error() == "EOF" {
				s.fail("the upload seems whole")
			}
			s.cue("noticed")
		},
	},
}

// TestExpectContinueIsTheServicesAnswer covers Expect: 100-continue. The service decides.
func TestExpectContinueIsTheServicesAnswer(t *testing.T) { playScenes(t, overTCP, expecting) }

const goOn = "HTTP/1.1 100 Continue\r\n\r\n"

// interim reads an answer with 1xx, which must have this status.
func (p *peer) interim(status int) {
	m, err := readHead(p.r, true)
	if err != nil || m.status() != status {
		p.fail("answered %v, %v; want %d", m, err, status)
	}
}

// asked is the head of a POST of five bytes that waits for 100.
var asked = post("Expect: 100-continue", "Content-Length: 5", "", "")

// final is a scene in which the service answers without having asked for the body.
func final(name, answer string) scene {
	return scene{
		name:   name,
		client: func(c *peer) { c.send(asked); c.wants(c.answer("POST"), answer) },
		serve: func(s *peer) {
			if m := s.requestHead(); !m.lists("expect", "100-continue") {
				s.fail("the service does not see what the client expects: %v", m)
			}
			s.send(answer)
		},
		most: 1,
	}
}

var expecting = []scene{
	{
		name: "the service asks for the body",
		client: func(c *peer) {
			c.send(asked)
			c.interim(100)
			c.send("hello")
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(goOn)
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the service asks for chunks",
		client: func(c *peer) {
			c.send(post("Expect: 100-continue", "Transfer-Encoding: chunked", "", ""))
			c.interim(100)
			c.send("5\r\nhello\r\n0\r\n\r\n")
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(goOn)
			s.expect("hello")
			s.expectEnd()
			s.send(plainAnswer)
		},
	},
	final("the service refuses with 417", answered("417 Expectation Failed", "Content-Length: 0", "Connection: close", "", "")),
	final("the service refuses with 413", answered("413 Too Large", "Content-Type: text/plain", "Content-Length: 2", "Connection: close", "", "no")),
	final("the service redirects", answered("307 Temporary Redirect", "Location: /b", "Content-Length: 0", "Connection: close", "", "")),
	final("the service needs no body", ok("Content-Length: 2", "Connection: close", "", "ok")),
	{
		name: "the service says nothing, the client goes on",
		client: func(c *peer) {
			c.send(asked)
			c.await("asked")
			c.quiet(aMoment)
			c.send("hello")
			got := c.answer("POST")
			got.interim = nil // after a while, a proxy may ask for the body itself
			c.wants(got, plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.cue("asked")
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the service takes its time, then asks for the body",
		client: func(c *peer) {
			c.send(asked)
			c.await("asked")
			c.quiet(aMoment)
			c.cue("quiet")
			c.interim(100)
			c.send("hello")
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.cue("asked")
			s.await("quiet")
			s.send(goOn)
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the service hints, then asks for the body",
		client: func(c *peer) {
			c.send(asked)
			c.interim(103)
			c.interim(100)
			c.send("hello")
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + goOn)
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the service asks for the body, then refuses it",
		client: func(c *peer) {
			c.send(asked)
			c.interim(100)
			c.send("he")
			c.wants(c.answer("POST"), answered("415 No", "Content-Length: 0", "", ""))
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(goOn)
			s.expect("he")
			s.send(answered("415 No", "Content-Length: 0", "Connection: close", "", ""))
		},
	},
	{
		name: "the client does not wait",
		client: func(c *peer) {
			c.send(asked + "hello")
			m := c.answer("POST")
			m.interim = nil // the service need not ask for what it has
			c.wants(m, plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(goOn)
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the client speaks HTTP/1.0, which has no 100",
		client: func(c *peer) {
			c.send("POST / HTTP/1.0\r\nHost: shop\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello")
			c.wants(c.answer("POST"), plainAnswer)
		},
		serve: func(s *peer) {
			s.requestHead()
			s.expect("hello")
			s.send(plainAnswer)
		},
	},
	{
		name: "the client leaves instead of sending its body",
		client: func(c *peer) {
			c.send(asked)
			c.interim(100)
			c.reset()
			c.await("noticed")
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(goOn)
			if n, err := s.body.Read(make([]byte, 1)); n > 0 || err == nil {
				s.fail("a body comes from nowhere")
			}
			s.cue("noticed")
		},
		most: 1,
	},
}

// TestAClientThatHasSentAllStillGetsItsAnswer covers clients that close their sending side and read.
func TestAClientThatHasSentAllStillGetsItsAnswer(t *testing.T) { playScenes(t, overTCP, halfClosed()) }

func halfClosed() []scene {
	scenes := []scene{{
		name: "FIN in the middle of the answer",
		client: func(c *peer) {
			c.send(get("/events"))
			c.answerHead("GET", 200)
			c.expect("first")
			c.closeWrite()
			c.cue("closed")
			c.expect("second")
			c.expectEnd()
		},
		serve: func(s *peer) {
			s.requestHead()
			s.send(ok("Transfer-Encoding: chunked", "", "5", "first", ""))
			s.await("closed")
			s.send("6\r\nsecond\r\n0\r\n\r\n")
		},
	}, {
		name: "two requests, then FIN",
		client: func(c *peer) {
			c.send(get("/1") + get("/2"))
			c.closeWrite()
			c.cue("/1")
			c.wants(c.answer("GET"), ok("X-For: GET /1", "Content-Length: 0", "", ""))
			c.cue("/2")
			c.wants(c.answer("GET"), ok("X-For: GET /2", "Content-Length: 0", "", ""))
		},
		serve: func(s *peer) {
			for {
				m, got := s.request()
				if !got {
					return
				}
				s.await(strings.TrimPrefix(m.start, "GET "))
				s.send(ok("X-For: "+m.start, "Content-Length: 0", "", ""))
			}
		},
		most: 2,
	}}
	for name, request := range map[string]string{
		"GET": get("/"), "POST": post("Content-Length: 5", "", "hello"), "POST in chunks": chunked("5", "hello", "0", "", ""),
		"HTTP/1.0": "POST / HTTP/1.0\r\nHost: shop\r\nContent-Length: 5\r\n\r\nhello",
	} {
		for answerName, answer := range map[string]string{
			"204": answered("204 No Content", "X-A: 1", "", ""), "500": answered("500 Oops", "Content-Type: text/plain", "Content-Length: 4", "", "oops"),
			"1 MB": ok("Content-Length: 1048576", "", strings.Repeat("0123456789abcdef", 64<<10)),
		} {
			scenes = append(scenes, scene{
				name: fmt.Sprintf("%s, then FIN, then %s", name, answerName),
				client: func(c *peer) {
					c.send(request)
					c.closeWrite()
					c.await("asked")
					c.quiet(aMoment)
					c.cue("quiet")
					c.wants(c.answer("GET"), answer)
				},
				serve: func(s *peer) {
					if m, got := s.request(); !got || m.broken != "" {
						s.fail("the service saw %v", m)
					}
					s.cue("asked")
					s.await("quiet")
					s.send(answer)
				},
				most: 1,
			})
		}
	}
	return scenes
}
