package main

import (
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

// TestCriticalRequestsGetThroughWhile25ClientsAreSlow: they send or read a byte a second; the limit is 20.
func TestCriticalRequestsGetThroughWhile25ClientsAreSlow(t *testing.T) {
	service := target(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/large" {
			for range 256 {
				if _, err := w.Write(make([]byte, 64<<10)); err != nil {
					return
				}
			}
			return
		}
		io.Copy(io.Discard, r.Body)
	})
	for what, head := range map[string]string{
		"send":            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\n",
		"send, in chunks": "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffff\r\n",
		"read":            "GET /large HTTP/1.1\r\nHost: x\r\n\r\n",
	} {
		t.Run(what, func(t *testing.T) {
			p := sidecarWith(t, service, "--limit.min=20", "--limit.max=20", "--criticality-from=header", "--client-timeout=3s")
			var clients sync.WaitGroup
			defer clients.Wait()
			for range 25 {
				conn, err := net.Dial("tcp", p.listen)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				_ = conn.(*net.TCPConn).SetReadBuffer(4096)
				io.WriteString(conn, head)
				clients.Go(func() {
					for range time.Tick(time.Second) {
						var err error
						if strings.HasPrefix(head, "POST") {
							_, err = io.WriteString(conn, "x")
						} else {
							_, err = conn.Read(make([]byte, 1))
						}
						if err != nil {
							return
						}
					}
				})
			}
			waittest.Until(t, "the slow ones have come, and hold no slot", func() bool {
				return p.metric(t, `guard_offered_total{criticality="default",service="checkout"}`) == "25" &&
					p.metric(t, `guard_inflight{service="checkout"}`) == "0"
			})
			codes := map[int]int{}
			for range 199 {
				r := request(t, "http://"+p.listen+"/")
				r.Header.Set("Guard-Criticality", "critical")
				code, _, _ := fetch(t, r)
				codes[code]++
			}
			if codes[http.StatusOK] != 199 {
				t.Errorf("critical requests were answered %v, want 199 times 200", codes)
			}
			waittest.Until(t, "those that were admitted are cut", func() bool {
				sending := p.metric(t, `governor_sidecar_clients_cut_total{while="sending"}`)
				reading := p.metric(t, `governor_sidecar_clients_cut_total{while="reading"}`)
				return sending != "0" || reading != "0"
			})
			if n := p.metric(t, `guard_failed_total{service="checkout"}`); n != "0" {
				t.Errorf("%s failures of the service were counted", n)
			}
		})
	}
}
