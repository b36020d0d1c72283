package conformance

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// stream is what a client of HTTP/2 gets on one stream, in the order of the frames.
type stream struct {
	headers   [][]hpack.HeaderField // of HEADERS frames: with 1xx, the answer, the trailers
	data      string
	ended     bool // by END_STREAM
	endedWith string
	reset     bool
	code      http2.ErrCode
}

// frames is a client of HTTP/2 without TLS that knows what the server speaks.
type frames struct {
	*peer
	framer  *http2.Framer
	encoder *hpack.Encoder
	block   bytes.Buffer
	next    uint32
	streams map[uint32]*stream
	handler string // of the service, for the requests of this client
}

// http2 starts HTTP/2 on a connection.
func (p *peer) http2() *frames {
	p.send(http2.ClientPreface)
	f := &frames{peer: p, framer: http2.NewFramer(p.conn, p.r), next: 1, streams: map[uint32]*stream{}}
	f.framer.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	f.encoder = hpack.NewEncoder(&f.block)
	_ = f.framer.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24})
	_ = f.framer.WriteWindowUpdate(0, 1<<24)
	return f
}

// headers sends name and value pairs as a block of headers or trailers, and returns the number of the stream; 0: a new one.
func (f *frames) headers(id uint32, end bool, pairs ...string) uint32 {
	if id == 0 {
		id = f.next
		f.next += 2
		f.streams[id] = &stream{}
	}
	f.block.Reset()
	for i := 0; i < len(pairs); i += 2 {
		_ = f.encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]})
	}
	_ = f.framer.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block.Bytes(), EndStream: end, EndHeaders: true})
	return id
}

// request starts a stream; end: without a body.
func (f *frames) request(end bool, method, path string, pairs ...string) uint32 {
	return f.headers(0, end, append([]string{":method", method, ":scheme", "http", ":authority", "shop", ":path", path}, pairs...)...)
}

func (f *frames) data(id uint32, end bool, content string) {
	_ = f.framer.WriteData(id, end, []byte(content))
}

// until reads frames until the condition holds for a stream, or the stream or the connection ends.
func (f *frames) until(id uint32, what string, condition func(*stream) bool) *stream {
	s := f.streams[id]
	for !condition(s) && !s.ended && !s.reset {
		frame, err := f.framer.ReadFrame()
		if err != nil {
			if isTimeout(err) {
				f.fail("waited in vain for %s; got %v", what, s)
			}
			s.reset = true
			return s
		}
		f.take(frame)
	}
	return s
}

func isTimeout(err error) bool {
	netErr, ok := errors.AsType[net.Error](err)
	return ok && netErr.Timeout()
}

func (f *frames) take(frame http2.Frame) {
	s := f.streams[frame.Header().StreamID]
	switch frame := frame.(type) {
	case *http2.SettingsFrame:
		if !frame.IsAck() {
			_ = f.framer.WriteSettingsAck()
		}
	case *http2.PingFrame:
		if !frame.IsAck() {
			_ = f.framer.WritePing(true, frame.Data)
		}
	case *http2.MetaHeadersFrame:
		s.headers = append(s.headers, slices.Clone(frame.Fields))
		if s.ended = frame.StreamEnded(); s.ended {
			s.endedWith = "HEADERS"
		}
	case *http2.DataFrame:
		s.data += string(frame.Data())
		if s.ended = frame.StreamEnded(); s.ended {
			s.endedWith = "DATA"
		}
	case *http2.RSTStreamFrame:
		s.reset, s.code = true, frame.ErrCode
	}
}

// answer reads a stream to its end.
func (f *frames) answer(id uint32) *stream {
	return f.until(id, "the end of the answer", func(*stream) bool { return false })
}

// message is the stream in the form in which answers are compared.
func (s *stream) message() message {
	m := message{body: s.data}
	if !s.ended {
		m.broken = fmt.Sprintf("(stream reset: %v)", s.code)
	}
	for i, block := range s.headers {
		var fields []field
		status := ""
		for _, f := range block {
			if f.Name == ":status" {
				status = f.Value
			} else {
				fields = append(fields, field{f.Name, f.Value})
			}
		}
		switch {
		case strings.HasPrefix(status, "1"):
			m.interim = append(m.interim, message{start: status, fields: fields})
		case status != "":
			m.start, m.fields = status, fields
			if s.endedWith == "HEADERS" && i == len(s.headers)-1 {
				m.fields = append(m.fields, field{"ends", "with its header"})
			}
		default:
			m.trailers = fields
		}
	}
	return m
}

