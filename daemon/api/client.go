package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/control"
)

// DefaultAddress is the default address on which governor listens and where clients look for it.
const DefaultAddress = "127.0.0.1:9747"

// VersionHeader carries the daemon's version on every answer. It lets a client tell a governor from another program on
// the same port.
const VersionHeader = "Governor-Version"

const (
	clientTimeout  = 5 * time.Second
	maxAnswerBytes = 64 << 20 // an hour of decisions of a few hundred loops
)

// Client speaks the HTTP interface of one governor. It is safe for concurrent use.
type Client struct {
	base   *url.URL
	http   *http.Client
	stream *http.Client // without a timeout for the whole answer

	// UnmarshalEvent reads the data of the stream's events; nil: json.Unmarshal. Set it before the first call of Stream. A
	// program that follows hundreds of loops spends most of its time here.
	UnmarshalEvent func(data []byte, into any) error
}

// NewClient returns a client for the governor at baseURL: "http://127.0.0.1:9747", or "host:port" for plain HTTP. Every
// call except Stream has a timeout of five seconds in addition to its own context.
func NewClient(baseURL string) (*Client, error) {
	spelled := baseURL
	if !strings.Contains(baseURL, "://") {
		baseURL = "http://" + baseURL
	}
	u, err := url.Parse(baseURL)
	if err != nil || u.Host == "" || (u.Scheme != "http" && u.Scheme != "https") {
		if strings.Contains(spelled, "@") {
			spelled = "a text with credentials" // never repeated
		}
		return nil, fmt.Errorf("%q is not the address of a governor: expected something like http://%s",
			spelled, DefaultAddress)
	}
	u.Path = strings.TrimSuffix(u.Path, "/")
	// A separate transport: its idle connections end with the client, not with the process.
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.ResponseHeaderTimeout = clientTimeout
	transport.ReadBufferSize = 64 << 10 // a tick of a large fleet is a megabyte
	return &Client{
		base: u, http: &http.Client{Transport: transport, Timeout: clientTimeout}, stream: &http.Client{Transport: transport},
	}, nil
}

// Address returns the base URL of the governor, without a password.
func (c *Client) Address() string { return c.base.Redacted() }

// Close closes the idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Status returns the state of the daemon and of its dependencies.
func (c *Client) Status(ctx context.Context) (Status, error) {
	var s Status
	err := c.get(ctx, &s, nil, "status")
	return s, err
}

// Loops returns every loop, sorted by service and knob.
func (c *Client) Loops(ctx context.Context) ([]Loop, error) {
	var l []Loop
	err := c.get(ctx, &l, nil, "loops")
	return l, err
}

// Loop returns the loop of one knob of a service.
func (c *Client) Loop(ctx context.Context, service string, knob control.Knob) (Loop, error) {
	var l Loop
	err := c.get(ctx, &l, nil, "loops", service, string(knob))
	return l, err
}

// LoopsAt returns every loop as it was at an instant within the journal's reach, sorted by service and knob. Loops that
// had not decided by then are absent.
func (c *Client) LoopsAt(ctx context.Context, at time.Time) ([]Loop, error) {
	var l []Loop
	err := c.get(ctx, &l, url.Values{"at": {at.UTC().Format(time.RFC3339Nano)}}, "loops")
	return l, err
}

// Query selects decisions. Its zero value selects everything in the journal, oldest first, a thousand at a time.
type Query struct {
	Since   uint64       // a cursor: the Next of an earlier answer
	Last    int          // > 0: the newest Last entries instead
	Service string       // "": all
	Knob    control.Knob // "": all
	Notable bool         // only new states and values that moved
}

// Decisions returns entries of the journal, oldest first. To read everything, start with the zero Query, then pass the
// Next of each answer as the Since of the following call until an answer is empty. Cursors stay valid when the daemon
// restarts.
func (c *Client) Decisions(ctx context.Context, q Query) (Decisions, error) {
	v := url.Values{}
	set := func(name, value, unset string) {
		if value != unset {
			v.Set(name, value)
		}
	}
	set("since", strconv.FormatUint(q.Since, 10), "0")
	set("last", strconv.Itoa(q.Last), "0")
	set("service", q.Service, "")
	set("knob", string(q.Knob), "")
	set("notable", strconv.FormatBool(q.Notable), "false")
	var d Decisions
	err := c.get(ctx, &d, v, "decisions")
	return d, err
}

// Audit returns what people did to the loops, oldest first.
func (c *Client) Audit(ctx context.Context) (Audit, error) {
	var a Audit
	err := c.get(ctx, &a, nil, "audit")
	return a, err
}

// Order freezes, resumes or overrides the loop of one knob.
func (c *Client) Order(
	ctx context.Context, service string, knob control.Knob, kind actuators.OrderKind, command Command,
) (Receipt, error) {
	return c.post(ctx, command, "loops", service, string(knob), string(kind))
}

// OrderAll pulls (Freeze) or lifts (Resume) the kill switch.
func (c *Client) OrderAll(ctx context.Context, kind actuators.OrderKind, command Command) (Receipt, error) {
	return c.post(ctx, command, string(kind))
}

// History returns the past of the loops over the given duration, at most one point per step (0: every decision).
func (c *Client) History(ctx context.Context, since, step time.Duration) (History, error) {
	query := url.Values{"since": {since.String()}}
	if step > 0 {
		query.Set("step", step.String())
	}
	var h History
	err := c.get(ctx, &h, query, "history")
	return h, err
}

