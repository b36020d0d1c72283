package edge

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
)

func serve(t *testing.T, drain *Drain, config *tls.Config, handler http.HandlerFunc) (*Server, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{
		HTTP: &http.Server{
			Handler: handler, TLSConfig: config, ReadHeaderTimeout: time.Second, IdleTimeout: time.Minute,
			ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelDebug),
		},
		Listener: l, Patience: &Patience{Time: time.Minute, MinRate: 500}, Drain: drain,
	}
	s.Open()
	served := make(chan error, 1)
	go func() { served <- s.Serve() }()
	t.Cleanup(func() {
		_ = s.HTTP.Close()
		if err := <-served; err != nil {
			t.Errorf("the server ended: %v", err)
		}
	})
	return s, l.Addr().String()
}

// TestNoRequestIsLostWhileTheServerDrains: 40 clients that keep their connections send as fast as they can. A request is
// lost if it was sent on a connection and got no answer; after the port has closed, new connections are refused.
func TestNoRequestIsLostWhileTheServerDrains(t *testing.T) {
	for _, delay := range []time.Duration{0, 300 * time.Millisecond} {
		drain := NewDrain(delay, 10*time.Second)
		s, address := serve(t, drain, nil, func(w http.ResponseWriter, _ *http.Request) {
			io.WriteString(w, "done")
		})
		var clients sync.WaitGroup
		var answered, after atomic.Int64
		for range 40 {
			clients.Go(func() {
				client := http.Client{Transport: &http.Transport{}}
				defer client.CloseIdleConnections()
				for {
					r, _ := http.NewRequest(http.MethodPost, "http://"+address, strings.NewReader("x"))
					resp, err := client.Do(r)
					if op, ok := errors.AsType[*net.OpError](err); ok && op.Op == "dial" {
						return
					}
					if err != nil {
						t.Errorf("a request was lost: %v", err)
						return
					}
					if body, err := io.ReadAll(resp.Body); string(body) != "done" || err != nil {
						t.Errorf("an answer was cut: %q %v", body, err)
					}
					resp.Body.Close()
					answered.Add(1)
					if drain.Draining() {
						after.Add(1)
					}
				}
			})
		}
		waittest.Until(t, "the load is there", func() bool { return answered.Load() > 400 })
		drain.Begin(true)
		if delay > 0 && after.Load() < 40 {
			t.Errorf("%d requests were answered during the delay", after.Load())
		}
		if n := s.Close(); n != 0 {
			t.Errorf("%d requests were cut", n)
		}
		clients.Wait()
	}
}

func TestAnswersCloseTheirConnectionsWhileTheServerDrains(t *testing.T) {
	drain := NewDrain(time.Hour, time.Second)
	s, address := serve(t, drain, nil, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/hint":
			w.WriteHeader(http.StatusEarlyHints)
		case "/flush":
			http.NewResponseController(w).Flush()
		}
		io.WriteString(w, "x")
	})
	var begun sync.WaitGroup
	begun.Go(func() { drain.Begin(true) })
	waittest.Until(t, "it drains", drain.Draining)
	for _, path := range []string{"/", "/hint", "/flush"} {
		resp, err := http.Get("http://" + address + path)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		if !resp.Close {
			t.Errorf("%s: the connection stays open", path)
		}
	}
	drain.Hurry() // ends the delay
	begun.Wait()
	if n := s.Close(); n != 0 {
		t.Errorf("%d requests were cut", n)
	}
}

// TestConnectionsOfHTTP2AreToldToGo: an answer during the drain is followed by GOAWAY.
func TestConnectionsOfHTTP2AreToldToGo(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.issue(t, "server")
	write(t, dir, "cert.pem", cert)
	write(t, dir, "key.pem", key)
	write(t, dir, "web.yml", []byte(tlsFile))
	files, err := NewTLS(filepath.Join(dir, "web.yml"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	drain := NewDrain(time.Hour, time.Second)
	s, address := serve(t, drain, files.Config(), func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, r.Proto) })
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	ask := func() {
		resp, err := client.Get("https://" + address)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if body, err := io.ReadAll(resp.Body); string(body) != "HTTP/2.0" || err != nil {
			t.Errorf("%q %v", body, err)
		}
	}
	ask()
	ask()
	if n := s.open.Load(); n != 1 {
		t.Fatalf("%d connections, want one that is kept", n)
	}
	go drain.Begin(true)
	defer drain.Hurry()
	waittest.Until(t, "it drains", drain.Draining)
	ask()
	waittest.Until(t, "the connection is closed", func() bool { return s.open.Load() == 0 })
}