// goService is a server of net/http that speaks HTTP/1 and HTTP/2, without TLS. The field Case names the handler that
// answers; in HTTP/1 without it, mirror does.
type goService struct {
	address  string
	handlers sync.Map
}

func startGoService(t testing.TB) *goService {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &goService{address: listener.Addr().String()}
	server := &http.Server{
		Protocols: new(http.Protocols), ReadHeaderTimeout: patience, DisableGeneralOptionsHandler: true,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if h, ok := s.handlers.Load(r.Header.Get("Case")); ok {
				h.(http.HandlerFunc)(w, r)
				return
			}
			mirror(w, r)
		}),
		MaxHeaderBytes: 4 << 20,
	}
	server.Protocols.SetHTTP1(true)
	server.Protocols.SetUnencryptedHTTP2(true)
	go server.Serve(listener)
	t.Cleanup(func() { server.Close() })
	return s
}

// mirror answers with what it sees.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	w.Header().Set("Content-Type", "text/plain")
	if err != nil {
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	m := message{start: r.Method + " " + r.RequestURI, body: string(body), fields: []field{{"host", r.Host}}}
	for name, values := range r.Header {
		for _, value := range values {
			if name := strings.ToLower(name); !slices.Contains(added, name) && name != "content-length" {
				m.fields = append(m.fields, field{name, value})
			}
		}
	}
	for name, values := range r.Trailer {
		for _, value := range values {
			m.trailers = append(m.trailers, field{strings.ToLower(name), value})
		}
	}
	slices.SortStableFunc(m.trailers, func(a, b field) int { return strings.Compare(a.name, b.name) })
	_, _ = io.WriteString(w, strings.Join(m.lines(), "\n"))
}

// call is a case over HTTP/2.
type call struct {
	name   string
	client func(*frames) // asks; what it gets is compared by its own expectations
	serve  http.HandlerFunc
}

// rpc starts a request of gRPC.
func (f *frames) rpc() uint32 {
	return f.request(false, "POST", "/shop.Orders/Place", "content-type", "application/grpc+proto", "te", "trailers", "case", f.handler,
		"grpc-timeout", "5S", "x-bin-bin", "AAECAw")
}

// frame is a message of gRPC.
func frame(content string) string {
	return string([]byte{0, 0, 0, 0, byte(len(content))}) + content
}

// wants fails the role if the answer is not the one that is wanted, to a request with this method.
func (f *frames) wants(s *stream, method, want string) {
	for _, m := range parse(want, true, method) {
		if lines := differ(m, s.message(), "date", "ends"); len(lines) > 0 {
			f.fail("the client got %v: %v", s.message(), lines)
		}
	}
}

