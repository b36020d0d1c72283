package consul

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Why a write did not happen, or may not have. Every error of Publish matches exactly one of these, or ErrDenied.
var (
	// ErrFenced: we no longer hold the lock. Retrying is useless until the Elector leads again.
	ErrFenced = errors.New("fenced: the leader's lock is lost")
	// ErrConflict: somebody else has written the key since it was read. WriteError.Current is its current content.
	ErrConflict = errors.New("conflict: somebody else has written the key")
	// ErrUnknown: no answer came, and reading the key afterwards settled nothing. The write may still land. Read the key
	// before the next write, or let that write end in ErrConflict.
	ErrUnknown = errors.New("outcome unknown")
	// ErrTooLarge: the Setting is larger than actuators.MaxBytes, or larger than something on the way to Consul accepts.
	ErrTooLarge = errors.New("too large")
	// ErrInvalid: the Setting breaks its own hard bounds or the order of writes. Nothing was sent.
	ErrInvalid = errors.New("invalid")
)

// WriteError is the error of Publish.
type WriteError struct {
	Service string
	Callee  string // "": the Setting of the service itself
	Kind    error  // one of the errors above
	Detail  error  // what Consul or the network said; may be nil
	// Current is the content of the key, if Kind is ErrConflict and the key could be read.
	Current *Stored
}

func (e *WriteError) Error() string {
	text := fmt.Sprintf("publish %s: %v", settingOf(e.Service, e.Callee), e.Kind)
	if e.Detail != nil {
		text += ": " + e.Detail.Error()
	}
	if c := e.Current; c != nil && c.Index == 0 {
		text += "; the key does not exist now"
	} else if c != nil {
		text += fmt.Sprintf("; it is at epoch %d, revision %d now", c.Setting.Epoch, c.Setting.Revision)
	}
	return text
}

// Unwrap returns the kind and the detail.
func (e *WriteError) Unwrap() []error { return []error{e.Kind, e.Detail} }

// settingOf names a Setting in an error.
func settingOf(service, callee string) string {
	if callee == "" {
		return fmt.Sprintf("the setting of service %q", service)
	}
	return fmt.Sprintf("the setting of the calls of service %q to %q", service, callee)
}

// Stored is the content of a Setting's key.
type Stored struct {
	Setting actuators.Setting
	Raw     []byte
	Index   uint64 // the key's ModifyIndex, for the next write; 0: the key does not exist
	Err     error  // why Raw is not a valid Setting; nil: it is valid, or there is none
}

// Fence proves inside a transaction that its holder is still the leader.
type Fence struct {
	Key     string // of the lock
	Session string // that holds it
	Epoch   uint64 // of every Setting written under it
}

// Publisher reads and writes Settings. It is safe for concurrent use.
type Publisher struct {
	client  *Client
	keys    actuators.Keys
	timeout time.Duration
	slots   chan struct{}

	mu   sync.Mutex
	seen map[string]Stored // by key, without Raw: the content at the index of the last read or write
}

// PublisherOptions has zero values that are good defaults.
type PublisherOptions struct {
	// Timeout is the timeout of a write, and of reading the key again if the answer was lost; 0 means 1.5 s.
	Timeout time.Duration
	// MaxInFlight bounds the concurrent writes, of all services; 0 means 8. So a fleet that changes in one tick does not
	// overload Consul's leader.
	MaxInFlight int
}

// NewPublisher returns a Publisher of the Settings under keys.
func NewPublisher(client *Client, keys actuators.Keys, options PublisherOptions) *Publisher {
	if options.Timeout == 0 {
		options.Timeout = 1500 * time.Millisecond
	}
	if options.MaxInFlight == 0 {
		options.MaxInFlight = 8
	}
	return &Publisher{
		client:  client,
		keys:    keys,
		timeout: options.Timeout,
		slots:   make(chan struct{}, options.MaxInFlight),
		seen:    map[string]Stored{},
	}
}

// Read returns the content of the key of a service or a route, from Consul's leader. A key that does not exist is the
// zero Stored, and a value that is not a valid Setting is Stored.Err: neither is an error of the read.
func (p *Publisher) Read(ctx context.Context, service string) (Stored, error) {
	return p.read(ctx, service, "")
}

// read is Read, also for the Setting of the calls to a callee.
func (p *Publisher) read(ctx context.Context, service, callee string) (Stored, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	key := p.keys.SettingOf(service, callee)
	pair, _, err := p.client.KV().Get(key, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return Stored{}, explain(err, "read "+settingOf(service, callee), p.rule(ruleReadPrefix))
	}
	return p.remember(key, stored(service, callee, pair)), nil
}

