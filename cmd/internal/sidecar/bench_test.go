package sidecar

import (
	"bufio"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

const (
	benchConnections = 32
	benchPairs       = 25
	benchTime        = 400 * time.Millisecond // of each half of a pair
)

// BenchmarkThroughput compares the whole way in, guard included, with a bare httputil.ReverseProxy that has a pool of
// buffers, over 32 connections. The two take turns, so that what else the machine does meets both. Clients and service do
// as little as possible, because they share the processors with the proxy. It reports the median of the ratios of requests
// per second, and of requests per second of processor time. The second is what the first tends to on an idle machine, and
// is hardly disturbed by what else runs:
//
//	make bench-sidecar
func BenchmarkThroughput(b *testing.B) {
	for _, size := range []int{100, 10_000} {
		b.Run(fmt.Sprintf("answer=%dB", size), func(b *testing.B) {
			upstream, err := url.Parse(plainService(b, size))
			if err != nil {
				b.Fatal(err)
			}
			direct := &http.Transport{MaxIdleConnsPerHost: 1024, IdleConnTimeout: 90 * time.Second, DisableCompression: true}
			defer direct.CloseIdleConnections()
			bare := httptest.NewServer(&httputil.ReverseProxy{
				Rewrite: func(r *httputil.ProxyRequest) {
					r.SetURL(upstream)
					r.Out.Host = r.In.Host
					r.SetXForwarded()
				},
				Transport:  direct,
				BufferPool: &copyBuffers,
			})
			defer bare.Close()
			g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond, Min: 1000, Max: 1000})
			if err != nil {
				b.Fatal(err)
			}
			proxy := NewInbound(InboundConfig{Upstream: upstream, Holders: new(Holders), Log: slog.New(slog.DiscardHandler)})
			defer proxy.Close()
			guarded := httptest.NewUnstartedServer(nil)
			guarded.Config, guarded.Listener = Server(guardhttp.New(g, proxy)), Listener(guarded.Listener, Patience)
			guarded.Start()
			defer guarded.Close()

			for b.Loop() {
				var wall, processor, rates []float64
				for i := range benchPairs {
					first, second := bare.URL, guarded.URL
					if i%2 == 1 {
						first, second = second, first
					}
					x, y := measure(b, first, size), measure(b, second, size)
					if i%2 == 1 {
						x, y = y, x
					}
					wall = append(wall, y.perSecond/x.perSecond)
					processor = append(processor, y.perProcessorSecond/x.perProcessorSecond)
					rates = append(rates, y.perSecond)
				}
				b.ReportMetric(median(wall), "×bare")
				b.ReportMetric(median(processor), "×bare-cpu")
				b.ReportMetric(median(rates), "req/s")
				b.ReportMetric(0, "ns/op")
			}
		})
	}
}

// plainService answers every request of a connection with so many bytes.
func plainService(b *testing.B, size int) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	answer := fmt.Appendf(nil, "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n%s", size,
		strings.Repeat("x", size))
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				r := bufio.NewReader(c)
				for {
					line, err := r.ReadSlice('\n')
					if err != nil {
						return
					}
					if len(line) == 2 {
						if _, err := c.Write(answer); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	return "http://" + l.Addr().String()
}

func median(x []float64) float64 {
	slices.Sort(x)
	return x[len(x)/2]
}

type throughput struct{ perSecond, perProcessorSecond float64 }

// processorSeconds is the time that this process has spent on processors.
func processorSeconds(b *testing.B) float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// measure sends requests through a proxy for a while.
func measure(b *testing.B, url string, size int) throughput {
	used := processorSeconds(b)
	var done atomic.Int64
	var clients sync.WaitGroup
	start := time.Now()
	for range benchConnections {
		clients.Go(func() {
			c, err := net.Dial("tcp", strings.TrimPrefix(url, "http://"))
			if err != nil {
				b.Error(err)
				return
			}
			defer c.Close()
			r := bufio.NewReader(c)
			for time.Since(start) < benchTime {
				if _, err := io.WriteString(c, "GET /item HTTP/1.1\r\nHost: shop\r\nAccept: */*\r\nUser-Agent: bench\r\n\r\n"); err != nil {
					b.Error(err)
					return
				}
				for line := []byte(nil); len(line) != 2; {
					if line, err = r.ReadSlice('\n'); err != nil {
						b.Error(err)
						return
					}
				}
				if _, err := r.Discard(size); err != nil {
					b.Error(err)
					return
				}
				done.Add(1)
			}
		})
	}
	clients.Wait()
	n := float64(done.Load())
	return throughput{n / time.Since(start).Seconds(), n / (processorSeconds(b) - used)}
}