// grpcAnswer is what a service of gRPC sends.
func grpcAnswer(w http.ResponseWriter, messages ...string) {
	w.Header().Set("Content-Type", "application/grpc+proto")
	w.Header().Set("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
	w.Header().Set("Trailer", "Grpc-Status, Grpc-Message")
	w.WriteHeader(http.StatusOK)
	for _, m := range messages {
		_, _ = io.WriteString(w, frame(m))
		w.(http.Flusher).Flush()
	}
}

const grpcHead = "HTTP/1.1 200 OK\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: application/grpc+proto\r\n"

// inChunks writes an answer of gRPC as HTTP/1.1 would, to compare with.
func inChunks(body string, trailers ...string) string {
	return grpcHead + "Transfer-Encoding: chunked\r\n\r\n" + strconv.FormatInt(int64(len(body)), 16) + "\r\n" + body + "\r\n0\r\n" +
		text(append(trailers, "", "")...)
}

var calls = []call{
	{
		name: "gRPC, unary",
		client: func(f *frames) {
			id := f.rpc()
			f.data(id, true, frame("hello"))
			f.wants(f.answer(id), "GET", inChunks(frame("hello back"), "Grpc-Message: ", "Grpc-Status: 0"))
		},
		serve: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			if string(body) != frame("hello") || r.Header.Get("TE") != "trailers" || r.Header.Get("X-Bin-Bin") != "AAECAw" ||
				r.Header.Get("Grpc-Timeout") != "5S" || r.ProtoMajor != 2 {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			grpcAnswer(w, "hello back")
			w.Header().Set("Grpc-Status", "0")
			w.Header().Set("Grpc-Message", "")
		},
	},
	{
		name: "gRPC, an error after messages",
		client: func(f *frames) {
			id := f.rpc()
			f.data(id, true, frame("hello"))
			f.wants(f.answer(id), "GET", inChunks(frame("1")+frame("2"), "Grpc-Message: out of %C3%A9", "Grpc-Status: 13"))
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			grpcAnswer(w, "1", "2")
			w.Header().Set("Grpc-Status", "13")
			w.Header().Set("Grpc-Message", "out of %C3%A9")
		},
	},
	{
		name: "gRPC, trailers only",
		client: func(f *frames) {
			id := f.rpc()
			f.data(id, true, frame("hello"))
			s := f.answer(id)
			f.wants(s, "GET", grpcHead+"Grpc-Message: no such order\r\nGrpc-Status: 5\r\nContent-Length: 0\r\n\r\n")
			if s.endedWith != "HEADERS" || len(s.headers) != 1 {
				f.fail("a trailers-only answer came as %v", s.message())
			}
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc+proto")
			w.Header().Set("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
			w.Header().Set("Content-Length", "0")
			w.Header().Set("Grpc-Status", "5")
			w.Header().Set("Grpc-Message", "no such order")
		},
	},
	{
		name: "gRPC, both sides stream",
		client: func(f *frames) {
			id := f.rpc()
			want := ""
			for i := range 5 {
				m := frame(fmt.Sprint("message ", i))
				f.data(id, false, m)
				want += m
				f.until(id, "the echo of a message", func(s *stream) bool { return s.data == want })
			}
			f.data(id, true, "")
			f.wants(f.answer(id), "GET", inChunks(want, "Grpc-Status: 0"))
		},
		serve: func(w http.ResponseWriter, r *http.Request) {
			grpcAnswer(w)
			w.(http.Flusher).Flush()
			b := make([]byte, 1024)
			for {
				n, err := r.Body.Read(b)
				_, _ = w.Write(b[:n])
				w.(http.Flusher).Flush()
				if err != nil {
					break
				}
			}
			w.Header().Set("Grpc-Status", "0")
		},
	},
	{
		name: "gRPC, the service resets the stream",
		client: func(f *frames) {
			id := f.rpc()
			f.data(id, true, frame("hello"))
			s := f.answer(id)
			if s.ended && !slices.ContainsFunc(s.headers, func(block []hpack.HeaderField) bool {
				return slices.ContainsFunc(block, func(h hpack.HeaderField) bool { return h.Name == "grpc-status" && h.Value != "0" })
			}) {
				f.fail("a stream that was reset ends as if it were whole: %v", s.message())
			}
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			grpcAnswer(w, "half")
			panic(http.ErrAbortHandler)
		},
	},
	{
		name: "gRPC, the answer comes before the request ends",
		client: func(f *frames) {
			id := f.rpc()
			f.data(id, false, frame("hello"))
			f.wants(f.answer(id), "GET", grpcHead+"Content-Length: 0\r\nGrpc-Status: 7\r\n\r\n")
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/grpc+proto")
			w.Header().Set("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
			w.Header().Set("Content-Length", "0")
			w.Header().Set("Grpc-Status", "7")
		},
	},
	{
		name: "gRPC, the client cancels",
		client: func(f *frames) {
			id := f.rpc()
			f.until(id, "the first message", func(s *stream) bool { return s.data == frame("first") })
			_ = f.framer.WriteRSTStream(id, http2.ErrCodeCancel)
			f.await("canceled")
		},
		serve: nil, // set where the cue is known
	},
	{
		name: "GET",
		client: func(f *frames) {
			id := f.request(true, "GET", "/a|b?x=1;y", "case", f.handler, "x-a", "1", "x-a", "2", "cookie", "a=1")
			f.wants(f.answer(id), "GET", ok("X-Saw: GET /a|b?x=1;y [1 2] a=1 shop", "Content-Length: 2", "", "ok"))
		},
		serve: func(w http.ResponseWriter, r *http.Request) {
			plain(w)
			w.Header().Set("X-Saw", fmt.Sprint(r.Method, " ", r.RequestURI, " ", r.Header["X-A"], " ", r.Header.Get("Cookie"), " ", r.Host))
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
		},
	},
	{
		name: "HEAD",
		client: func(f *frames) {
			id := f.request(true, "HEAD", "/", "case", f.handler)
			f.wants(f.answer(id), "HEAD", bare("HTTP/1.1 200 OK", "Date: Sun, 06 Nov 1994 08:49:37 GMT", "Content-Type: text/plain", "Content-Length: 500"))
		},
		serve: func(w http.ResponseWriter, _ *http.Request) { plain(w); w.Header().Set("Content-Length", "500") },
	},
	{
		name: "POST with trailers both ways",
		client: func(f *frames) {
			id := f.request(false, "POST", "/", "case", f.handler, "trailer", "x-sum")
			f.data(id, false, "hello")
			f.headers(id, true, "x-sum", "7")
			f.wants(f.answer(id), "GET", ok("Transfer-Encoding: chunked", "", "7", "hello 7", "0", "X-Sum: 8", "", ""))
		},
		serve: func(w http.ResponseWriter, r *http.Request) {
			body, _ := io.ReadAll(r.Body)
			plain(w)
			w.Header().Set("Trailer", "X-Sum")
			w.(http.Flusher).Flush()
			fmt.Fprintf(w, "%s %s", body, r.Trailer.Get("X-Sum"))
			w.Header().Set("X-Sum", "8")
		},
	},
	{
		name: "a cut body",
		client: func(f *frames) {
			id := f.request(true, "GET", "/", "case", f.handler)
			s := f.answer(id)
			if s.ended {
				f.fail("a cut body ends as if it were whole: %v", s.message())
			}
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			plain(w)
			_, _ = io.WriteString(w, "half")
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		},
	},
	{
		name: "hints before the answer",
		client: func(f *frames) {
			id := f.request(true, "GET", "/", "case", f.handler)
			f.wants(f.answer(id), "GET", bare("HTTP/1.1 103 Early Hints", "Link: </a>")+ok("Link: </a>", "Content-Length: 2", "", "ok"))
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Link", "</a>")
			w.WriteHeader(http.StatusEarlyHints)
			plain(w)
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
		},
	},
	{
		name: "several streams at once",
		client: func(f *frames) {
			var ids []uint32
			for range 20 {
				ids = append(ids, f.request(true, "GET", "/", "case", f.handler))
			}
			for _, id := range slices.Backward(ids) {
				f.wants(f.answer(id), "GET", ok("Content-Length: 2", "", "ok"))
			}
		},
		serve: func(w http.ResponseWriter, _ *http.Request) {
			plain(w)
			w.Header().Set("Content-Length", "2")
			_, _ = io.WriteString(w, "ok")
		},
	},
	{
		name: "1 MB both ways",
		client: func(f *frames) {
			large := strings.Repeat("0123456789abcdef", 64<<10)
			id := f.request(false, "POST", "/", "case", f.handler)
			// As much as the windows allow before the other end grants more.
			f.data(id, false, large[:16<<10])
			f.data(id, true, large[:16<<10])
			f.wants(f.answer(id), "GET", ok("Content-Length: 1048576", "", large))
		},
		serve: func(w http.ResponseWriter, r *http.Request) {
			if n, _ := io.Copy(io.Discard, r.Body); n != 32<<10 {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			plain(w)
			w.Header().Set("Content-Length", "1048576")
			_, _ = io.WriteString(w, strings.Repeat("0123456789abcdef", 64<<10))
		},
	},
}

func plain(w http.ResponseWriter) {
	w.Header().Set("Date", "Sun, 06 Nov 1994 08:49:37 GMT")
	w.Header().Set("Content-Type", "text/plain")
}

// TestHTTP2WithoutTLS covers clients that start with HTTP/2 on a plain connection, in front of a service that speaks it
// on all connections (h2c://) or on those for gRPC (http://).
func TestHTTP2WithoutTLS(t *testing.T) {
	t.Parallel()
	service := startGoService(t)
	for _, scheme := range []string{"h2c", "http"} {
		t.Run(scheme, func(t *testing.T) {
			t.Parallel()
			sidecar, process := startSidecar(t, scheme+"://"+service.address, 1000)
			t.Cleanup(process.Kill)
			for _, c := range calls {
				t.Run(c.name, func(t *testing.T) {
					t.Parallel()
					for _, through := range []bool{false, true} {
						c.run(t, service, sidecar, through)
					}
				})
			}
		})
	}
	t.Run("a client of HTTP/1.1 in front of h2c", func(t *testing.T) {
		t.Parallel()
		sidecar, process := startSidecar(t, "h2c://"+service.address, 1000)
		t.Cleanup(process.Kill)
		l := &leg{network: "tcp", address: sidecar, ends: time.Now().Add(patience)}
		l.asClient(func(c *peer) {
			c.send(post("Case: none", "Transfer-Encoding: chunked", "Trailer: X-Sum", "", "5", "hello", "0", "X-Sum: 7", "", ""))
			m := c.answer("POST")
			if want := "POST /orders\ncase: \"none\"\nhost: \"shop\"\nbody: \"hello\"\ntrailer x-sum: \"7\""; m.body != want || m.start != "200" {
				c.fail("the client got %v, want %q", m, want)
			}
		})
		if err := errors.Join(l.errs...); err != nil {
			t.Error(err)
		}
	})
}

func (c call) run(t *testing.T, service *goService, sidecar string, through bool) {
	t.Helper()
	l := &leg{network: "tcp", address: service.address, ends: time.Now().Add(patience)}
	if through {
		l.address = sidecar
	}
	serve := c.serve
	if serve == nil {
		serve = func(w http.ResponseWriter, r *http.Request) {
			grpcAnswer(w, "first")
			<-r.Context().Done()
			l.cues.give("canceled")
		}
	}
	service.handlers.Store(t.Name(), serve)
	l.asClient(func(p *peer) {
		f := p.http2()
		f.handler = t.Name()
		c.client(f)
	})
	if err := errors.Join(l.errs...); err != nil {
		if !through {
			t.Fatalf("asked directly: %v", err)
		}
		t.Errorf("through the sidecar: %v", err)
	}
}

// TestAGoServiceSeesTheSame sends every request that should arrive unchanged to a server of net/http as well. It mirrors
// what it sees, which must not depend on the way.
func TestAGoServiceSeesTheSame(t *testing.T) {
	t.Parallel()
	service := startGoService(t)
	sidecar, process := startSidecar(t, "http://"+service.address, 1000)
	t.Cleanup(process.Kill)
	for _, e := range slices.Concat(requests, bodies) {
		if e.sees != "" && len(e.must) == 0 {
			continue // it changes on the way, as it has to
		}
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			e := e.withDefaults()
			var got [2][]message
			for i, address := range []string{service.address, sidecar} {
				l := &leg{network: "tcp", address: address, ends: time.Now().Add(patience)}
				l.asClient(func(c *peer) { got[i] = e.play(c) })
				if err := errors.Join(l.errs...); err != nil {
					t.Fatal(err)
				}
			}
			direct, through := got[0], got[1]
			for i := range direct {
				if len(direct[i].fields) > 0 && strings.Contains(direct[i].body, "host: \"\"") { // the sidecar has to name one
					return
				}
			}
			last := direct[len(direct)-1]
			if isError(last) && len(through) > 0 && isError(through[len(through)-1]) {
				return
			}
			for i, m := range direct {
				direct[i].fields = slices.DeleteFunc(m.fields, func(f field) bool { return f.name == "date" })
			}
			if _, faults := e.judge(direct, through); len(faults) > 0 {
				t.Errorf("directly: %v\nthrough the sidecar: %v\n%s", direct, through, strings.Join(faults, "\n"))
			}
		})
	}
}
