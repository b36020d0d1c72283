package edge

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/prometheus/exporter-toolkit/web"
	"go.yaml.in/yaml/v3"
)

// tlsRecheck is how long a certificate may be used before its files are read again, at the next handshake.
const tlsRecheck = time.Second

// TLS keeps the TLS configuration of a port up to date with its files: a web configuration file of Prometheus's
// exporter-toolkit, the certificate, its key, and the authorities of client certificates. What cannot be read, or does
// not fit together, changes nothing: the last good configuration stays. It is safe for concurrent use.
type TLS struct {
	file string
	log  *slog.Logger
	now  func() time.Time

	mu      sync.Mutex
	good    *tls.Config
	seen    [sha256.Size]byte // the files of the last attempt
	checked time.Time
	failed  bool
}

// NewTLS reads file. It is an error if there is no valid TLS configuration in it, or anything that does not apply to a
// port for the clients of a service.
func NewTLS(file string, log *slog.Logger) (*TLS, error) {
	t := &TLS{file: file, log: log, now: time.Now}
	config, stamp, err := t.read()
	if err != nil {
		return nil, err
	}
	t.good, t.seen, t.checked = config, stamp, t.now()
	return t, nil
}

// Config returns the configuration of the server, which asks for the current one at every handshake.
func (t *TLS) Config() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	config := t.good.Clone()
	config.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return t.current(), nil }
	return config
}

// Failed says whether the files changed into something that cannot be used.
func (t *TLS) Failed() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *TLS) current() *tls.Config {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if now.Sub(t.checked) < tlsRecheck {
		return t.good
	}
	t.checked = now
	config, stamp, err := t.read()
	if stamp == t.seen {
		return t.good
	}
	t.seen, t.failed = stamp, err != nil
	if err != nil {
		t.log.Warn("The new TLS files cannot be used; the last ones stay in use", "file", t.file, "err", err)
		return t.good
	}
	t.good = config
	t.log.Info("The new TLS files are in use", "file", t.file)
	return config
}

// largestFile is the largest file that is read, in bytes: bundles of authorities have a few hundred kilobytes.
const largestFile = 4 << 20

// readFile reads a file that is read again and again, while handshakes wait: it must not be one that never ends, or that
// somebody has to write first.
func readFile(name string) ([]byte, error) {
	info, err := os.Stat(name)
	switch {
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, fmt.Errorf("%s: expected a regular file; this is a directory, a pipe or a device", name)
	case info.Size() > largestFile:
		return nil, fmt.Errorf("%s: expected at most %d bytes, not %d", name, largestFile, info.Size())
	}
	return os.ReadFile(name)
}

var noAuthorities = x509.NewCertPool()

// webConfig is the part of a web configuration file that applies.
type webConfig struct {
	TLS  web.TLSConfig `yaml:"tls_server_config"`
	HTTP struct {
		HTTP2   *bool             `yaml:"http2"`
		Headers map[string]string `yaml:"headers"`
	} `yaml:"http_server_config"`
	Users     map[string]string `yaml:"basic_auth_users"`
	RateLimit map[string]any    `yaml:"rate_limit"`
}

// read returns the configuration and a stamp of all that it was made from.
func (t *TLS) read() (config *tls.Config, stamp [sha256.Size]byte, err error) {
	all := sha256.New()
	text, err := readFile(t.file)
	fmt.Fprintf(all, "%q %v ", text, err)
	defer func() { all.Sum(stamp[:0]) }()
	if err != nil {
		return nil, stamp, err
	}
	c := webConfig{TLS: web.TLSConfig{MinVersion: tls.VersionTLS12, MaxVersion: tls.VersionTLS13}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	decoder.KnownFields(true)
	if err := decoder.Decode(&c); err != nil {
		return nil, stamp, err
	}
	switch {
	case len(c.Users) > 0:
		return nil, stamp, errors.New("basic_auth_users: the clients' Authorization header is for the service; leave it out")
	case len(c.HTTP.Headers) > 0:
		return nil, stamp, errors.New("http_server_config.headers: answers pass as the service gives them; leave it out")
	case len(c.RateLimit) > 0:
		return nil, stamp, errors.New("rate_limit: the guard limits the clients; leave it out")
	case !c.TLS.IsEnabled():
		return nil, stamp, errors.New("tls_server_config: missing; expected cert_file and key_file")
	}
	c.TLS.SetDirectory(filepath.Dir(t.file))
	var unreadable error
	for _, file := range []string{c.TLS.TLSCertPath, c.TLS.TLSKeyPath, c.TLS.ClientCAs} {
		if file != "" {
			text, err := readFile(file)
			fmt.Fprintf(all, "%q %v ", text, err)
			if !errors.Is(err, fs.ErrNotExist) { // of that, ConfigToTLSConfig tells more
				unreadable = cmp.Or(unreadable, err)
			}
		}
	}
	if unreadable != nil {
		return nil, stamp, unreadable
	}
	config, err = web.ConfigToTLSConfig(&c.TLS)
	if err != nil {
		return nil, stamp, err
	}
	cert, err := config.GetCertificate(nil)
	if err != nil {
		return nil, stamp, err
	}
	if config.ClientAuth >= tls.VerifyClientCertIfGiven && (config.ClientCAs == nil || config.ClientCAs.Equal(noAuthorities)) {
		return nil, stamp, errors.New("tls_server_config.client_ca_file: no certificate in it; expected those of the clients' " +
			"authorities, in PEM")
	}
	config.GetCertificate, config.Certificates = nil, []tls.Certificate{*cert}
	config.NextProtos = []string{"h2", "http/1.1"}
	if c.HTTP.HTTP2 != nil && !*c.HTTP.HTTP2 {
		config.NextProtos = []string{"http/1.1"}
	}
	return config, stamp, nil
}