// Snapshot is the content of governor's keys, except the leader's, by the names of services and of routes
// ("checkout/export"). What has no such key is absent.
type Snapshot struct {
	Settings  map[string]Stored
	Calls     map[string]map[string]Stored // Settings of calls, by service and callee
	Operators map[string]Ordered
	Freeze    *actuators.Order // the kill switch; nil: nobody has pulled it
}

// Ordered is the content of a service's operator key. Err says why it cannot be understood.
type Ordered struct {
	actuators.Operator
	Err error
}

// mostServices is the size limit of reading all services at once, in bytes. The Setting and the orders of a service take
// about 2 KiB, and those of each of its calls 1 KiB.
const mostServices = 64 << 20

// ReadAll returns the content of the keys, in two requests for any number of services. It fails as a whole: a caller
// that cannot tell whether the kill switch is pulled must not act.
func (p *Publisher) ReadAll(ctx context.Context) (Snapshot, error) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	all := Snapshot{
		Settings: map[string]Stored{}, Calls: map[string]map[string]Stored{}, Operators: map[string]Ordered{},
	}
	options := (&api.QueryOptions{}).WithContext(limited(ctx, mostServices))
	var reading sync.WaitGroup
	var unread error
	reading.Go(func() {
		pair, _, err := p.client.KV().Get(p.keys.Freeze(), options)
		all.Freeze = killSwitch(pair)
		unread = explain(err, "read the kill switch "+p.keys.Freeze(), fmt.Sprintf(ruleReadKey, p.keys.Freeze()))
	})
	pairs, _, err := p.client.KV().List(p.keys.Services(), options)
	reading.Wait()
	if err != nil {
		return Snapshot{}, explain(err, "read the settings under "+p.keys.Services(), p.rule(ruleReadPrefix))
	} else if unread != nil {
		return Snapshot{}, unread
	}
	for _, pair := range pairs {
		if service, ok := p.keys.ServiceOf(pair.Key); ok {
			all.Settings[service] = p.remember(pair.Key, stored(service, "", pair))
		} else if service, callee, ok := p.keys.CallOf(pair.Key); ok {
			if all.Calls[service] == nil {
				all.Calls[service] = map[string]Stored{}
			}
			all.Calls[service][callee] = p.remember(pair.Key, stored(service, callee, pair))
		} else if service, ok := p.keys.OperatorOf(pair.Key); ok {
			operator, err := actuators.DecodeOperator(pair.Value, service)
			all.Operators[service] = Ordered{Operator: operator, Err: err}
		}
	}
	return all, nil
}

// Publish replaces the content of the key of s at index (0: no key) with s if the lock behind fence is still held, and
// returns the new index. Both conditions and the write are one transaction: all or nothing. The error is a
// *WriteError. Publish retries nothing, because the next tick has something newer to write.
//
// s must be valid, have the fence's epoch, and come later in order than what was read: epoch and revision in the store
// only ever grow.
func (p *Publisher) Publish(ctx context.Context, fence Fence, s actuators.Setting, index uint64) (uint64, error) {
	fail := func(kind, detail error) (uint64, error) {
		return 0, &WriteError{Service: s.Service, Callee: s.Callee, Kind: kind, Detail: detail}
	}
	if err := p.inOrder(fence, s, index); err != nil {
		return fail(ErrInvalid, err)
	}
	raw, err := s.Encode()
	if _, invalid := errors.AsType[actuators.Problems](err); invalid {
		return fail(ErrInvalid, err)
	} else if err != nil {
		return fail(ErrTooLarge, err)
	}

	select {
	case p.slots <- struct{}{}:
		defer func() { <-p.slots }()
	case <-ctx.Done():
		return fail(ErrUnknown, fmt.Errorf("not sent: %w", ctx.Err()))
	}

	written, werr := p.transact(ctx, fence, s, raw, index)
	if werr != nil && (errors.Is(werr, ErrUnknown) || errors.Is(werr, ErrConflict)) && ctx.Err() == nil {
		written, werr = p.settle(ctx, werr, raw, index)
	}
	if werr != nil {
		return 0, werr
	}
	p.remember(p.keys.SettingOf(s.Service, s.Callee), Stored{Setting: s, Index: written})
	return written, nil
}

