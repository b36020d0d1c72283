package consul

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/hashicorp/consul/api"
)

// ErrDenied marks errors of a token that lacks a permission. The message names the rule that is missing; see
// docs/consul-acl.md for the whole policy.
var ErrDenied = errors.New("permission denied")

// The rules that governor and guard need, as they are written in a Consul ACL policy.
const (
	ruleSession     = `session_prefix "" { policy = "write" } (or session "NODE", the node of governor's agent)`
	ruleWriteKey    = `key "%s" { policy = "write" }`
	ruleReadKey     = `key "%s" { policy = "read" }`
	ruleWritePrefix = `key_prefix "%s" { policy = "write" }`
	ruleReadPrefix  = `key_prefix "%s" { policy = "read" }`
)

// explain adds to an error of consul/api what was attempted and, where a permission is missing, the rule that grants
// it.
func explain(err error, attempted, rule string) error {
	if err == nil {
		return nil
	}
	if denied(err) {
		return fmt.Errorf("%s: %w: the token lacks the rule %s: %w", attempted, ErrDenied, rule, err)
	}
	text := err.Error()
	if strings.Contains(text, "Missing node registration") || strings.Contains(text, "Missing check") {
		return fmt.Errorf("%s: the node of the Consul agent is not registered yet, as just after its start: %w",
			attempted, err)
	}
	return fmt.Errorf("%s: %w", attempted, err)
}

// denied recognises a refusal by ACL. Not every call of consul/api keeps the status code: renew has it in the text
// only, and a transaction has Consul's words per operation.
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
