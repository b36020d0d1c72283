// Package source has sources of Settings besides Consul, for guard's Run and Watch:
//
//	File    one Setting in a file, which consul-template, a person or a Kubernetes ConfigMap rewrites
//	Dir     the Settings of services, of their routes and calls, in a folder with the layout of the keys in Consul
//	Static  one Setting that never changes
//	Memory  Settings that this process puts there: for tests, and for a governor of one's own
//
// Each delivers the bytes of a Setting as they are, first and after each change, and each value once: the same bytes again
// are no news, or else a file that nobody writes any more would renew the lease of its values forever. Whether a Setting is
// valid, newer and for the right service is judged by who receives it, see actuators.Accept.
//
// Files are read once a second instead of watched by inotify: that works on every file system, through every symbolic link,
// for folders that come and go, and costs some microseconds.
package source

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/seed-de83e32b/governor/actuators"
)

// sorted returns the parts of a service, its own first.
func sorted[V any](parts map[actuators.Part]V) []actuators.Part {
	return slices.SortedFunc(maps.Keys(parts), actuators.Part.Compare)
}

// same compares values; nil is a Setting that does not exist, which an empty one does.
func same(a, b []byte) bool { return (a == nil) == (b == nil) && bytes.Equal(a, b) }

// told is what has been delivered.
type told map[actuators.Part][]byte

// deliver calls apply unless the value of p is the last one.
func (t told) deliver(p actuators.Part, raw []byte, apply func(p actuators.Part, raw []byte)) {
	if last, ok := t[p]; ok && same(last, raw) || !ok && raw == nil && p != (actuators.Part{}) {
		return
	}
	if t[p] = raw; raw == nil && p != (actuators.Part{}) {
		delete(t, p)
	}
	apply(p, bytes.Clone(raw))
}

// ofService is an apply for all parts that passes on the service's own.
func ofService(apply func(raw []byte)) func(actuators.Part, []byte) {
	return func(p actuators.Part, raw []byte) {
		if p == (actuators.Part{}) {
			apply(raw)
		}
	}
}

// watch calls follow, if the name of the service is valid. It blocks until ctx ends, and returns its error.
func watch(ctx context.Context, service string, follow func() error) error {
	if err := actuators.ValidServiceName(service); err != nil {
		return fmt.Errorf("watch the setting of service %q: expected %w", service, err)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return follow()
}
