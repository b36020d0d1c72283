package consul

import (
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"regexp"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrDenied marks errors of a request that Consul refused for its token, or a proxy in between for its credentials. If
// the token lacks a rule, the message names it; see docs/consul-acl.md for the whole policy.
var ErrDenied = errors.New("permission denied")

// ErrUnknownToken marks the errors among those of ErrDenied for which the token itself is the reason, not a rule.
var ErrUnknownToken = errors.New("the token is unknown to Consul")

// errNotConsul marks an answer without the headers that Consul always sends, even with an empty answer.
var errNotConsul = errors.New("the answer is not from Consul: is this the address of a Consul agent's HTTP API?")

// The rules that governor and guard need, as written in a Consul ACL policy.
const (
	ruleSession     = `session_prefix "" { policy = "write" } (or session "NODE", the node of governor's agent)`
	ruleWriteKey    = `key "%s" { policy = "write" }`
	ruleReadKey     = `key "%s" { policy = "read" }`
	ruleWritePrefix = `key_prefix "%s" { policy = "write" }`
	ruleReadPrefix  = `key_prefix "%s" { policy = "read" }`
	ruleListPrefix  = `key_prefix "%s" { policy = "list" }`
)

// explain adds to an error of consul/api what was attempted and, if a permission is missing, the rule that grants it.
func explain(err error, attempted, rule string) error {
	if err == nil {
		return nil
	}
	if denied(err) {
		return fmt.Errorf("%s: %w", attempted, refusal(err, rule))
	}
	text := err.Error()
	if strings.Contains(text, "Missing node registration") || strings.Contains(text, "Missing check") {
		return fmt.Errorf("%s: the node of the Consul agent is not registered yet (has it just started?): %w",
			attempted, err)
	}
	return fmt.Errorf("%s: %w", attempted, hinted(err))
}

// refusal says why Consul denied a request, by Consul's own words: whoever is told that a rule is missing looks for
// hours if it is the token.
func refusal(err error, rule string) error {
	switch text := err.Error(); {
	case unknownToken(text):
		return fmt.Errorf("%w: %w: it was deleted, has expired, or is from another Consul; put a valid one into the token "+
			"file, which is read again by itself, or set the token and restart: %w", ErrDenied, ErrUnknownToken, err)
	case strings.Contains(text, "ACL support disabled"):
		return fmt.Errorf("%w: ACLs are disabled in this Consul: %w", ErrDenied, err)
	case strings.Contains(text, "Permission denied"):
		return fmt.Errorf("%w: the token lacks the rule %s: %w", ErrDenied, rule, err)
	}
	return fmt.Errorf("%w, but not by Consul's ACLs (is a proxy in between that asks for other credentials?): %w",
		ErrDenied, err)
}

func unknownToken(text string) bool { return strings.Contains(text, "ACL not found") }

// lacksRule says whether another token, or a further rule, is all that is missing.
func lacksRule(err error) bool {
	return denied(err) && strings.Contains(err.Error(), "Permission denied")
}

// hinted adds what to check to an answer that Consul never gives.
func hinted(err error) error {
	status, _ := errors.AsType[api.StatusError](err)
	switch text := err.Error(); {
	case errors.Is(err, errNotConsul), errors.Is(err, errTooLarge):
		return err
	case tooManyConnections(err):
		return fmt.Errorf("%w: Consul accepts no further connection from this address (limits.http_max_conns_per_client in "+
			"Consul's configuration, 200 by default)", err)
	case status.Code == http.StatusTooManyRequests:
		return fmt.Errorf("%w (limits.request_limits in Consul's configuration)", err)
	case status.Code == http.StatusNotFound, status.Code == http.StatusMethodNotAllowed,
		status.Code == http.StatusNotImplemented, strings.Contains(text, "404 page not found"),
		strings.Contains(text, "invalid character '<'"):
		return fmt.Errorf("%w (is this the address of a Consul agent's HTTP API?)", err)
	case strings.Contains(text, "HTTP response to HTTPS client"), strings.Contains(text, "HTTP request to an HTTPS"):
		return fmt.Errorf("%w (http or https? check the scheme of Consul's address)", err)
	}
	return err
}

// tooManyConnections recognizes Consul's answer to a connection beyond the number that one address may have.
func tooManyConnections(err error) bool {
	status, _ := errors.AsType[api.StatusError](err)
	return status.Code == http.StatusTooManyRequests && strings.Contains(status.Body, "concurrent connections")
}

var sourcePort = regexp.MustCompile(`:\d+->`)

// cause is what the requests of one outage have in common: the error without the connection's own port, and without the
// request if it does not matter because no answer came or the server failed.
func cause(err error) string {
	text := err.Error()
	if request, ok := errors.AsType[*url.Error](err); ok {
		text = request.Err.Error()
	} else if status, ok := errors.AsType[api.StatusError](err); ok && status.Code >= 500 {
		text = status.Error()
	}
	return sourcePort.ReplaceAllString(text, "->")
}

// denied recognizes a refusal by ACL. Not every call of consul/api keeps the status code: renew has it only in the
// text, and a transaction has Consul's words per operation.
func denied(err error) bool {
	if status, ok := errors.AsType[api.StatusError](err); ok {
		return status.Code == http.StatusForbidden || status.Code == http.StatusUnauthorized
	}
	return deniedText(err.Error())
}

func deniedText(text string) bool {
	for _, sign := range []string{"Permission denied", "ACL not found", "response code: 403", "response code: 401"} {
		if strings.Contains(text, sign) {
			return true
		}
	}
	return false
}