// TestSwitchedConnectionsBelongToTheDrain: a WebSocket may go on until the time is over, and is then cut.
func TestSwitchedConnectionsBelongToTheDrain(t *testing.T) {
	const timeout = 300 * time.Millisecond
	for _, hurry := range []bool{false, true} {
		drain := NewDrain(0, timeout)
		if hurry {
			drain.Timeout = time.Hour
		}
		s, address := serve(t, drain, nil, func(w http.ResponseWriter, r *http.Request) {
			conn, rw, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			fmt.Fprint(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
			rw.Flush()
			<-r.Context().Done()
		})
		conn, err := net.Dial("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		io.WriteString(conn, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.Contains(line, "101") {
			t.Fatal(line, err)
		}
		began := time.Now()
		drain.Begin(true)
		if hurry {
			go drain.Hurry()
		}
		if n := s.Close(); n != 1 {
			t.Errorf("%d cut, want the switched connection", n)
		}
		if took := time.Since(began); hurry && took > 5*time.Second || !hurry && took < timeout {
			t.Errorf("closing took %v", took)
		}
		if _, err := io.ReadAll(conn); err != nil {
			t.Errorf("the client was not told: %v", err)
		}
	}
}

func TestASlowHeadOfARequestIsCut(t *testing.T) {
	_, address := serve(t, NewDrain(0, time.Second), nil, func(http.ResponseWriter, *http.Request) { t.Error("it came whole") })
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	go func() {
		for range time.Tick(50 * time.Millisecond) {
			if _, err := conn.Write([]byte("G")); err != nil {
				return
			}
		}
	}()
	_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.ReadAll(conn); err != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error("the connection is still open")
	}
}

// authority issues certificates for tests.
type authority struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	pem  []byte
}

func newAuthority(t *testing.T) authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: "test authority"}, IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return authority{cert, key, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})}
}

// issue returns a certificate called name, for server and client, with its key.
func (a authority) issue(t *testing.T, name string) (cert, key []byte) {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		Subject: pkix.Name{CommonName: name}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}, a.cert, &k.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	kder, err := x509.MarshalPKCS8PrivateKey(k)
	if err != nil {
		t.Fatal(err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: kder})
}

func write(t *testing.T, dir, name string, text []byte) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

const tlsFile = "tls_server_config:\n  cert_file: cert.pem\n  key_file: key.pem\n"

func TestCertificatesAreReadAgainAndABrokenOneChangesNothing(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	replace := func(name string) {
		cert, key := ca.issue(t, name)
		write(t, dir, "cert.pem", cert)
		write(t, dir, "key.pem", key)
	}
	replace("first")
	write(t, dir, "web.yml", []byte(tlsFile))
	log := &waittest.Buffer{}
	files, err := NewTLS(filepath.Join(dir, "web.yml"), slog.New(slog.NewTextHandler(log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now()
	files.now = func() time.Time { later = later.Add(tlsRecheck); return later }
	_, address := serve(t, NewDrain(0, time.Second), files.Config(), func(w http.ResponseWriter, r *http.Request) {
		io.WriteString(w, r.Proto)
	})
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	presented := func() string {
		conn, err := tls.Dial("tcp", address, &tls.Config{RootCAs: roots})
		if err != nil {
			return err.Error()
		}
		defer conn.Close()
		return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
	}
	expect := func(what, want string, failed bool) {
		t.Helper()
		if got := presented(); got != want || files.Failed() != failed {
			t.Errorf("%s: the certificate is %q, failed %v, want %q, %v", what, got, files.Failed(), want, failed)
		}
	}
	expect("at the start", "first", false)
	replace("second")
	expect("replaced", "second", false)
	write(t, dir, "cert.pem", []byte("broken"))
	expect("broken", "second", true)
	expect("still broken", "second", true)
	if n := strings.Count(log.String(), "cannot be used"); n != 1 {
		t.Errorf("a broken file was reported %d times, want once:\n%s", n, log)
	}
	if err := os.Remove(filepath.Join(dir, "key.pem")); err != nil {
		t.Fatal(err)
	}
	expect("gone", "second", true)
	replace("third")
	expect("repaired", "third", false)
	cert, _ := ca.issue(t, "alone")
	write(t, dir, "cert.pem", cert)
	expect("a certificate without its key", "third", true)
	replace("fourth")
	write(t, dir, "web.yml", []byte("tls_server_config: ["))
	expect("a broken configuration", "third", true)
	if err := os.Remove(filepath.Join(dir, "web.yml")); err != nil {
		t.Fatal(err)
	}
	expect("no configuration", "third", true)
	write(t, dir, "web.yml", []byte(tlsFile))
	expect("all is well again", "fourth", false)
	for _, name := range []string{"cert.pem", "key.pem", "web.yml"} {
		path := filepath.Join(dir, name)
		good, err := os.ReadFile(path)
		if err == nil {
			err = errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600))
		}
		if err != nil {
			t.Fatal(err)
		}
		expect(name+" is a pipe into which nobody writes", "fourth", true)
		if err := errors.Join(os.Remove(path), os.Symlink("/dev/zero", path)); err != nil {
			t.Fatal(err)
		}
		expect(name+" has no end", "fourth", true)
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		write(t, dir, name, good)
		expect(name+" is a file again", "fourth", false)
	}

	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}}
	defer client.CloseIdleConnections()
	resp, err := client.Get("https://" + address)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); string(body) != "HTTP/2.0" {
		t.Errorf("spoke %q, want HTTP/2", body)
	}
}

