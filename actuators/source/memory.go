package source

import (
	"context"
	"maps"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

// Memory holds Settings in memory. The zero value is empty and ready to use. It implements guard's Source and PartSource, is
// safe for concurrent use, and must not be copied.
type Memory struct {
	mu      sync.Mutex
	values  map[string]map[actuators.Part][]byte // by service
	changed chan struct{}                        // closed at the next change
}

// Set stores a Setting for its service or route or, with a Callee, for the calls. The error is that of Setting.Encode. For a
// reader to accept it, it needs a higher Revision than the last one.
func (m *Memory) Set(s actuators.Setting) error {
	raw, err := s.Encode()
	if err != nil {
		return err
	}
	service, route := actuators.SplitCompartment(s.Service)
	m.SetRaw(service, actuators.Part{Route: route, Callee: s.Callee}, raw)
	return nil
}

// SetRaw stores any bytes as one of the Settings of the service.
func (m *Memory) SetRaw(service string, part actuators.Part, raw []byte) {
	m.change(service, func(of map[actuators.Part][]byte) { of[part] = append([]byte{}, raw...) })
}

// Delete removes one of the Settings of the service.
func (m *Memory) Delete(service string, part actuators.Part) {
	m.change(service, func(of map[actuators.Part][]byte) { delete(of, part) })
}

func (m *Memory) change(service string, change func(of map[actuators.Part][]byte)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.values == nil {
		m.values = map[string]map[actuators.Part][]byte{}
	}
	if m.values[service] == nil {
		m.values[service] = map[actuators.Part][]byte{}
	}
	change(m.values[service])
	if m.changed != nil {
		close(m.changed)
		m.changed = nil
	}
}

// read returns the Settings of the service, and what is closed when they may have changed.
func (m *Memory) read(service string) (map[actuators.Part][]byte, <-chan struct{}) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.changed == nil {
		m.changed = make(chan struct{})
	}
	return maps.Clone(m.values[service]), m.changed
}

// Watch implements guard.Source. Of several changes in quick succession, the last may be the only one delivered.
func (m *Memory) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	return m.watch(ctx, service, ofService(apply))
}

// WatchParts implements guard.PartSource.
func (m *Memory) WatchParts(ctx context.Context, service string, apply func(part actuators.Part, raw []byte)) error {
	return m.watch(ctx, service, apply)
}

func (m *Memory) watch(ctx context.Context, service string, apply func(p actuators.Part, raw []byte)) error {
	return watch(ctx, service, func() error {
		told := told{}
		for {
			values, changed := m.read(service)
			told.deliver(actuators.Part{}, values[actuators.Part{}], apply)
			for _, p := range sorted(values) {
				told.deliver(p, values[p], apply)
			}
			for _, p := range sorted(told) {
				told.deliver(p, values[p], apply)
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-changed:
			}
		}
	})
}

// Static is a source of one Setting that stays. It renews the lease as a governor would that sees no reason for a change: it
// delivers the Setting with the next Revision after each third of the lease. It implements guard.Source.
type Static actuators.Setting

// leastRenewal bounds the rate of a lease of next to nothing.
const leastRenewal = 100 * time.Millisecond

// Watch implements guard.Source. For another service than the Setting's there is none. If the Setting is invalid, Watch returns
// the error of its Encode at once.
func (s Static) Watch(ctx context.Context, service string, apply func(raw []byte)) error {
	return watch(ctx, service, func() error {
		setting := actuators.Setting(s)
		if setting.Service != service || setting.Callee != "" {
			apply(nil)
			<-ctx.Done()
			return ctx.Err()
		}
		for {
			raw, err := setting.Encode()
			if err != nil {
				return err
			}
			apply(raw)
			third := time.Duration(setting.LeaseSeconds / 3 * float64(time.Second))
			if err := wait.For(ctx, max(third, leastRenewal)); err != nil {
				return err
			}
			setting.Revision++
		}
	})
}
