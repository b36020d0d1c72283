package consul

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/seed-de83e32b/governor/actuators"
)

// Session TTLs that Consul accepts.
const (
	DefaultTTL = 10 * time.Second
	MinTTL     = 10 * time.Second
	MaxTTL     = 24 * time.Hour
)

// ValidTTL returns nil for a session TTL that Consul accepts: 10 s to 24 h. A dead leader is replaced after at most
// twice as long, since Consul doubles it.
func ValidTTL(ttl time.Duration) error {
	if ttl < MinTTL || ttl > MaxTTL {
		return fmt.Errorf("session TTL %s: expected %s to %s, the range that Consul accepts", ttl, MinTTL, MaxTTL)
	}
	return nil
}

// Holder is the value of the leader's key, as JSON: who holds the lock, or held it last where no session does.
type Holder struct {
	Instance string `json:"instance"`
	API      string `json:"api"`  // base URL of its HTTP interface
	Term     uint64 `json:"term"` // the epoch of the Settings it writes
}

// State is what an Elector knows.
type State struct {
	Leading bool
	Fence   Fence     // of the leadership; zero unless Leading
	Holder  Holder    // of the lock, this instance or another; zero where nobody holds it, or none has been read
	Since   time.Time // of the last change of Leading
	// Err is why this instance cannot take part just now; nil where it leads, or waits for the lock in good order.
	Err error
}

// ElectorOptions configure an Elector.
type ElectorOptions struct {
	Keys     actuators.Keys
	Instance string        // of this governor, in the key's value
	API      string        // base URL of its HTTP interface
	TTL      time.Duration // of the session; 0 means DefaultTTL
	Logger   *slog.Logger  // nil: silent
}

// Elector makes one of several governors the leader by a session lock. One goroutine calls Run; the other methods are
// safe for concurrent use and do not block.
//
// It uses Consul's session and KV interfaces directly, not api.Lock. Whether api.Lock has lost the lock is decided by a
// channel that closes on the first failed read of the key, while its renewal goroutine keeps the session, and so the
// lock, alive (hashicorp/consul#1162, #2371); the object then cannot be used again (#4902); and nothing ends the
// leadership while Consul cannot be reached, which is exactly when another may be elected (#9788). Here a standby has
// no session at all, so a lock can never be held by one that does not lead: a session is created to acquire the lock
// and is destroyed, not renewed and forgotten about whenever that fails or ends.
type Elector struct {
	client   *api.Client
	options  ElectorOptions
	log      *slog.Logger
	resign   chan struct{}
	orphans  map[string]bool // sessions that could not be destroyed; used by Run only
	probed   bool            // that this token can create sessions; used by Run only
	lastTerm uint64          // highest ever seen by this process; used by Run only

	mu       sync.Mutex
	state    State
	deadline time.Time       // of the leadership, on the monotonic clock
	troubles map[string]bool // reasons that were logged since Consul last did what was asked of it
	troubled time.Time       // since when
}

// NewElector returns an Elector; it does nothing before Run.
func NewElector(client *api.Client, options ElectorOptions) (*Elector, error) {
	if options.TTL == 0 {
		options.TTL = DefaultTTL
	}
	if err := ValidTTL(options.TTL); err != nil {
		return nil, err
	}
	if err := actuators.ValidPrefix(options.Keys.Prefix); err != nil {
		return nil, err
	}
	log := options.Logger
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &Elector{
		client:   client,
		options:  options,
		log:      log,
		resign:   make(chan struct{}, 1),
		orphans:  map[string]bool{},
		troubles: map[string]bool{},
		state:    State{Since: time.Now()},
	}, nil
}

// State returns what the Elector knows now.
func (e *Elector) State() State {
	e.mu.Lock()
	defer e.mu.Unlock()
	state := e.state
	// A process that was paused may be asked before Run has seen that its time is up.
	if state.Leading && !time.Now().Before(e.deadline) {
		state.Leading, state.Fence, state.Since = false, Fence{}, e.deadline
	}
	return state
}

// Fence returns what a write needs, and false while this instance does not lead.
func (e *Elector) Fence() (Fence, bool) {
	state := e.State()
	return state.Fence, state.Leading
}