func TestClientsWithoutTheRightCertificateAreTurnedAway(t *testing.T) {
	ca, other, dir := newAuthority(t), newAuthority(t), t.TempDir()
	cert, key := ca.issue(t, "server")
	write(t, dir, "cert.pem", cert)
	write(t, dir, "key.pem", key)
	write(t, dir, "ca.pem", ca.pem)
	write(t, dir, "web.yml", []byte(tlsFile+"  client_ca_file: ca.pem\n  client_auth_type: RequireAndVerifyClientCert\n"))
	files, err := NewTLS(filepath.Join(dir, "web.yml"), slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	later := time.Now()
	files.now = func() time.Time { later = later.Add(tlsRecheck); return later }
	var trust Trust
	if err := trust.AddPeer("certificate"); err != nil {
		t.Fatal(err)
	}
	_, address := serve(t, NewDrain(0, time.Second), files.Config(), func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprint(w, trust.Criticality(r))
	})
	roots := x509.NewCertPool()
	roots.AddCert(ca.cert)
	ask := func(by *authority) (string, error) {
		config := &tls.Config{RootCAs: roots}
		if by != nil {
			c, k := by.issue(t, "client")
			pair, err := tls.X509KeyPair(c, k)
			if err != nil {
				t.Fatal(err)
			}
			config.Certificates = []tls.Certificate{pair}
		}
		client := http.Client{Transport: &http.Transport{TLSClientConfig: config}}
		defer client.CloseIdleConnections()
		r, _ := http.NewRequest(http.MethodGet, "https://"+address, nil)
		r.Header.Set("Guard-Criticality", "critical")
		resp, err := client.Do(r)
		if err != nil {
			return "", err
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		return string(body), err
	}
	if got, err := ask(&ca); got != "critical" || err != nil {
		t.Errorf("a known client: %q %v", got, err)
	}
	for what, by := range map[string]*authority{"no certificate": nil, "a stranger's": &other} {
		if got, err := ask(by); err == nil {
			t.Errorf("%s: answered %q", what, got)
		}
	}
	write(t, dir, "ca.pem", other.pem)
	if got, err := ask(&other); got != "critical" || err != nil {
		t.Errorf("the authority changed: %q %v", got, err)
	}
	write(t, dir, "ca.pem", []byte("nothing"))
	if _, err := ask(&ca); err == nil {
		t.Error("a file without authorities lets everybody in")
	}
	if got, err := ask(&other); got != "critical" || err != nil {
		t.Errorf("a file without authorities: %q %v, want the last good one", got, err)
	}
}

func TestTLSFilesThatMeanSomethingElseAreRefused(t *testing.T) {
	ca, dir := newAuthority(t), t.TempDir()
	cert, key := ca.issue(t, "server")
	write(t, dir, "cert.pem", cert)
	write(t, dir, "key.pem", key)
	for text, want := range map[string]string{
		"":                                    "EOF",
		"{}":                                  "tls_server_config: missing",
		"tls_server_config: {cert_file: x}":   "key",
		"tls_server_config: {certfile: x}":    "certfile",
		tlsFile + "basic_auth_users: {a: b}":  "Authorization",
		tlsFile + "rate_limit: {burst: 1}":    "guard limits",
		tlsFile + "  client_ca_file: cert.pm": "cert.pm",
		tlsFile + "  client_auth_type: RequireAndVerifyClientCert":                               "client_ca_file",
		tlsFile + "http_server_config: {headers: {X-Frame-Options: deny}}":                       "headers",
		"tls_server_config: {cert_file: cert.pem, key_file: cert.pem}":                           "key",
		"tls_server_config: {cert_file: cert.pem, key_file: key.pem, client_auth_type: Perhaps}": "Perhaps",
	} {
		write(t, dir, "web.yml", []byte(text))
		if _, err := NewTLS(filepath.Join(dir, "web.yml"), nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", text, err, want)
		}
	}
}
