package actuators

import (
	"cmp"
	"errors"
	"fmt"
	"strings"
)

// DefaultPrefix is the default prefix of governor's keys.
const DefaultPrefix = "governor/"

// MaxServiceName is the longest service name, in bytes.
const MaxServiceName = 128

// MaxRoutes is how many routes of a service may have a compartment of their own: each has its own metrics and its own line
// on every screen.
const MaxRoutes = 32

// Keys lays out governor's keys in the KV store. The zero value uses DefaultPrefix. A name is that of a service or of a
// route ("checkout/export", see ValidCompartment): a route has a Setting and an operator key of its own, below the keys
// of its service, and no calls.
type Keys struct {
	Prefix string // with or without its closing slash; see ValidPrefix
}

// Leader is the key that carries the leader's session lock.
func (k Keys) Leader() string { return k.Root() + "leader" }

// Freeze is the kill switch: every loop is frozen as long as this key exists.
func (k Keys) Freeze() string { return k.Root() + "freeze" }

// Services is the prefix of the keys of all services.
func (k Keys) Services() string { return k.Root() + "services/" }

// Setting is the key of the Setting of a service or a route.
func (k Keys) Setting(name string) string { return k.Service(name) + "setting" }

// Service is the prefix of all keys of one service: its Setting and its operator key, those of its routes, and the
// Settings of its calls. With the name of a route, it is the prefix of that route's keys.
func (k Keys) Service(name string) string {
	service, route := SplitCompartment(name)
	if route == "" {
		return k.Services() + service + "/"
	}
	return k.Services() + service + "/routes/" + route + "/"
}

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

// Operator is the key of the freezes and overrides of a service or a route.
func (k Keys) Operator(name string) string { return k.Service(name) + "operator" }

// ServiceOf returns the service or the route whose Setting is stored at key; ok is false if key is not such a key.
func (k Keys) ServiceOf(key string) (name string, ok bool) { return k.under(key, "setting") }

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

// PartOf returns the service whose Setting is stored at key, and which of its Settings that is; ok is false if key is
// not a Setting's.
func (k Keys) PartOf(key string) (service string, part Part, ok bool) {
	if name, ok := k.ServiceOf(key); ok {
		service, route := SplitCompartment(name)
		return service, Part{Route: route}, true
	}
	service, callee, ok := k.CallOf(key)
	return service, Part{Callee: callee}, ok
}

// KeyOf is the key of one of the service's Settings, the inverse of PartOf.
func (k Keys) KeyOf(service string, part Part) string {
	if part.Route != "" {
		service += "/" + part.Route
	}
	return k.SettingOf(service, part.Callee)
}

// OperatorOf returns the service or the route whose operator key is key; ok is false if it is not an operator key.
func (k Keys) OperatorOf(key string) (name string, ok bool) { return k.under(key, "operator") }

func (k Keys) under(key, kind string) (name string, ok bool) {
	rest, ok := strings.CutPrefix(key, k.Services())
	if !ok {
		return "", false
	}
	switch parts := strings.Split(rest, "/"); {
	case len(parts) == 2 && parts[1] == kind:
		name = parts[0]
	case len(parts) == 4 && parts[1] == "routes" && parts[3] == kind:
		name = parts[0] + "/" + parts[2]
	}
	return name, ValidCompartment(name) == nil
}

// Part says which of a service's Settings one is: at most one of the fields is set. The zero Part is the Setting of the
// service itself.
type Part struct {
	Route  string // of the route with this name, without the service's
	Callee string // of the calls to this dependency
}

// Compare orders parts: the service's own Setting comes first, then those of its calls, then those of its routes.
func (p Part) Compare(other Part) int {
	return cmp.Or(strings.Compare(p.Route, other.Route), strings.Compare(p.Callee, other.Callee))
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

// ValidCompartment returns nil for the name of a service ("checkout"), or of one of its routes: the service, a slash and
// the route ("checkout/export"), each valid by ValidServiceName. Everything that governor steers has such a name: in a
// Setting, in the label service of guard's metrics, in orders.
func ValidCompartment(name string) error {
	service, route, of := strings.Cut(name, "/")
	if err := ValidServiceName(service); err != nil || !of {
		return err
	}
	if err := ValidServiceName(route); err != nil {
		return fmt.Errorf("after the slash the name of a route, which is valid as %w", err)
	}
	return nil
}

// SplitCompartment splits a valid name into the service and its route; "" for the service itself.
func SplitCompartment(name string) (service, route string) {
	service, route, _ = strings.Cut(name, "/")
	return service, route
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
