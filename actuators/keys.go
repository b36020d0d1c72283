package actuators

import (
	"errors"
	"fmt"
	"strings"
)

// DefaultPrefix is the default prefix of governor's keys.
const DefaultPrefix = "governor/"

// MaxServiceName is the longest service name, in bytes.
const MaxServiceName = 128

// Keys lays out governor's keys in the KV store. The zero value uses DefaultPrefix.
type Keys struct {
	Prefix string // with or without its closing slash; see ValidPrefix
}

// Leader is the key that carries the leader's session lock.
func (k Keys) Leader() string { return k.Root() + "leader" }

// Freeze is the kill switch: every loop is frozen as long as this key exists.
func (k Keys) Freeze() string { return k.Root() + "freeze" }

// Services is the prefix of the keys of all services.
func (k Keys) Services() string { return k.Root() + "services/" }

// Setting is the key of the service's Setting.
func (k Keys) Setting(service string) string { return k.Services() + service + "/setting" }

// Service is the prefix of all keys of one service: its Setting, those of its calls, and its operator key.
func (k Keys) Service(service string) string { return k.Services() + service + "/" }

// CallSetting is the key of the Setting of the calls that the service makes to callee.
func (k Keys) CallSetting(service, callee string) string {
	return k.Service(service) + "calls/" + callee + "/setting"
}

// SettingOf is CallSetting or, with the callee "", Setting.
func (k Keys) SettingOf(service, callee string) string {
	if callee == "" {
		return k.Setting(service)
	}
	return k.CallSetting(service, callee)
}

// Operator is the key of the service's freezes and overrides.
func (k Keys) Operator(service string) string { return k.Services() + service + "/operator" }

// ServiceOf returns the service whose Setting is stored at key; ok is false if key is not a Setting's.
func (k Keys) ServiceOf(key string) (service string, ok bool) { return k.under(key, "/setting") }

// CallOf returns the service and the callee whose calls' Setting is stored at key; ok is false if key is not such a key.
func (k Keys) CallOf(key string) (service, callee string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Services())
	if !ok {
		return "", "", false
	}
	parts := strings.Split(rest, "/")
	if len(parts) != 4 || parts[1] != "calls" || parts[3] != "setting" ||
		ValidServiceName(parts[0]) != nil || ValidServiceName(parts[2]) != nil {
		return "", "", false
	}
	return parts[0], parts[2], true
}

// OperatorOf returns the service whose operator key is key; ok is false if it is not an operator key.
func (k Keys) OperatorOf(key string) (service string, ok bool) { return k.under(key, "/operator") }

func (k Keys) under(key, kind string) (service string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Services())
	if !ok {
		return "", false
	}
	service, ok = strings.CutSuffix(rest, kind)
	return service, ok && ValidServiceName(service) == nil
}

// Root is the prefix of all of governor's keys, with its closing slash.
func (k Keys) Root() string {
	if k.Prefix == "" {
		return DefaultPrefix
	}
	return strings.TrimSuffix(k.Prefix, "/") + "/"
}

// ValidServiceName returns nil for a name that is safe as one segment of a key and of a URL path: 1 to 128 bytes of
// ASCII letters, digits and . _ - : @ + ~ that are not all dots. It refuses "a//b" and "../x": consul/api does not
// escape them, and the HTTP layers between it and the store would rewrite the path.
func ValidServiceName(name string) error {
	const want = "a service name: 1 to 128 ASCII letters, digits and . _ - : @ + ~, and not only dots"
	if len(name) > MaxServiceName || strings.Trim(name, ".") == "" {
		return errors.New(want)
	}
	for _, r := range name {
		letter := 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
		digit := '0' <= r && r <= '9'
		if !letter && !digit && !strings.ContainsRune("._-:@+~", r) {
			return fmt.Errorf("%s; %q is not among them", want, r)
		}
	}
	return nil
}

// ValidPrefix returns nil for a key prefix of one or more segments, each valid as a service name, separated by single
// slashes, with or without a closing one: "governor/", "teams/shop/governor". "" stands for DefaultPrefix.
func ValidPrefix(prefix string) error {
	if prefix == "" {
		return nil
	}
	for segment := range strings.SplitSeq(strings.TrimSuffix(prefix, "/"), "/") {
		if ValidServiceName(segment) != nil {
			return fmt.Errorf("key prefix %s: segment %s, expected letters, digits and . _ - : @ + ~ between single slashes, "+
				"none before the first", quote(prefix), quote(segment))
		}
	}
	return nil
}
