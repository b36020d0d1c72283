package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/guard/wire"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

func TestSocketOfADeadSidecarMakesRoom(t *testing.T) {
	path := filepath.Join(t.TempDir(), "payments.sock")
	e := egress{dependency: "payments", network: "unix", address: path}
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	if l, err := e.listen(); err == nil {
		l.Close()
		t.Fatal("two listen at one socket")
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err := e.listen()
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := e.listen(); err == nil || !strings.Contains(err.Error(), "--egress=payments="+path) {
		t.Errorf("%v, want an error that names the flag", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "precious" {
		t.Error("a file that is no socket was removed")
	}
}

// sidecarProcess runs the command with a forward port to payments and returns how to end it: stop sends SIGTERM, ended
// receives what Wait returns.
func sidecarProcess(t *testing.T, listen, forward, admin, service, payments string, flags ...string) (
	stop func(), ended <-chan error, output *waittest.Buffer,
) {
	t.Helper()
	signal, ended, output := governorProcess(t, append([]string{
		"sidecar", "--service=checkout", "--slo.latency=300ms", "--upstream=" + service, "--listen=" + listen,
		"--web.listen-address=" + admin, "--egress=payments=" + forward + "=" + payments,
	}, flags...)...)
	return func() { signal(syscall.SIGTERM) }, ended, output
}

// governorProcess runs governor, without a Consul, and returns how to signal it, what Wait returns, and its output.
func governorProcess(t *testing.T, args ...string) (signal func(os.Signal), ended <-chan error, output *waittest.Buffer) {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	output = &waittest.Buffer{}
	cmd := exec.Command(self, args...)
	cmd.Env = append(os.Environ(), plays+"=1", "CONSUL_HTTP_ADDR="+servers.Unused(t))
	cmd.Stdout, cmd.Stderr = output, output
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waited, gone := make(chan error, 1), make(chan struct{})
	go func() { waited <- cmd.Wait(); close(gone) }()
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // nothing happens if it has ended
		<-gone
	})
	return func(s os.Signal) {
		if err := cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
			t.Error(err)
		}
	}, waited, output
}