// inOrder catches a write that would move the store backwards.
func (p *Publisher) inOrder(fence Fence, s actuators.Setting, index uint64) error {
	if fence.Session == "" || fence.Key == "" {
		return errors.New("no fence: only a leader writes")
	}
	if s.Epoch != fence.Epoch {
		return fmt.Errorf("epoch %d under a lock of epoch %d", s.Epoch, fence.Epoch)
	}
	p.mu.Lock()
	last, ok := p.seen[p.keys.SettingOf(s.Service, s.Callee)]
	p.mu.Unlock()
	if !ok || last.Index != index || last.Err != nil || last.Setting.Epoch > max(fence.Epoch, actuators.MaxByHand) {
		return nil // the transaction will find out; or no leader can come after what the store contains
	}
	if err := s.Follows(last.Setting); err != nil {
		return fmt.Errorf("%w; if the key holds a higher epoch, resign and lead again with a newer one", err)
	}
	if s.Epoch == last.Setting.Epoch && s.Revision == last.Setting.Revision {
		return fmt.Errorf("revision %d of epoch %d is already written", s.Revision, s.Epoch)
	}
	return nil
}

// transact sends the transaction and reads its outcome.
func (p *Publisher) transact(ctx context.Context, fence Fence, s actuators.Setting, raw []byte, index uint64) (
	uint64, *WriteError,
) {
	ctx, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	const checkSession, write = 0, 1
	ok, answer, _, err := p.client.Txn().Txn(api.TxnOps{
		checkSession: {KV: &api.KVTxnOp{Verb: api.KVCheckSession, Key: fence.Key, Session: fence.Session}},
		write:        {KV: &api.KVTxnOp{Verb: api.KVCAS, Key: p.keys.SettingOf(s.Service, s.Callee), Value: raw, Index: index}},
	}, (&api.QueryOptions{}).WithContext(ctx))

	fail := func(kind, detail error) (uint64, *WriteError) {
		return 0, &WriteError{Service: s.Service, Callee: s.Callee, Kind: kind, Detail: detail}
	}
	switch {
	case err != nil && denied(err):
		return fail(ErrDenied, refusal(err, p.rule(ruleWritePrefix)))
	case err != nil && strings.Contains(err.Error(), "too large"):
		return fail(ErrTooLarge, err) // 413: consul/api keeps only the text
	case err != nil:
		// Time-out, cut connection, 500: Consul may or may not have committed, or may still.
		return fail(ErrUnknown, hinted(err))
	case ok && len(answer.Results) == 2 && answer.Results[write].KV != nil:
		return answer.Results[write].KV.ModifyIndex, nil
	case ok:
		return fail(ErrUnknown, fmt.Errorf("%d results for 2 operations", len(answer.Results)))
	}

	// 409: a lost write. Consul lists every operation that failed; the lock outranks the rest.
	kind, words := ErrUnknown, []string{}
	for _, failed := range answer.Errors {
		words = append(words, failed.What)
		switch {
		case deniedText(failed.What):
			return fail(ErrDenied, refusal(errors.New(failed.What), p.rule(ruleWritePrefix)))
		case failed.OpIndex == checkSession:
			kind = ErrFenced
		case failed.OpIndex == write && !errors.Is(kind, ErrFenced):
			kind = ErrConflict
		}
	}
	return fail(kind, errors.New(strings.Join(words, "; ")))
}

// settle reads the key after a write whose answer was lost, or that found another index than expected: the bytes sent
// may be there. A write without an answer that is not there yet may still arrive, but not after another write, since
// its index has passed by then.
func (p *Publisher) settle(ctx context.Context, werr *WriteError, raw []byte, index uint64) (uint64, *WriteError) {
	current, err := p.read(ctx, werr.Service, werr.Callee)
	switch {
	case err != nil:
		werr.Detail = fmt.Errorf("%w; and the key could not be read: %w", werr.Detail, err)
	case string(current.Raw) == string(raw):
		return current.Index, nil
	case current.Index != index:
		werr.Kind, werr.Current = ErrConflict, &current
	}
	return 0, werr
}

func (p *Publisher) remember(key string, s Stored) Stored {
	light := s
	light.Raw = nil
	p.mu.Lock()
	defer p.mu.Unlock()
	// Reads and writes of one key may overtake each other; the store's index says which is later.
	if s.Index == 0 || s.Index >= p.seen[key].Index {
		p.seen[key] = light
	}
	return s
}

func (p *Publisher) rule(rule string) string { return fmt.Sprintf(rule, p.keys.Services()) }

func stored(service, callee string, pair *api.KVPair) Stored {
	if pair == nil {
		return Stored{}
	}
	s := Stored{Raw: pair.Value, Index: pair.ModifyIndex}
	s.Setting, s.Err = actuators.AcceptCall(pair.Value, service, callee, actuators.Setting{})
	return s
}
