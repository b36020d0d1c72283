package edge

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
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

// world is a service of limit 20 behind the guard, in a bubble of fake time.
type world struct {
	*pipes
	guard    *guard.Guard
	patience *Patience
}

func inBubble(t *testing.T, service http.HandlerFunc, script func(*testing.T, world)) {
	synctest.Test(t, func(t *testing.T) {
		g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 20, Max: 20})
		if err != nil {
			t.Fatal(err)
		}
		w := world{newPipes(), g, &Patience{Time: time.Minute, MinRate: 500}}
		server := &http.Server{Handler: guardhttp.New(g, w.patience.Handler(service), guardhttp.WithCriticality(guardhttp.CriticalityOf))}
		go server.Serve(w)
		script(t, w)
		server.Close()
		synctest.Wait()
		if n := g.Snapshot().InFlight; n != 0 {
			t.Errorf("%d slots are still held", n)
		}
		if n := w.patience.Waiting(); n != 0 {
			t.Errorf("%d requests still wait", n)
		}
	})
}

// ask sends a short request and returns the status.
func (w world) ask(t *testing.T) int {
	t.Helper()
	c := w.dial()
	defer c.Close()
	io.WriteString(c, "GET /quick HTTP/1.1\r\nHost: x\r\nGuard-Criticality: critical\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		t.Fatal(err)
	}
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode
}

// service answers /quick at once, sends a megabyte for /large, and reads bodies.
func service(w http.ResponseWriter, r *http.Request) {
	if r.URL.Path == "/large" {
		for range 256 {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				panic(http.ErrAbortHandler)
			}
		}
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		http.Error(w, "no body", http.StatusBadGateway)
	}
}

// slowly writes one byte a second until it fails.
func slowly(c net.Conn) {
	for {
		time.Sleep(time.Second)
		if _, err := c.Write([]byte("x")); err != nil {
			return
		}
	}
}

func TestCriticalRequestsGetThroughWhile25ClientsSendAByteASecond(t *testing.T) {
	for _, framing := range []string{"Content-Length: 100000", "Transfer-Encoding: chunked"} {
		inBubble(t, service, func(t *testing.T, w world) {
			answers := make(chan string, 25)
			for range 25 {
				go func() {
					c := w.dial()
					fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x\r\n%s\r\n\r\n", framing)
					if strings.Contains(framing, "chunked") {
						io.WriteString(c, "ffff\r\n")
					}
					go slowly(c)
					line, _ := bufio.NewReader(c).ReadString('\n')
					answers <- line
					c.Close()
				}()
				time.Sleep(10 * time.Millisecond)
			}
			time.Sleep(100 * time.Millisecond)
			for second := range 50 {
				for range 4 {
					if code := w.ask(t); code != http.StatusOK {
						t.Fatalf("a critical request after %d s: %d", second, code)
					}
				}
				time.Sleep(time.Second)
			}
			time.Sleep(30 * time.Second)
			synctest.Wait()
			refused := 0
			for range 25 {
				select {
				case line := <-answers:
					if strings.Contains(line, "503") {
						refused++
					} else if !strings.Contains(line, "408") {
						t.Errorf("a slow client got %q, want 408", line)
					}
				default:
					t.Fatal("a slow client was not cut")
				}
			}
			if sending, reading := w.patience.Cut(); sending != uint64(25-refused) || reading != 0 {
				t.Errorf("%d and %d cut", sending, reading)
			}
			if s := w.guard.Snapshot(); s.Failed != 0 {
				t.Errorf("%d failures of the service", s.Failed)
			}
		})
	}
}

func TestCriticalRequestsGetThroughWhile25ClientsReadAByteASecond(t *testing.T) {
	inBubble(t, service, func(t *testing.T, w world) {
		cut := make(chan bool, 25)
		for range 25 {
			go func() {
				c := w.dial()
				io.WriteString(c, "GET /large HTTP/1.1\r\nHost: x\r\n\r\n")
				for {
					time.Sleep(time.Second)
					if _, err := c.Read(make([]byte, 1)); err != nil {
						break
					}
				}
				cut <- true
				c.Close()
			}()
			time.Sleep(10 * time.Millisecond)
		}
		time.Sleep(100 * time.Millisecond)
		for second := range 50 {
			for range 4 {
				if code := w.ask(t); code != http.StatusOK {
					t.Fatalf("a critical request after %d s: %d", second, code)
				}
			}
			time.Sleep(time.Second)
		}
		time.Sleep(5 * time.Minute)
		synctest.Wait()
		if len(cut) != 25 {
			t.Errorf("%d of 25 clients were cut", len(cut))
		}
		if s := w.guard.Snapshot(); s.Failed != 0 {
			t.Errorf("%d failures of the service", s.Failed)
		}
	})
}

func TestAnUploadThatProgressesLivesAndTakesItsSlotAgainForTheWork(t *testing.T) {
	var working, done chan struct{}
	inBubble(t, func(w http.ResponseWriter, r *http.Request) {
		if n, err := io.Copy(io.Discard, r.Body); n != 3600*1000 || err != nil {
			t.Errorf("%d bytes arrived: %v", n, err)
		}
		working <- struct{}{}
		<-done
		w.WriteHeader(http.StatusInternalServerError)
	}, func(t *testing.T, w world) {
		working, done = make(chan struct{}), make(chan struct{})
		c := w.dial()
		defer c.Close()
		io.WriteString(c, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3600000\r\n\r\n")
		second := make([]byte, 1000)
		for i := range 3600 {
			if _, err := c.Write(second); err != nil {
				t.Fatalf("after %d s: %v", i, err)
			}
			if n := w.guard.Snapshot().InFlight; i > 0 && i < 3599 && n != 0 {
				t.Fatalf("after %d s the upload holds %d slots", i, n)
			}
			time.Sleep(time.Second)
		}
		<-working
		if n := w.guard.Snapshot().InFlight; n != 1 {
			t.Errorf("while the service works, %d slots are held, want 1", n)
		}
		close(done)
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusInternalServerError {
			t.Fatalf("%v %v", resp, err)
		}
		synctest.Wait()
		if s := w.guard.Snapshot(); s.Failed != 1 {
			t.Errorf("%d failures counted, want the one of the service", s.Failed)
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