// LoopHistory returns the past of one loop over the given duration, at most one point per step (0: every decision).
func (c *Client) LoopHistory(
	ctx context.Context, service string, knob control.Knob, since, step time.Duration,
) (LoopHistory, error) {
	query := url.Values{"since": {since.String()}}
	if step > 0 {
		query.Set("step", step.String())
	}
	var h History
	if err := c.get(ctx, &h, query, "loops", service, string(knob), "history"); err != nil {
		return LoopHistory{}, err
	}
	if len(h.Loops) == 0 {
		return LoopHistory{Service: service, Knob: knob}, nil
	}
	return h.Loops[0], nil
}

// AnswerError is an answer other than success: the request, the answer, and what may help.
type AnswerError struct {
	Method  string
	URL     string
	Code    int // HTTP status
	Message string
	Hint    string
}

// Error implements error.
func (e *AnswerError) Error() string {
	return withHint(fmt.Sprintf("%s %s: %s", e.Method, e.URL, e.Message), e.Hint)
}

func (c *Client) get(ctx context.Context, into any, query url.Values, segments ...string) error {
	req, err := c.request(ctx, http.MethodGet, nil, query, segments...)
	if err != nil {
		return err
	}
	return c.ask(ctx, req, into)
}

func (c *Client) post(ctx context.Context, command Command, segments ...string) (Receipt, error) {
	var r Receipt
	body, err := json.Marshal(command)
	if err != nil {
		return r, err
	}
	req, err := c.request(ctx, http.MethodPost, bytes.NewReader(body), nil, segments...)
	if err != nil {
		return r, err
	}
	req.Header.Set("Content-Type", "application/json")
	return r, c.ask(ctx, req, &r)
}

func (c *Client) ask(ctx context.Context, req *http.Request, into any) error {
	req.Header.Set("Accept", "application/json")
	resp, err := c.http.Do(req)
	if err != nil {
		return c.unreachable(ctx, err)
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswerBytes+1))
	if err != nil {
		return c.unreachable(ctx, err)
	}
	return read(req, resp, body, into)
}

func (c *Client) request(
	ctx context.Context, method string, body io.Reader, query url.Values, segments ...string,
) (*http.Request, error) {
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	u := c.base.JoinPath(append([]string{Prefix}, segments...)...)
	u.RawQuery = query.Encode()
	req, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	req.Header.Set("User-Agent", "governor/"+Version())
	return req, nil
}

// read tells apart the possible answers of an address that somebody typed: a governor's answer, a governor's error, a
// governor of another version, another program altogether.
func read(req *http.Request, resp *http.Response, body []byte, into any) error {
	fail := func(message, hint string) error {
		return &AnswerError{
			Method: req.Method, URL: req.URL.Redacted(), Code: resp.StatusCode, Message: message, Hint: hint,
		}
	}
	served := resp.Header.Get(VersionHeader)
	ours := "this program is version " + Version() + ": use the one that came with the daemon"
	kind, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type"))

	switch {
	case resp.StatusCode == http.StatusUnauthorized, resp.StatusCode == http.StatusForbidden && kind != jsonType:
		return fail(resp.Status+": this governor asks for credentials",
			"put them in the address: https://user:password@host:port")
	case served == "" && resp.StatusCode == http.StatusBadRequest && bytes.Contains(body, []byte("HTTPS server")):
		return fail("the answer does not come from a governor ("+resp.Status+")", "it speaks TLS: try https://")
	case served == "":
		return fail("the answer does not come from a governor ("+resp.Status+")",
			"is that governor's --web.listen-address? The default is "+DefaultAddress)
	case len(body) > maxAnswerBytes:
		return fail(fmt.Sprintf("the answer is larger than %d MiB", maxAnswerBytes>>20), "")
	case kind != jsonType:
		return fail(fmt.Sprintf("governor %s does not have this resource (%s)", served, resp.Status),
			ours)
	case resp.StatusCode/100 != 2:
		var e Error
		if err := json.Unmarshal(body, &e); err != nil || e.Error == "" {
			e = Error{Error: resp.Status}
		}
		return fail(e.Error, e.Hint)
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fail(fmt.Sprintf("cannot read the answer of governor %s: %v", served, err),
			ours)
	}
	return nil
}

const jsonType = "application/json"

func (c *Client) unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	// url.Error repeats method and URL, which the message below states already.
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return &UnreachableError{Address: c.base.Redacted(), Err: err}
}

// UnreachableError says that no governor answered at Address.
type UnreachableError struct {
	Address string
	Err     error
}

// Error implements error.
func (e *UnreachableError) Error() string {
	return withHint(fmt.Sprintf("no governor answers at %s: %v", e.Address, e.Err), e.hint())
}

func (e *UnreachableError) hint() string {
	if _, ok := errors.AsType[*tls.CertificateVerificationError](e.Err); ok {
		return "to trust a private authority, set SSL_CERT_FILE=/path/to/ca.pem in the environment"
	}
	if errors.Is(e.Err, http.ErrSchemeMismatch) {
		return "try http://"
	}
	return "is `governor run` running, and is this its --web.listen-address?"
}

// Unwrap returns the network's error.
func (e *UnreachableError) Unwrap() error { return e.Err }

func withHint(message, hint string) string {
	if hint == "" {
		return message
	}
	return message + " (" + hint + ")"
}