// Resign gives the leadership up, if there is one, and competes again. The next leader, this instance or another, has a
// newer epoch than anything in the store: the way out where a key holds a higher epoch than the leader's own.
func (e *Elector) Resign() {
	if _, leading := e.Fence(); !leading {
		return
	}
	select {
	case e.resign <- struct{}{}:
	default:
	}
}

// Run competes for the lock until ctx ends. While it holds the lock, lead runs (nil: nothing does, and the caller asks
// Fence); lead's context ends when the leadership does, and lead should then return soon: Run waits for it before it
// gives the lock up or competes again. A lead that returns by itself resigns.
//
// The leadership ends when ctx does (the lock is then released at once), by Resign, when the lock or the session is
// lost, and a tenth of the TTL before Consul could let the session expire, counted on this machine's monotonic clock
// from when the last successful renewal was sent. That clock stands still while the machine is suspended; a leader
// that wakes up so is stopped by the fence.
func (e *Elector) Run(ctx context.Context, lead func(ctx context.Context, fence Fence)) {
	retry := backoff{first: 500 * time.Millisecond, most: 5 * time.Second}
	for ctx.Err() == nil {
		tenure, err := e.campaign(ctx)
		switch {
		case ctx.Err() != nil:
			if err == nil {
				e.giveUp(ctx, tenure)
			}
		case err != nil:
			pause := retry.next()
			e.cannot(err, pause)
			_ = sleep(ctx, pause)
		default:
			retry.reset()
			e.hold(ctx, tenure, lead)
			_ = sleep(ctx, jitter(retry.first)) // whoever resigned or was thrown out lets others go first
		}
	}
}

// tenure is one session that holds the lock.
type tenure struct {
	session string
	term    uint64
	alive   time.Time // when the last successful creation or renewal of the session was sent
}

// campaign waits until the lock is free and acquires it.
func (e *Elector) campaign(ctx context.Context) (tenure, error) {
	f := follower{kv: e.client.KV(), key: e.options.Keys.Leader(), wait: 10 * time.Second}
	for {
		pair, _, err := f.next(ctx)
		if err != nil {
			return tenure{}, explain(err, "read "+f.key, fmt.Sprintf(ruleReadPrefix, e.options.Keys.Root()))
		}
		if pair == nil || pair.Session == "" {
			e.see(Holder{})
			return e.acquire(ctx)
		}
		holder, _ := parseHolder(pair)
		e.see(holder)
		if e.orphans[pair.Session] {
			if err := e.destroy(ctx, pair.Session); err != nil {
				return tenure{}, err
			}
			continue
		}
		if !e.probed {
			// A token without the right to lead should be noticed today, not in the night when it is needed.
			session, _, err := e.createSession(ctx)
			if err != nil {
				return tenure{}, err
			}
			if err := e.destroy(ctx, session); err != nil {
				return tenure{}, err
			}
		}
		e.standBy()
	}
}

// acquire creates a session and takes the free lock with it. It tries for as long as the lock delay may last, since
// nothing tells when it is over, and gives the session back where somebody else was faster.
func (e *Elector) acquire(ctx context.Context) (tenure, error) {
	session, alive, err := e.createSession(ctx)
	if err != nil {
		return tenure{}, err
	}
	term, err := e.tryLock(ctx, session)
	for errors.Is(err, errNotYet) && time.Since(alive) < e.options.TTL/3 {
		if sleep(ctx, 100*time.Millisecond+jitter(200*time.Millisecond)) != nil {
			break
		}
		term, err = e.tryLock(ctx, session)
	}
	if err != nil {
		_ = e.destroy(context.WithoutCancel(ctx), session)
		return tenure{}, err
	}
	return tenure{session: session, term: term, alive: alive}, nil
}

var (
	errNotYet = errors.New("the lock is free but cannot be had yet")
	errTaken  = errors.New("another governor has taken the lock")
)

