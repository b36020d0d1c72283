package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/test/servers"
)

// process is a sidecar that runs as a command in front of a service.
type process struct {
	listen, admin string
	signal        func(os.Signal)
	ended         <-chan error
	output        *waittest.Buffer
}

// sidecarWith runs the command with a limit of two, which nothing moves, unless flags say otherwise.
func sidecarWith(t *testing.T, service string, flags ...string) process {
	t.Helper()
	p := process{listen: servers.Unused(t), admin: servers.Unused(t)}
	given := strings.Join(flags, " ")
	if !strings.Contains(given, "--limit.max") {
		flags = append(flags, "--limit.min=2", "--limit.max=2")
	}
	if !strings.Contains(given, "--listen=") {
		flags = append(flags, "--listen="+p.listen)
	}
	p.signal, p.ended, p.output = governorProcess(t, append([]string{
		"sidecar", "--service=checkout", "--slo.latency=300ms", "--upstream=" + service,
		"--web.listen-address=" + p.admin,
	}, flags...)...)
	waittest.Until(t, "the sidecar serves", func() bool { return strings.Contains(get("http://"+p.admin+"/-/healthy"), "alive") })
	return p
}

func (p process) metric(t *testing.T, name string) string {
	t.Helper()
	for line := range strings.Lines(get("http://" + p.admin + "/metrics")) {
		if value, ok := strings.CutPrefix(line, name+" "); ok {
			return strings.TrimSpace(value)
		}
	}
	t.Fatalf("no metric %s", name)
	return ""
}

// hurries sends signals until one is not taken for a part of the first.
func (p process) hurries(t *testing.T) {
	t.Helper()
	waittest.Until(t, "a later signal is obeyed", func() bool {
		hurried := strings.Contains(p.output.String(), "Stopping at once")
		if !hurried {
			p.signal(os.Interrupt)
		}
		return hurried
	})
}

func (p process) ends(t *testing.T) {
	t.Helper()
	select {
	case err := <-p.ended:
		if err != nil {
			t.Errorf("%v:\n%s", err, p.output)
		}
	case <-time.After(20 * time.Second):
		t.Errorf("the sidecar does not end:\n%s", p.output)
	}
}

// hanging is a service that answers /healthz and /who, and nothing else before release is closed. It reports what it saw.
func hanging(t *testing.T) (url string, seen chan *http.Request) {
	t.Helper()
	release := make(chan struct{})
	seen = make(chan *http.Request, 100)
	url = target(t, func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/hang") {
			select {
			case <-release:
			case <-r.Context().Done():
			}
			return
		}
		select {
		case seen <- r.Clone(context.Background()):
		default: // nobody looks
		}
		io.WriteString(w, "ok")
	})
	t.Cleanup(func() { close(release) })
	return url, seen
}

// start sends a request whose answer does not matter.
func (p process) start(t *testing.T, path string) {
	t.Helper()
	r := request(t, "http://"+p.listen+path)
	go func() {
		if resp, err := http.DefaultClient.Do(r); err == nil {
			resp.Body.Close()
		}
	}()
}

// fill takes both slots.
func (p process) fill(t *testing.T) {
	t.Helper()
	for range 2 {
		p.start(t, "/hang")
	}
	waittest.Until(t, "both slots are taken", func() bool {
		return p.metric(t, `guard_inflight{service="checkout"}`) == "2"
	})
}