// get returns the body of an answer, or the error.
func get(url string) string {
	resp, err := http.Get(url)
	if err != nil {
		return err.Error()
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	return string(body)
}

// TestSidecarProcessWithForwardPort runs the command. After SIGTERM the service still makes the calls that its last
// request needs.
func TestSidecarProcessWithForwardPort(t *testing.T) {
	payments := target(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "paid") })
	listen, forward, admin := servers.Unused(t), servers.Unused(t), servers.Unused(t)
	entered, proceed := make(chan struct{}, 1), make(chan struct{})
	service := target(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/slow" {
			entered <- struct{}{}
			<-proceed
		}
		call := request(t, "http://"+forward)
		call.Header[guardhttp.ContextHeader] = r.Header[guardhttp.ContextHeader]
		call.Close = true
		_, _, body := fetch(t, call)
		io.WriteString(w, body)
	})
	stop, ended, output := sidecarProcess(t, listen, forward, admin, service, payments)
	waittest.Until(t, "the service is paid", func() bool { return get("http://"+listen) == "paid" })
	if metrics := get("http://" + admin + "/metrics"); !strings.Contains(metrics,
		`guard_client_requests_total{service="checkout",to="payments"} 1`+"\n") {
		t.Errorf("the sidecar's metrics do not count the call:\n%s", metrics)
	}

	last := make(chan string, 1)
	go func() { last <- get("http://" + listen + "/slow") }()
	<-entered
	stop()
	waittest.Until(t, "the front door is closed", func() bool {
		conn, err := net.Dial("tcp", listen)
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
	close(proceed)
	if got := <-last; got != "paid" {
		t.Errorf("the last request got %q, want paid", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("%v:\n%s", err, output)
	}
}

// TestDrainTimeoutIsForAllTogether: a request and a call that both hang do not double the time to stop.
func TestDrainTimeoutIsForAllTogether(t *testing.T) {
	const timeout = 2 * time.Second
	entered := make(chan struct{}, 2)
	hangs := target(t, func(_ http.ResponseWriter, r *http.Request) {
		entered <- struct{}{}
		<-r.Context().Done()
	})
	listen, forward, admin := servers.Unused(t), servers.Unused(t), servers.Unused(t)
	stop, ended, output := sidecarProcess(t, listen, forward, admin, hangs, hangs, "--drain-timeout="+timeout.String())
	waittest.Until(t, "the sidecar runs", func() bool { return strings.Contains(get("http://"+admin+"/-/healthy"), "alive") })
	cut := make(chan string, 2)
	for _, address := range []string{listen, forward} {
		go func() { cut <- get("http://" + address) }()
		<-entered
	}
	start := time.Now()
	stop()
	err := <-ended
	if took := time.Since(start); err != nil || took < timeout || took > timeout*7/4 {
		t.Errorf("it ended after %v, %v, want %v:\n%s", took, err, timeout, output)
	}
	if n := strings.Count(output.String(), "Cut off requests in flight"); n != 2 {
		t.Errorf("%d servers report that they cut off requests, want 2:\n%s", n, output)
	}
	<-cut
	<-cut
}

// TestStrangersGainNothingThroughTheSidecar sends every field of Guard-Context, in the header, in baggage and as a trace, to a
// service that copies what it receives. Nothing of it reaches payments, unless the peer is trusted.
func TestStrangersGainNothingThroughTheSidecar(t *testing.T) {
	const (
		said  = "rank=ffffffff;crit=critical;key=bob;api=vip;again;group=9;id=00000001;attempt=1;left=3600000;early=9;request=stolen"
		trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	)
	inBaggage := "a=1,guard-context=" + url.QueryEscape(said)
	seen := make(chan http.Header, 1)
	payments := target(t, func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Header
		w.Header().Set(guardhttp.AnswerHeader, "threshold=1c0000000")
	})
	type told struct {
		wire.Context              // in what payments received
		service, payments, client http.Header
	}
	start := func(flags ...string) (ask func(http.Header) told) {
		forward, received := servers.Unused(t), make(chan http.Header, 1)
		p := sidecarWith(t, target(t, func(w http.ResponseWriter, r *http.Request) {
			call := request(t, "http://"+forward)
			for _, name := range []string{guardhttp.ContextHeader, "Baggage", "Traceparent"} {
				call.Header[name] = r.Header[name]
			}
			_, answered, _ := fetch(t, call)
			w.Header()[guardhttp.AnswerHeader] = answered[guardhttp.AnswerHeader]
			received <- r.Header
		}), append(flags, "--egress=payments="+forward+"="+payments)...)
		return func(header http.Header) told {
			r := request(t, "http://"+p.listen+"/buy")
			r.Header = header.Clone()
			_, answer, _ := fetch(t, r)
			paid := <-seen
			return told{guardhttp.ContextOf(paid), <-received, paid, answer}
		}
	}
	for _, flags := range [][]string{nil, {"--strip-headers"}, {"--trusted-peers=10.0.0.0/8", "--baggage"}} {
		ask := start(flags...)
		for _, header := range []http.Header{
			{guardhttp.ContextHeader: {said}},
			{"Baggage": {inBaggage}},
			{guardhttp.ContextHeader: {said}, "Baggage": {inBaggage}, "Traceparent": {trace}},
		} {
			got := ask(header)
			place := got.Rank.Place
			if place == 0xffffffff || place == wire.TraceRank(trace).Place {
				t.Errorf("%v, %v: chose its place %08x", flags, header, place)
			}
			want := wire.Context{Arrival: guard.Arrival{
				Criticality: guard.Default, Entry: "checkout/buy", Rank: guard.Rank{Place: place, Drawn: true},
			}, Marked: true}
			if got.Context != want {
				t.Errorf("%v, %v: payments was told %+v, expected %+v", flags, header, got, want)
			}
			for _, h := range []http.Header{got.service, got.payments} {
				if text := fmt.Sprint(h); strings.Contains(text, "bob") || strings.Contains(text, "vip") || strings.Contains(text, "stolen") {
					t.Errorf("%v, %v: passed on: %v", flags, header, h)
				}
			}
			if len(got.client[guardhttp.AnswerHeader]) > 0 {
				t.Errorf("%v: a stranger is told %v", flags, got.client)
			}
		}
	}
	ask := start("--trusted-peers=127.0.0.0/8")
	for _, header := range []http.Header{{guardhttp.ContextHeader: {said}}, {"Baggage": {inBaggage}}} {
		got := ask(header)
		if got.Rank.Place != 0xffffffff || got.Criticality != guard.Critical || got.Key != "bob" || got.Entry != "vip" ||
			got.Attempt != 1 || got.Left <= 0 || got.Rank.Again || got.Rank.Group != 0 || got.Early != 0 {
			t.Errorf("a trusted peer sends %v, payments was told %+v", header, got)
		}
		if got.client.Get(guardhttp.AnswerHeader) != "threshold=1c0000000" {
			t.Errorf("a trusted peer is told %v", got.client)
		}
	}
	if got := ask(http.Header{"Traceparent": {trace}}); got.Rank != wire.TraceRank(trace) {
		t.Errorf("payments was told %+v, the trace is that of a trusted peer", got)
	}
	got := start("--trusted-peers=127.0.0.0/8", "--egress-outside=payments")(http.Header{guardhttp.ContextHeader: {said}})
	text := fmt.Sprint(got.payments)
	if strings.Contains(text, "Guard-") || strings.Contains(text, "bob") || len(got.client[guardhttp.AnswerHeader]) > 0 {
		t.Errorf("payments is outside, and was told %v; the client %v", text, got.client)
	}
}