// tryLock takes the lock, and writes the new term with it, in one transaction that holds only if the key has not
// changed since it was read. Every leader writes its term there before it writes a Setting; so between the look at the
// terms and the lock no higher one can come into being.
func (e *Elector) tryLock(ctx context.Context, session string) (term uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	key := e.options.Keys.Leader()
	pair, _, err := e.client.KV().Get(key, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return 0, explain(err, "read "+key, fmt.Sprintf(ruleReadPrefix, e.options.Keys.Root()))
	}
	if pair != nil && pair.Session != "" {
		return 0, errTaken
	}
	term, err = e.nextTerm(ctx, pair)
	if err != nil {
		return 0, err
	}
	value, err := json.Marshal(Holder{Instance: e.options.Instance, API: e.options.API, Term: term})
	if err != nil {
		return 0, fmt.Errorf("encode the leader's key: %w", err)
	}
	unchanged := &api.KVTxnOp{Verb: api.KVCheckNotExists, Key: key}
	if pair != nil {
		unchanged = &api.KVTxnOp{Verb: api.KVCheckIndex, Key: key, Index: pair.ModifyIndex}
	}
	ok, answer, _, err := e.client.Txn().Txn(api.TxnOps{
		{KV: unchanged},
		{KV: &api.KVTxnOp{Verb: api.KVLock, Key: key, Value: value, Session: session}},
	}, (&api.QueryOptions{}).WithContext(ctx))
	switch {
	case err != nil:
		return 0, explain(err, "acquire "+key, fmt.Sprintf(ruleWriteKey, key))
	case !ok:
		for _, failed := range answer.Errors {
			if deniedText(failed.What) {
				return 0, explain(errors.New(failed.What), "acquire "+key, fmt.Sprintf(ruleWriteKey, key))
			}
		}
		return 0, errNotYet
	}
	return term, nil
}

// nextTerm returns a term above the last leader's, above every epoch in the store, whoever wrote it there, and above
// all that this process has seen, should the store have been wiped or restored from an old snapshot.
func (e *Elector) nextTerm(ctx context.Context, leader *api.KVPair) (uint64, error) {
	highest := e.lastTerm
	if leader != nil {
		if holder, err := parseHolder(leader); err == nil {
			highest = max(highest, holder.Term)
		}
	}
	services := e.options.Keys.Services()
	pairs, _, err := e.client.KV().List(services, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return 0, explain(err, "read the settings under "+services, fmt.Sprintf(ruleReadPrefix, services))
	}
	for _, pair := range pairs {
		// Only the epoch matters here, also of a Setting that is otherwise broken.
		var setting struct {
			Epoch uint64 `json:"epoch"`
		}
		if _, ok := e.options.Keys.ServiceOf(pair.Key); ok && json.Unmarshal(pair.Value, &setting) == nil &&
			setting.Epoch < actuators.MaxOrdinal {
			highest = max(highest, setting.Epoch)
		}
	}
	e.lastTerm = highest
	return highest + 1, nil
}

// hold keeps the lock until the leadership ends.
func (e *Elector) hold(ctx context.Context, t tenure, lead func(context.Context, Fence)) {
	fence := Fence{Key: e.options.Keys.Leader(), Session: t.session, Epoch: t.term}
	leading, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	select {
	case <-e.resign: // meant for an earlier leadership
	default:
	}
	e.lastTerm = t.term
	e.lead(fence, e.deadlineOf(t.alive))

	renewed := make(chan time.Time)
	lost := make(chan error, 2)
	returned := make(chan struct{})
	var helpers sync.WaitGroup
	helpers.Go(func() { lost <- e.renew(leading, t.session, renewed) })
	helpers.Go(func() { lost <- e.guardLock(leading, t.session) })
	helpers.Go(func() {
		defer close(returned)
		if lead != nil {
			lead(leading, fence)
		} else {
			<-leading.Done()
		}
	})

	expiry := time.NewTimer(time.Until(e.deadlineOf(t.alive)))
	defer expiry.Stop()
	var why error
	for why == nil {
		select {
		case <-ctx.Done():
			why = ctx.Err()
		case t.alive = <-renewed:
			deadline := e.deadlineOf(t.alive)
			e.extend(deadline)
			expiry.Reset(time.Until(deadline))
		case why = <-lost:
		case <-expiry.C:
			why = fmt.Errorf("the session could not be renewed for %s of its TTL of %s",
				time.Since(t.alive).Round(time.Millisecond), e.options.TTL)
		case <-e.resign:
			why = errors.New("resigned")
		case <-returned:
			why = errors.New("resigned: the work of the leader has ended")
		}
	}
	cancel(why)
	e.stepDown(ctx, why)
	helpers.Wait()
	e.giveUp(ctx, t)
}