func TestHealthChecksAtTheWallAreNeitherRefusedNorCounted(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--bypass=/healthz", "--bypass=/internal/*")
	p.fill(t)
	refused := `guard_refused_total{criticality="default",reason="concurrency",service="checkout"}`
	admitted := `guard_admitted_total{criticality="default",service="checkout"}`
	for _, path := range []string{"/healthz", "/he%61lthz", "/internal/ready?x"} {
		if code, _, body := fetch(t, request(t, "http://"+p.listen+path)); code != http.StatusOK || body != "ok" {
			t.Errorf("%s: %d %q", path, code, body)
		}
	}
	if n := p.metric(t, refused); n != "0" {
		t.Errorf("%s refusals counted", n)
	}
	if n := p.metric(t, admitted); n != "2" {
		t.Errorf("%s admissions counted, want the two that hang", n)
	}
	for _, path := range []string{"/", "/healthz/deep", "/internal/..;/buy"} {
		if code, _, _ := fetch(t, request(t, "http://"+p.listen+path)); code != http.StatusServiceUnavailable {
			t.Errorf("%s: %d, want a refusal", path, code)
		}
	}
}

// A declared request is admitted like any other, and then holds no slot.
func TestDeclaredRequestsHoldNoSlot(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--endless=/hang/poll", "--endless=/hang/live/*")
	declared := `guard_endless{kind="declared",service="checkout"}`
	inFlight := `guard_inflight{service="checkout"}`
	paths := []string{"/hang/poll", "/hang/p%6fll?since=1", "/hang/live/a/b"} // more than there are slots
	for _, path := range paths {
		p.start(t, path)
	}
	waittest.Until(t, "all are declared", func() bool { return p.metric(t, declared) == strconv.Itoa(len(paths)) })
	if n := p.metric(t, inFlight); n != "0" {
		t.Errorf("%s in flight", n)
	}
	if code, _, _ := fetch(t, request(t, "http://"+p.listen+"/")); code != http.StatusOK {
		t.Errorf("an ordinary request beside them: %d", code)
	}
	for _, path := range []string{"/hang/live", "/hang/live/..;/buy"} { // not declared: each takes a slot
		p.start(t, path)
	}
	waittest.Until(t, "both slots are taken", func() bool { return p.metric(t, inFlight) == "2" })
	if code, _, _ := fetch(t, request(t, "http://"+p.listen+"/hang/poll")); code != http.StatusServiceUnavailable {
		t.Errorf("a declared request at a full service: %d", code)
	}
}

// A balancer learns how loaded the instance is, and need not take a refusal for a fault.
func TestWhatABalancerIsTold(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--load-report", "--refusal-status=429", "--bypass=/healthz")
	_, header, _ := fetch(t, request(t, "http://"+p.listen+"/"))
	if got := header.Get(guardhttp.LoadReportHeader); !strings.HasPrefix(got, "TEXT application_utilization=0") {
		t.Errorf("one of two: %q", got)
	}
	p.fill(t)
	waittest.Until(t, "refusals report a full service", func() bool {
		code, header, _ := fetch(t, request(t, "http://"+p.listen+"/"))
		if code != http.StatusTooManyRequests || header.Get(guardhttp.RefusedHeader) != "concurrency" {
			t.Fatalf("the refusal: %d %v", code, header)
		}
		return header.Get(guardhttp.LoadReportHeader) == "TEXT application_utilization=1" // when it has been full for a second
	})
	if code, header, _ := fetch(t, request(t, "http://"+p.listen+"/healthz")); code != http.StatusOK || header.Get(guardhttp.LoadReportHeader) != "" {
		t.Errorf("a health check: %d %v", code, header)
	}
}

func TestFlagsSayWhomTheSidecarBelieves(t *testing.T) {
	for flags, want := range map[string]struct{ criticality, header string }{
		"":                                   {"default", "critical"},
		"--criticality-from=header":          {"critical", "critical"},
		"--trusted-peers=127.0.0.0/8":        {"critical", "critical"},
		"--trusted-peers=10.0.0.0/8":         {"default", "critical"},
		"--strip-headers":                    {"default", ""},
		"--criticality-from=/buy=background": {"background", "critical"},
	} {
		service, seen := hanging(t)
		p := sidecarWith(t, service, strings.Fields(flags)...)
		r := request(t, "http://"+p.listen+"/buy")
		r.Header.Set("Guard-Criticality", "critical")
		fetch(t, r)
		if got := (<-seen).Header.Get("Guard-Criticality"); got != want.header {
			t.Errorf("%s: the service sees %q, want %q", flags, got, want.header)
		}
		if n := p.metric(t, `guard_admitted_total{criticality="`+want.criticality+`",service="checkout"}`); n != "1" {
			t.Errorf("%s: not admitted as %s", flags, want.criticality)
		}
	}
}

// TestKeyFromDecidesWhoIsShed: above the threshold a key gets the same verdict each time; without one, requests are
// judged one by one.
func TestKeyFromAndShedThresholdDecideWhoIsShed(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--limit.max=100", "--limit.min=100", "--limit.fallback=100", "--shed-threshold=0.01",
		"--no-reflex", "--key-from=header:X-Tenant")
	shed := `guard_refused_total{criticality="default",reason="shed",service="checkout"}`
	waittest.Until(t, "some are shed", func() bool { // by chance, from about half of the limit on
		if p.metric(t, shed) != "0" {
			return true
		}
		p.start(t, "/hang")
		return false
	})
	verdicts := map[bool]int{}
	for tenant := range 30 {
		first := 0
		for i := range 4 {
			r := request(t, "http://"+p.listen+"/")
			r.Header.Set("X-Tenant", fmt.Sprint("tenant-", tenant))
			code, _, _ := fetch(t, r)
			if i == 0 {
				first = code
				verdicts[code == http.StatusOK]++
			} else if code != first {
				t.Errorf("tenant %d is answered %d, then %d", tenant, first, code)
			}
		}
	}
	if verdicts[true] == 0 || verdicts[false] == 0 {
		t.Errorf("served or shed: %v, want some of each", verdicts)
	}
}

func TestProfilesHaveAPortOfTheirOwn(t *testing.T) {
	service, _ := hanging(t)
	address := servers.Unused(t)
	_, port, _ := net.SplitHostPort(address)
	p := sidecarWith(t, service, "--pprof.listen=:"+port)
	if got := get("http://127.0.0.1:" + port + "/debug/pprof/goroutine?debug=1"); !strings.Contains(got, "goroutine profile") {
		t.Errorf("the profile is %.200q", got)
	}
	if !strings.Contains(p.output.String(), "listen=127.0.0.1:"+port) {
		t.Errorf("it does not listen on loopback:\n%s", p.output)
	}
	r := request(t, "http://127.0.0.1:"+port+"/debug/pprof/cmdline")
	r.Host = "evil.example:" + port
	if code, _, _ := fetch(t, r); code != http.StatusForbidden {
		t.Errorf("a foreign name is answered %d", code)
	}
	if got := get("http://" + p.admin + "/debug/pprof/cmdline"); !strings.Contains(got, "404") {
		t.Errorf("the sidecar's own pages have profiles: %.200q", got)
	}
}

func TestEveryLinkOfTheSidecarsPageLeadsSomewhere(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service)
	page := get("http://" + p.admin + "/")
	links := regexp.MustCompile(`href="([^"]*)"`).FindAllStringSubmatch(page, -1)
	if len(links) < 3 {
		t.Errorf("%d links in\n%s", len(links), page)
	}
	for _, link := range links {
		if code, _, _ := fetch(t, request(t, "http://"+p.admin+"/"+strings.TrimPrefix(link[1], "/"))); code != http.StatusOK {
			t.Errorf("%s: %d", link[1], code)
		}
	}
}

func TestTheReadinessPageFailsFirstAndRequestsAreServedDuringTheDelay(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--drain-delay=1h")
	ready := func() int {
		code, _, _ := fetch(t, request(t, "http://"+p.admin+"/-/ready"))
		return code
	}
	if code := ready(); code != http.StatusOK {
		t.Errorf("ready: %d", code)
	}
	p.signal(syscall.SIGTERM)
	waittest.Until(t, "the readiness page fails", func() bool { return ready() == http.StatusServiceUnavailable })
	if code, _, body := fetch(t, request(t, "http://"+p.admin+"/-/healthy")); code != http.StatusOK {
		t.Errorf("healthy: %d %s", code, body)
	}
	code, header, body := fetch(t, request(t, "http://"+p.listen+"/"))
	if code != http.StatusOK || body != "ok" {
		t.Errorf("during the delay: %d %q %v", code, body, header)
	}
	p.hurries(t)
	p.ends(t)
}

// TestASecondSignalEndsAtOnceButInOrder: a request that hangs is cut, and the log tells the end.
func TestASecondSignalEndsAtOnceButInOrder(t *testing.T) {
	service, _ := hanging(t)
	p := sidecarWith(t, service, "--drain-timeout=1h")
	p.fill(t)
	p.signal(syscall.SIGTERM)
	waittest.Until(t, "it drains", func() bool { return strings.Contains(get("http://"+p.admin+"/-/ready"), "stopping") })
	p.hurries(t)
	p.ends(t)
	for _, want := range []string{"Stopping at once", "Cut off requests in flight", "requests=2", "Stopped"} {
		if !strings.Contains(p.output.String(), want) {
			t.Errorf("the log lacks %q:\n%s", want, p.output)
		}
	}
}

func TestDrainIncludesWebSockets(t *testing.T) {
	service := target(t, func(w http.ResponseWriter, _ *http.Request) {
		conn, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer conn.Close()
		fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		rw.Flush()
		io.Copy(conn, rw) // an echo
	})
	p := sidecarWith(t, service, "--drain-timeout=1h")
	conn, err := net.Dial("tcp", p.listen)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if resp, err := http.ReadResponse(in, nil); err != nil || resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatal(resp, err)
	}
	echo := func() {
		t.Helper()
		fmt.Fprint(conn, "hello\n")
		if line, err := in.ReadString('\n'); line != "hello\n" {
			t.Fatalf("the echo is %q: %v", line, err)
		}
	}
	echo()
	p.signal(syscall.SIGTERM)
	waittest.Until(t, "the port is closed", func() bool {
		c, err := net.Dial("tcp", p.listen)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	echo()
	p.hurries(t)
	if rest, err := io.ReadAll(in); len(rest) > 0 || err != nil {
		t.Errorf("%q %v, want an orderly end", rest, err)
	}
	p.ends(t)
}

func TestSidecarListensAtASocket(t *testing.T) {
	service, _ := hanging(t)
	path := filepath.Join(t.TempDir(), "s.sock")
	sidecarWith(t, service, "--listen=unix:"+path)
	client := http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	defer client.CloseIdleConnections()
	var body []byte
	waittest.Until(t, "the service answers through the socket", func() bool {
		resp, err := client.Get("http://checkout/")
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		body, _ = io.ReadAll(resp.Body)
		return string(body) == "ok"
	})
}

// TestTimesOfConnectionsAreSettable: each flag of a time ends what it is about, in a process.
func TestTimesOfConnectionsAreSettable(t *testing.T) {
	service, _ := hanging(t)
	for what, c := range map[string]struct{ flag, send, want string }{
		"a slow head":       {"--header-timeout=100ms", "GET / HT", ""},
		"an idle client":    {"--idle-timeout=100ms", "GET / HTTP/1.1\r\nHost: x\r\n\r\n", "200 OK"},
		"a body that waits": {"--client-timeout=200ms", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nab", ""},
	} {
		p := sidecarWith(t, service, c.flag)
		conn, err := net.Dial("tcp", p.listen)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(20 * time.Second))
		fmt.Fprint(conn, c.send)
		if got, err := io.ReadAll(conn); err != nil || !strings.Contains(string(got), c.want) {
			t.Errorf("%s, %s: %q %v", what, c.flag, got, err)
		}
		conn.Close()
	}
}

// TestUpstreamIdleTimeoutClosesKeptConnections: before the service does.
func TestUpstreamIdleTimeoutClosesKeptConnections(t *testing.T) {
	closed := make(chan struct{}, 10)
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") }),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed {
				closed <- struct{}{}
			}
		},
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(l)
	defer s.Close()
	p := sidecarWith(t, "http://"+l.Addr().String(), "--upstream-idle-timeout=100ms")
	if _, _, body := fetch(t, request(t, "http://"+p.listen)); body != "ok" {
		t.Fatal(body)
	}
	select {
	case <-closed:
	case <-time.After(20 * time.Second):
		t.Error("the connection is still kept")
	}
}

func TestErrorsOfTheSidecarsFlagsSayWhatToWrite(t *testing.T) {
	dir := t.TempDir()
	for flag, want := range map[string]string{
		"--upstream=http://localhost:8081":                                       "--upstream=http://localhost:8081: this is the sidecar itself, which listens there (--listen=:8081)",
		"--upstream=http://127.0.0.1:9748":                                       "this is the sidecar itself, which listens there (--web.listen-address=:9748)",
		"--egress=pay=:9101=http://pay --upstream=http://localhost:9101":         "this is the forward port of --egress=pay=127.0.0.1:9101",
		"--egress=pay=:9101=http://localhost:9101":                               "--egress=pay: TARGET \"http://localhost:9101\": this is the forward port of --egress=pay",
		"--egress=pay=:9101=http://pay --egress=tax=:9102=http://localhost:9101": "--egress=tax: TARGET \"http://localhost:9101\": this is",
		"--upstream=http://me:p%w@localhost:8080":                                "--upstream=…@localhost:8080: expected a URL",
		"--listen=8081":                        "--listen=8081: expected an address like :8081",
		"--listen=unix:s.sock":                 "--listen=unix:s.sock: expected an absolute path",
		"--listen.config.file=" + dir + "/web": "--listen.config.file=" + dir + "/web: stat",
		"--idle-timeout=-1s":                   "--idle-timeout=-1s: expected 0 or more",
		"--header-timeout=-1s":                 "--header-timeout=-1s: expected 0 or more",
		"--client-timeout=-1s":                 "--client-timeout=-1s: expected 0 or more",
		"--client-timeout=60":                  "--client-timeout=60: expected a duration with its unit",
		"--client-min-rate=-1":                 "--client-min-rate=-1: expected bytes per second",
		"--drain-delay=-1s":                    "--drain-delay=-1s: expected 0 or more",
		"--drain-timeout=-1s":                  "--drain-timeout=-1s: expected 0 or more",
		"--upstream-idle-timeout=0s":           "--upstream-idle-timeout=0s: expected a duration",
		"--shed-threshold=-0.1":                "--shed-threshold=-0.1: expected a share of the limit",
		"--shed-threshold=60":                  "--shed-threshold=60: expected a share of the limit",
		"--shed-threshold=NaN":                 "--shed-threshold=NaN: expected a share of the limit",
		"--fair-keys --shed-threshold=1":       "--fair-keys=true: expected a --shed-threshold below 1",
		"--shed-threshold=most":                "--shed-threshold=most: expected a number",
		"--bypass=healthz":                     "--bypass=healthz: expected a path that begins with a slash",
		"--endless=/*":                         "--endless=/*: expected a part of the service",
		"--route=/buy=buy":                     "--route=/buy=buy: expected PATH=NAME",
		"--route-slo=buy=1s,weight=3":          "--route-slo=buy: weight=3: expected another weight beside it",
		"--weight=3":                           "--weight=3: expected another weight beside it",
		"--weight=NaN":                         "--weight=NaN: expected a number from 0.001 to 1000",
		"--weight=-2":                          "--weight=-2: expected a number from 0.001 to 1000",
		"--route-slo=/buy=1s":                  "--route-slo=/buy: NAME: expected it without the slash, buy",
		"--endless-max=-1":                     "--endless-max=-1: expected a number of requests",
		"--refusal-status=500":                 "--refusal-status=500: expected 429 or 503",
		"--trusted-peers=lb.example":           "--trusted-peers=lb.example: expected an address",
		"--criticality-from=urgent":            "--criticality-from=urgent: expected header",
		"--key-from=ip":                        "--key-from=ip: expected header",
		"--pprof.listen=6060":                  "--pprof.listen=6060: expected an address",
		"--strip-headers --key-from=header":    "--strip-headers: removes Guard-Key, which --key-from reads; name the peers",
	} {
		_, ended, output := governorProcess(t, append([]string{"sidecar", "--service=checkout", "--slo.latency=300ms"},
			strings.Fields(flag)...)...)
		if err := <-ended; err == nil || !strings.Contains(output.String(), want) {
			t.Errorf("%s: %v, want an error with %q:\n%s", flag, err, want, output)
		}
	}
}

func TestSidecarHelpGroupsTheFlags(t *testing.T) {
	_, ended, output := governorProcess(t, "sidecar", "--help")
	<-ended
	at := -1
	for _, want := range []string{
		"The service and its limit:\n", "--shed-threshold", "The clients:\n", "--listen=", "--endless", "Trust:\n", "--bypass",
		"Stopping:\n", "--drain-delay", "The way out:\n", "--egress=", "The sidecar's own pages:\n", "--pprof.listen",
	} {
		next := strings.Index(output.String(), want)
		if next <= at {
			t.Errorf("%q is not where it belongs:\n%s", want, output)
		}
		at = next
	}
}
