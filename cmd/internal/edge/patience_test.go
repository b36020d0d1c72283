package edge

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// pipes is a listener whose connections have no buffers: a client that does not read stops the server at once.
type pipes struct {
	conns chan net.Conn
	once  sync.Once
	done  chan struct{}
}

func newPipes() *pipes { return &pipes{conns: make(chan net.Conn), done: make(chan struct{})} }

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.done:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error   { p.once.Do(func() { close(p.done) }); return nil }
func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe", Net: "unix"} }

func (p *pipes) dial() net.Conn {
	client, server := net.Pipe()
	p.conns <- server
	return client
}

// world is a service in a bubble of fake time.
type world struct {
	*pipes
	patience *Patience
}

func inBubble(t *testing.T, service http.HandlerFunc, script func(*testing.T, world)) {
	synctest.Test(t, func(t *testing.T) {
		w := world{newPipes(), &Patience{Time: time.Minute, MinRate: 500}}
		server := &http.Server{Handler: w.patience.Handler(service)}
		go server.Serve(w)
		script(t, w)
		server.Close()
		synctest.Wait()
	})
}

// service sends a megabyte for /large, and reads bodies.
func service(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/large" {
		for range 256 {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); errors.Is(err, os.ErrDeadlineExceeded) {
		http.Error(w, "too slow", http.StatusRequestTimeout)
	}
}

func TestClientsThatSendAByteASecondAreCut(t *testing.T) {
	for _, framing := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
		inBubble(t, service, func(t *testing.T, w world) {
			began := time.Now()
			for range 25 {
				c := w.dial()
				defer c.Close()
				fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing)
				if strings.Contains(framing, "chunked") {
					io.WriteString(c, "ffff\r\n")
				}
				go func() {
					for range time.Tick(time.Second) {
						if _, err := c.Write([]byte("x")); err != nil {
							return
						}
					}
				}()
				go func() {
					if answer, _ := io.ReadAll(c); !strings.HasPrefix(string(answer), "HTTP/1.1 408 ") {
						t.Errorf("a slow client got %q", answer)
					}
					if took := time.Since(began); took < time.Minute || took > 70*time.Second {
						t.Errorf("it was cut after %v", took)
					}
				}()
			}
			time.Sleep(2 * time.Minute)
			if sending, reading := w.patience.Cut(); sending != 25 || reading != 0 {
				t.Errorf("%d and %d cut", sending, reading)
			}
		})
	}
}

func TestClientsThatReadAByteASecondAreCut(t *testing.T) {
	for _, path := range []string{"/large", "/small"} {
		inBubble(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/small" { // the server sends it when the handler has returned
				io.WriteString(w, "four hundred bytes of header and answer")
				return
			}
			service(w, r)
		}, func(t *testing.T, w world) {
			began, cut := time.Now(), new(atomic.Int64)
			for range 25 {
				c := w.dial()
				defer c.Close()
				fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
				go func() {
					for range time.Tick(time.Second) {
						if _, err := c.Read(make([]byte, 1)); err != nil {
							break
						}
					}
					if took := time.Since(began); took < time.Minute || took > 80*time.Second {
						t.Errorf("it was cut after %v", took)
					}
					cut.Add(1)
				}()
				synctest.Wait()
			}
			time.Sleep(3 * time.Minute)
			synctest.Wait()
			if _, reading := w.patience.Cut(); path == "/large" && reading != 25 || cut.Load() != 25 {
				t.Errorf("%s: %d cut, %d noticed", path, reading, cut.Load())
			}
		})
	}
}

func TestAnUploadThatProgressesLives(t *testing.T) {
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); n != 3600*600 || err != nil {
			t.Errorf("%d bytes arrived: %v", n, err)
		}
	}, func(t *testing.T, w world) {
		c := w.dial()
		defer c.Close()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2160000\r\n\r\n")
		for i := range 3600 {
			if _, err := c.Write(make([]byte, 600)); err != nil {
				t.Fatalf("after %d s: %v", i, err)
			}
			time.Sleep(time.Second)
		}
		if resp, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil || resp.StatusCode != http.StatusOK {
			t.Errorf("%v %v", resp, err)
		}
	})
}

func TestADownloadThatProgressesLives(t *testing.T) {
	inBubble(t, service, func(t *testing.T, w world) {
		c := w.dial()
		defer c.Close()
		io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for {
			time.Sleep(time.Second)
			n, err := resp.Body.Read(make([]byte, 600))
			total += n
			if err == io.EOF {
				break
			} else if err != nil {
				t.Fatalf("after %d bytes: %v", total, err)
			}
		}
		if total != 1<<20 {
			t.Errorf("%d bytes", total)
		}
	})
}

func TestStreamsOfHonestClientsHaveNoEnd(t *testing.T) {
	lines := func(w http.ResponseWriter, n int) {
		for range n {
			io.WriteString(w, "data: x\n\n")
			http.NewResponseController(w).Flush()
			time.Sleep(time.Minute)
		}
	}
	for what, c := range map[string]struct {
		head    string
		service http.HandlerFunc
		lines   int
	}{
		"events, an hour": {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", func(w http.ResponseWriter, _ *http.Request) { lines(w, 60) }, 60},
		"a silent body after the answer has begun": {
			"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex()
				http.NewResponseController(w).Flush()
				go func() {
					if _, err := r.Body.Read(make([]byte, 1)); err == nil {
						t.Error("a byte came from nowhere")
					}
				}()
				lines(w, 10)
			},
			10,
		},
		"gRPC before the answer": {
			"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/grpc+proto\r\nTransfer-Encoding: chunked\r\n\r\n",
			func(w http.ResponseWriter, r *http.Request) {
				http.NewResponseController(w).EnableFullDuplex() // as on HTTP/2
				got := make(chan error, 1)
				go func() {
					_, err := r.Body.Read(make([]byte, 1))
					got <- err
				}()
				select {
				case err := <-got:
					t.Errorf("the body ended: %v", err)
				case <-time.After(10 * time.Minute):
				}
				io.WriteString(w, "data: x\n\n")
			},
			1,
		},
		"a service that thinks for ten minutes": {
			"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
			func(w http.ResponseWriter, r *http.Request) {
				io.Copy(io.Discard, r.Body)
				time.Sleep(10 * time.Minute)
				if err := r.Context().Err(); err != nil {
					t.Errorf("the client was taken for gone: %v", err)
				}
				lines(w, 1)
			},
			1,
		},
		"a service that reads the body late": {
			"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx",
			func(w http.ResponseWriter, r *http.Request) {
				time.Sleep(10 * time.Minute)
				if b, err := io.ReadAll(r.Body); string(b) != "x" || err != nil {
					t.Errorf("the body is %q: %v", b, err)
				}
				lines(w, 1)
			},
			1,
		},
	} {
		t.Run(what, func(t *testing.T) {
			inBubble(t, c.service, func(t *testing.T, w world) {
				conn := w.dial()
				go io.WriteString(conn, c.head)
				got, _ := io.ReadAll(conn)
				if n := strings.Count(string(got), "data: x"); n != c.lines {
					t.Errorf("%d lines arrived, want %d: %.300q", n, c.lines, got)
				}
				conn.Close()
			})
		})
	}
}