// deadlineOf leaves a tenth of the TTL for the writes under way to end before Consul may give the lock away.
func (e *Elector) deadlineOf(alive time.Time) time.Time {
	return alive.Add(e.options.TTL - e.options.TTL/10)
}

// renew keeps the session alive until ctx ends or Consul does not know the session any more. A failure is retried for
// as long as the leadership lasts: one that is over in a few seconds costs nothing but a warning.
func (e *Elector) renew(ctx context.Context, session string, renewed chan<- time.Time) error {
	pause := e.options.TTL / 3
	for {
		if err := sleep(ctx, pause); err != nil {
			return err
		}
		sent := time.Now()
		request, cancel := context.WithTimeout(ctx, e.timeout())
		entry, _, err := e.client.Session().Renew(session, (&api.WriteOptions{}).WithContext(request))
		cancel()
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			pause = e.options.TTL/20 + jitter(e.options.TTL/20)
			e.failed("Leader's session not renewed; still leading", explain(err, "renew the session", ruleSession), pause)
			continue
		case entry == nil:
			return errors.New("the session is unknown to Consul: it has expired or was destroyed")
		}
		e.worked()
		pause = e.options.TTL / 3
		select {
		case renewed <- sent:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// guardLock returns when the lock is not the session's any more although the session lives: somebody has deleted the
// key or released the lock (patroni/patroni#301). Errors prove nothing; whether to go on without Consul is for renew.
func (e *Elector) guardLock(ctx context.Context, session string) error {
	f := follower{kv: e.client.KV(), key: e.options.Keys.Leader(), wait: 10 * time.Second}
	retry := backoff{first: 500 * time.Millisecond, most: 5 * time.Second}
	for {
		pair, _, err := f.next(ctx)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			if err := sleep(ctx, retry.next()); err != nil {
				return err
			}
			continue
		case pair == nil:
			return fmt.Errorf("the key %s has been deleted", f.key)
		case pair.Session != session:
			return fmt.Errorf("the lock on %s has been released or taken by somebody else", f.key)
		}
		retry.reset()
	}
}

// giveUp releases the lock and destroys the session, best effort and even where ctx has ended. The release comes first
// and by itself: a lock that is lost with its session cannot be had again before the lock delay is over.
func (e *Elector) giveUp(ctx context.Context, t tenure) {
	ctx = context.WithoutCancel(ctx)
	request, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	value, err := json.Marshal(Holder{Instance: e.options.Instance, API: e.options.API, Term: t.term})
	if err == nil {
		_, _, err = e.client.KV().Release(&api.KVPair{Key: e.options.Keys.Leader(), Value: value, Session: t.session},
			(&api.WriteOptions{}).WithContext(request))
	}
	if err != nil {
		e.failed("Lock not released; it ends with its session", err, 0)
	}
	_ = e.destroy(ctx, t.session)
}

func (e *Elector) createSession(ctx context.Context) (id string, sent time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	sent = time.Now()
	// Without health checks: the TTL alone tells that a leader is dead. With Consul's default, the node's serfHealth, a
	// few seconds of gossip trouble take the lock from a healthy leader (patroni/patroni#522), and an agent that has just
	// started has no such check to give (hashicorp/consul#14515).
	id, _, err = e.client.Session().CreateNoChecks(&api.SessionEntry{
		Name:      "governor " + e.options.Instance,
		TTL:       e.options.TTL.String(),
		LockDelay: time.Second, // the fence makes it redundant; consul/api cannot send zero
		Behavior:  api.SessionBehaviorRelease,
	}, (&api.WriteOptions{}).WithContext(ctx))
	if err != nil {
		return "", sent, explain(err, "create the session of the leader's lock", ruleSession)
	}
	e.probed = true
	return id, sent, nil
}

// destroy ends a session. One that cannot be destroyed now is remembered, in case it turns out to hold the lock.
func (e *Elector) destroy(ctx context.Context, session string) error {
	ctx, cancel := context.WithTimeout(ctx, e.timeout())
	defer cancel()
	if _, err := e.client.Session().Destroy(session, (&api.WriteOptions{}).WithContext(ctx)); err != nil {
		e.orphans[session] = true
		err = explain(err, "destroy a session of this governor", ruleSession)
		e.failed("Session not destroyed; it expires by itself", err, 0)
		return err
	}
	delete(e.orphans, session)
	return nil
}

// timeout of one request: short against the TTL, so that several fit in before a leadership ends.
func (e *Elector) timeout() time.Duration { return min(e.options.TTL/5, 5*time.Second) }

// update changes the state. Log lines are written outside of it: a slow log must not make State block.
func (e *Elector) update(change func(*State)) (before, after State) {
	e.mu.Lock()
	defer e.mu.Unlock()
	before = e.state
	change(&e.state)
	return before, e.state
}

func (e *Elector) see(holder Holder) {
	before, _ := e.update(func(s *State) { s.Holder = holder })
	if before.Holder != holder && holder != (Holder{}) {
		e.log.Info("Another governor leads", "leader", holder.Instance, "epoch", holder.Term)
	}
}

// standBy notes that this instance could lead if the lock were free.
func (e *Elector) standBy() {
	e.update(func(s *State) { s.Err = nil })
	e.worked()
}

func (e *Elector) cannot(err error, pause time.Duration) {
	if errors.Is(err, errTaken) || errors.Is(err, errNotYet) { // an ordinary race
		e.standBy()
		e.log.Debug("Lock not acquired", "err", err)
		return
	}
	e.update(func(s *State) { s.Err = err })
	e.failed("Cannot compete for the leader's lock; standing by", err, pause)
}

// failed logs what Consul did not do. An outage is one story, however many requests it costs: each reason is a warning
// once until something works again; what repeats it is for those who debug.
func (e *Elector) failed(what string, err error, pause time.Duration) {
	why := cause(err)
	e.mu.Lock()
	level := slog.LevelWarn
	if e.troubles[why] {
		level = slog.LevelDebug
	}
	if len(e.troubles) == 0 {
		e.troubled = time.Now()
	}
	e.troubles[why] = true
	e.mu.Unlock()
	args := []any{"err", err}
	if pause > 0 {
		args = append(args, "retry_in", pause.Round(time.Millisecond))
	}
	e.log.Log(context.Background(), level, what, args...)
}

// worked ends what failed began.
func (e *Elector) worked() {
	e.mu.Lock()
	over, lasted := len(e.troubles) > 0, time.Since(e.troubled)
	clear(e.troubles)
	e.mu.Unlock()
	if over {
		e.log.Info("Consul works again", "after", lasted.Round(time.Millisecond))
	}
}

func (e *Elector) lead(fence Fence, deadline time.Time) {
	e.update(func(s *State) {
		e.deadline = deadline
		*s = State{
			Leading: true,
			Fence:   fence,
			Holder:  Holder{Instance: e.options.Instance, API: e.options.API, Term: fence.Epoch},
			Since:   time.Now(),
		}
	})
	e.worked()
	e.log.Info("Leading", "epoch", fence.Epoch)
}

func (e *Elector) extend(deadline time.Time) { e.update(func(*State) { e.deadline = deadline }) }

func (e *Elector) stepDown(ctx context.Context, why error) {
	stopping := ctx.Err() != nil
	e.update(func(s *State) {
		*s = State{Since: time.Now()}
		if !stopping {
			s.Err = fmt.Errorf("stepped down: %w", why)
		}
	})
	if stopping {
		e.log.Info("Giving up the lead: stopping")
	} else {
		e.log.Warn("Stepped down; competing again", "err", why)
	}
}

func parseHolder(pair *api.KVPair) (Holder, error) {
	var holder Holder
	err := json.Unmarshal(pair.Value, &holder)
	return holder, err
}
