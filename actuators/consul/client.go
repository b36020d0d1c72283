package consul

import (
	"context"
	"net/http"

	"github.com/hashicorp/consul/api"
)

// Client talks to a Consul agent. It is made for processes that run for months beside services that must not suffer:
//
//   - Every answer has a size limit. A value without an end costs an error, not the memory of the process.
//   - An answer without Consul's headers is an error, because any web server answers 404, which would look like a key
//     that does not exist.
//   - The token, the CA certificates and the client certificate are read again from their files if Consul refuses them,
//     and by Reload.
//   - A connection that Consul refuses, because one address has too many, is an error that says so.
//   - Its errors are one line each, without markup, and never contain credentials.
//
// It is safe for concurrent use.
type Client struct {
	*api.Client

	address   Address
	transport *transport
}

// NewClient returns a client. What config leaves open comes from the environment variables CONSUL_HTTP_ADDR,
// CONSUL_HTTP_TOKEN_FILE and so on, as for Consul's own tools. NewClient reads the files that config names, and sends
// nothing. It does not change config. An HttpClient in config provides the connections, and keeps its own TLS.
func NewClient(config *api.Config) (*Client, error) {
	c := withEnvironment(config)
	address, err := addressOf(c)
	if err != nil {
		return nil, err
	}
	if address.auth != nil {
		c.HttpAuth = address.auth
	}
	t, err := newTransport(c, address)
	if err != nil {
		return nil, err
	}
	c.Address, c.PathPrefix = address.host, address.path
	switch {
	case address.scheme == "https":
		c.Scheme = "https"
	case address.scheme == "unix":
		c.Address, c.Scheme = "localhost", "http" // the transport knows the socket
	}
	c.Token, c.TokenFile = replacedByTransport, ""
	c.HttpClient = &http.Client{Transport: t, CheckRedirect: func(*http.Request, []*http.Request) error {
		return http.ErrUseLastResponse // the token must not go elsewhere
	}}
	inner, err := api.NewClient(c)
	if err != nil {
		return nil, err
	}
	return &Client{Client: inner, address: address, transport: t}, nil
}

// replacedByTransport stands for the token that the transport adds, so that consul/api looks for none by itself.
const replacedByTransport = "-"

// Address returns where the client looks for Consul, without credentials.
func (c *Client) Address() string { return c.address.String() }

// Reload reads the files of the token and of TLS again, and says whether anything in them has changed. New connections
// use the new TLS, every new request the new token. If a file cannot be used, Reload returns an error that names it, and
// the client keeps what it has.
func (c *Client) Reload() (changed bool, err error) { return c.transport.reload() }

// CloseIdleConnections closes the connections that carry no request.
func (c *Client) CloseIdleConnections() { c.transport.CloseIdleConnections() }

// withEnvironment returns a copy of config, completed from the environment.
func withEnvironment(config *api.Config) *api.Config {
	env := api.DefaultConfig()
	if config == nil {
		return env
	}
	c := *config
	set := func(field *string, value string) {
		if *field == "" {
			*field = value
		}
	}
	set(&c.Address, env.Address)
	set(&c.Scheme, env.Scheme)
	set(&c.Namespace, env.Namespace)
	set(&c.Partition, env.Partition)
	set(&c.TLSConfig.Address, env.TLSConfig.Address)
	set(&c.TLSConfig.CAFile, env.TLSConfig.CAFile)
	set(&c.TLSConfig.CAPath, env.TLSConfig.CAPath)
	set(&c.TLSConfig.CertFile, env.TLSConfig.CertFile)
	set(&c.TLSConfig.KeyFile, env.TLSConfig.KeyFile)
	c.TLSConfig.InsecureSkipVerify = c.TLSConfig.InsecureSkipVerify || env.TLSConfig.InsecureSkipVerify
	if c.Transport == nil {
		c.Transport = env.Transport
	}
	// The order of Consul's tools: a file, then a token, from config; then the same from the environment.
	switch {
	case c.TokenFile != "" && c.TokenFile != env.TokenFile:
	case c.Token != "" && c.Token != env.Token:
		c.TokenFile = ""
	default:
		c.Token, c.TokenFile = env.Token, env.TokenFile
	}
	return &c
}

// The limits of an answer's size, in bytes.
const (
	// A transaction's or a single key's: Consul stores values of up to 512 KiB, and sends them in base64.
	mostAnswer = 1 << 20
	// An error's text.
	mostErrorText = 4 << 10
)

type limitKey struct{}

// limited sets the size limit of the answers to requests with this context.
func limited(ctx context.Context, most int64) context.Context {
	return context.WithValue(ctx, limitKey{}, most)
}

func limitOf(ctx context.Context) int64 {
	if most, ok := ctx.Value(limitKey{}).(int64); ok {
		return most
	}
	return mostAnswer
}
