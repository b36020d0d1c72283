package guard

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"
)

// Call is one logical call to a dependency: a first attempt, and retries as far as they are allowed. It is the one core
// for every way to call, net/http and simulations included. A caller drives it in this order:
//
//	c := d.Start(ctx, guard.CallOptions{Idempotent: true})
//	for {
//		a, err := c.Try(instance) // deadline → breaker → bulkhead
//		if err != nil {
//			return err // a *guard.CallRefusal: nothing was sent
//		}
//		r := send()
//		a.Done(r)
//		retry, ok := c.Retry(rand.Float64(), r)
//		if !ok {
//			return r
//		}
//		sleep(retry.Wait) // or Call.GiveUp, if something else ends the call
//	}
//
// A Call is used by one goroutine at a time and allocates nothing. Its attempts may end in other goroutines. The methods
// that end in At are the same with the instant as an argument, for simulations.
type Call struct {
	d         *Dependency
	request   *request
	observed  context.Context // nil: nobody wants to know
	options   CallOptions
	deadline  time.Duration // never: none
	now       time.Duration // latest instant that the caller has given, or the clock
	attempts  int
	elsewhere bool // the one try on another instance is spent
	waiting   bool // for a retry
	group     uint8
}

// CallOptions says what a retry of a call may rely on. The zero value never sends a request twice that may have been
// executed.
type CallOptions struct {
	// Deadline is when the caller stops waiting; zero: that of the context, if it has one.
	Deadline time.Time
	// Idempotent: executing the request twice does no harm.
	Idempotent bool
	// OneShot: the body of the request can be sent only once, so it cannot be retried.
	OneShot bool
	// Inner: a layer further out retries this request. This one passes failures up. It also is inner if the request in
	// the context carries the mark of an outer layer (see MarkAttempt).
	Inner bool
	// Endless: the answer is expected to take long, because there may be nothing to say yet (a long poll). The call needs a slot
	// to be sent and gives it back at once, and however long it takes, it is not slow.
	Endless bool
	// Instances is how many instances of the dependency are known. From two on, an instance's refusal may be tried once
	// on another, at once.
	Instances int
}

// Result is how an attempt ended.
type Result struct {
	// Outcome is Success, Failure, Canceled (the caller gave up) or Ignored. A deadline that passes while the callee has
	// the request is a Failure. Only a failure or a refusal may be retried.
	Outcome Outcome
	// Refused: the callee answered that it has not executed the request and will not now, as a guard does. It is neither
	// a failure nor a latency of the callee, whatever Outcome says.
	Refused bool
	// Unsent: the request has not reached the callee (no connection). It is a Failure.
	Unsent bool
	// Elsewhere: another instance might take a request that this one refused or did not receive.
	Elsewhere bool
	// Final: a retry would not change the answer.
	Final bool
	// Advice is what the answer says beside its content.
	Advice Advice
	// RetryAfter is the least time that the callee asks to wait; 0: it says nothing.
	RetryAfter time.Duration
}

// answered says whether r is known to be an answer of the callee: a failure may be that of the way to it.
func (r Result) answered() bool {
	return r.Refused || r.Outcome == Success || r.Outcome == Failure && r.Advice.Threshold > 0
}

// Retry is a retry that Call.Retry allows. It is already charged to the budget.
type Retry struct {
	Wait      time.Duration // before the attempt
	Elsewhere bool          // on another instance than the last attempt
}

const (
	maxAttempts = 3                // of a call
	patience    = 10 * time.Second // longest wait for a retry of a call without a deadline
	// A first attempt is hopeless if less than this share of what calls take in calm is left until the deadline.
	hopelessShare = 0.25
	// A refusal has cost the callee hardly anything, so trying it on another instance costs half a token.
	elsewhereCost = 0.5
)

// outgoing is what a Dependency needs beside its bulkhead.
type outgoing struct {
	budget    retryBudget
	instances instances
	hint      hint // of the bulkhead's refusals
	refusals  [callPolicies]*CallRefusal

	requests, attempts, retries atomic.Uint64
	failures, calleeRefusals    atomic.Uint64
	refused                     [callPolicies]atomic.Uint64
	suppressed                  [suppressions]atomic.Uint64
}

// The policies that refuse an attempt, in the order in which they are asked.
const (
	byDeadline = iota
	byBreaker
	byBulkhead
	byEarly // not an attempt: the request was refused at the door
	callPolicies
)

var callReasons = [callPolicies]string{byDeadline: "deadline", byBreaker: "breaker", byBulkhead: "bulkhead", byEarly: "early"}

// What keeps a failed attempt from being retried, in the order in which it is asked. The budget comes last, because
// asking charges it.
const (
	noRetryHint = iota
	noRetryLayer
	noRetryIdempotent
	noRetryBody
	noRetryDeadline
	noRetryBudget
	suppressions
)

var suppressionReasons = [suppressions]string{
	noRetryHint: "hint", noRetryLayer: "layer", noRetryIdempotent: "not_idempotent", noRetryBody: "body",
	noRetryDeadline: "deadline", noRetryBudget: "budget",
}

// CallRefusal is the error of an attempt that was refused before anything was sent. Compare it with errors.Is. It is never
// changed, so goroutines may share it.
type CallRefusal struct {
	reason     string
	dependency string
	text       string
}

// The refusals of calls, for errors.Is.
var (
	// ErrCallDeadline refuses a call because its deadline has passed or is too near.
	ErrCallDeadline error = &CallRefusal{reason: callReasons[byDeadline], text: "guard: the deadline is too near to call"}
	// ErrBreakerOpen refuses a call because the instance has been failing, or slow.
	ErrBreakerOpen error = &CallRefusal{reason: callReasons[byBreaker], text: "guard: the breaker is open"}
	// ErrBulkhead refuses a call because as many calls to the dependency are in flight as it can take.
	ErrBulkhead error = &CallRefusal{reason: callReasons[byBulkhead], text: "guard: the bulkhead is full"}
)

// Error implements error.
func (r *CallRefusal) Error() string { return r.text }

// Is makes refusals for the same reason compare as the same error, whatever the dependency.
func (r *CallRefusal) Is(target error) bool {
	other, ok := target.(*CallRefusal)
	return ok && r.reason == other.reason && (other.dependency == "" || r.dependency == other.dependency)
}

// Reason is the policy's name in metrics: "deadline", "breaker" or "bulkhead".
func (r *CallRefusal) Reason() string { return r.reason }

// Dependency is the name of the dependency.
func (r *CallRefusal) Dependency() string { return r.dependency }

// Retryable is always false: what refused the call will refuse it again. Answer with a fallback, or pass the failure on.
func (r *CallRefusal) Retryable() bool { return false }

// ready prepares the calls to d. Refusals are made in advance, so that refusing allocates nothing.
func (o *outgoing) ready(d *Dependency) {
	refusal := func(policy int, format string, args ...any) *CallRefusal {
		text := fmt.Sprintf("guard: call to %s not sent: %s", d.name, fmt.Sprintf(format, args...))
		return &CallRefusal{reason: callReasons[policy], dependency: d.name, text: text}
	}
	o.refusals[byDeadline] = refusal(byDeadline, "the deadline has passed or is too near for an answer; "+
		"give the call more time, or answer without it")
	o.refusals[byBulkhead] = refusal(byBulkhead, "as many calls are in flight as it can take; "+
		"answer without it, and do not retry at once")
	seed := uint64(d.caller.base.UnixNano())
	o.instances.make = func(instance string) *breaker {
		return newBreaker(instance, hashKey(instance, seed), refusal(byBreaker, "the breaker of instance %q is open, "+
			"because its calls failed or were slow; answer without it, and do not retry at once", instance))
	}
}

// snapshot fills in the counters and the state of the breakers.
func (o *outgoing) snapshot(s *CallSnapshot) {
	s.Requests, s.Attempts, s.Retries = o.requests.Load(), o.attempts.Load(), o.retries.Load()
	s.Failures, s.CalleeRefusals = o.failures.Load(), o.calleeRefusals.Load()
	s.Refused, s.Suppressed = map[string]uint64{}, map[string]uint64{}
	for policy, reason := range callReasons {
		s.Refused[reason] = o.refused[policy].Load()
	}
	for i, reason := range suppressionReasons {
		s.Suppressed[reason] = o.suppressed[i].Load()
	}
	s.Breakers, s.BreakerOpened = o.instances.snapshot()
}

// Start begins a logical call for the request in ctx, if it carries one (see NewContext).
func (d *Dependency) Start(ctx context.Context, o CallOptions) Call {
	if at, ok := ctx.Deadline(); ok && o.Deadline.IsZero() {
		if o.Deadline = at; at.IsZero() { // a field that nobody has set: it has passed
			o.Deadline = at.Add(1)
		}
	}
	c := d.start(ctx, d.caller.now(), o)
	if d.caller.cfg.Observer != nil {
		c.observed = ctx
	}
	return c
}

// StartAt is Start at the instant now. Of ctx it uses the request only, not the deadline.
func (d *Dependency) StartAt(ctx context.Context, now time.Time, o CallOptions) Call {
	return d.start(ctx, now.Sub(d.caller.base), o)
}

func (d *Dependency) start(ctx context.Context, now time.Duration, o CallOptions) Call {
	d.out.requests.Add(1)
	d.out.budget.call(now, d.caller.retryRatio(now))
	c := Call{d: d, request: d.requestOf(ctx), options: o, deadline: never, now: now, group: groupOf(ctx)}
	if !o.Deadline.IsZero() {
		c.deadline = max(-never, min(o.Deadline.Sub(d.caller.base), never))
	}
	if c.request != nil && c.request.marked.Load() {
		c.options.Inner = true
	}
	return c
}

// never is an instant that does not come: half of the range, so that differences stay in it.
const never = time.Duration(1) << 62

// Try asks for one attempt on an instance of the dependency; "" is one whose instances are not known. The error is a
// *CallRefusal; nothing may be sent then. The first attempt counts from Start and reads no clock.
func (c *Call) Try(instance string) (Attempt, error) {
	if c.attempts > 0 {
		c.now = c.d.caller.now()
	}
	a, err := c.try(instance)
	if c.observed != nil {
		c.d.caller.cfg.Observer.Called(c.observed, c.decision(instance, err))
	}
	return a, err
}

// TryAt is Try at the instant now.
func (c *Call) TryAt(now time.Time, instance string) (Attempt, error) {
	c.now = now.Sub(c.d.caller.base)
	return c.try(instance)
}

func (c *Call) try(instance string) (Attempt, error) {
	defer c.stopWaiting()
	d := c.d
	if left := c.deadline - c.now; left <= 0 || left < time.Duration(hopelessShare*float64(d.calm())) {
		return Attempt{}, c.refuse(byDeadline, d.out.refusals[byDeadline])
	}
	b := d.out.instances.of(c.now, instance)
	p, ok := b.admit(c.now)
	if !ok {
		d.shortAt(c.now)
		c.request.hint()
		c.request.missed(d)
		return Attempt{}, c.refuse(byBreaker, b.refusal)
	}
	s, ok := d.acquireAt(c.now, c.request, c.group)
	if !ok {
		p.done(c.now, false, [badKinds]bool{})
		c.request.missed(d)
		if c.request != nil {
			d.hear(c.now, c.request.route, 0)
		}
		if d.out.hint.refused(c.now) {
			c.request.hint()
		}
		return Attempt{}, d.out.refusals[byBulkhead]
	}
	b.used.Store(int64(c.now))
	b.inFlight.Add(1)
	d.out.attempts.Add(1)
	c.attempts++
	c.request.sent(d, instance)
	a := Attempt{d: d, slot: s, pass: p, started: c.now, several: c.options.Instances > 1, endures: c.options.Endless}
	if a.endures {
		s.endless(c.now)
		if p.probing() { // others must not wait for its answer
			p.done(c.now, false, [badKinds]bool{})
		}
	}
	return a, nil
}

func (c *Call) refuse(policy int, r *CallRefusal) error {
	c.d.out.refused[policy].Add(1)
	return r
}

// Attempt is one admitted attempt of a call. It is a small value: copy it freely, and call Done once. Done on a copy, or
// again, only increments a counter.
type Attempt struct {
	d       *Dependency
	slot    slot
	pass    passage
	started time.Duration
	several bool // instances might have served it
	endures bool // CallOptions.Endless
	judged  bool // the breaker has its verdict
}

// Answered tells the breaker that the callee has begun to answer well, before Done: a long answer must not hold up the
// instance's way back.
func (a *Attempt) Answered() {
	if a.pass.probing() && !a.judged {
		a.answered(a.d.caller.now())
	}
}

// AnsweredAt is Answered at the instant now.
func (a *Attempt) AnsweredAt(now time.Time) {
	if a.pass.probing() && !a.judged {
		a.answered(now.Sub(a.d.caller.base))
	}
}

func (a *Attempt) answered(now time.Duration) {
	a.judge(now, true, [badKinds]bool{bySlowness: a.slow(now)})
	a.judged = true
}

// judge gives the breaker its verdict. An endless probe has given its place back already.
func (a *Attempt) judge(now time.Duration, verdict bool, bad [badKinds]bool) {
	if a.endures && a.pass.probing() {
		if verdict {
			a.pass.late(now, bad)
		}
		return
	}
	a.pass.done(now, verdict, bad)
}

func (a *Attempt) slow(now time.Duration) bool { return !a.endures && a.d.slow(now-a.started) }

// Endless gives the attempt's slot back, but not the attempt: its latency and its end count for nothing (a stream, a
// switched protocol). To the breaker it is a good call, because the callee has begun to answer, however late: a stream may
// have had nothing to say. Done must still be called when it has ended.
func (a *Attempt) Endless() { a.endless(a.d.caller.now()) }

// EndlessAt is Endless at the instant now.
func (a *Attempt) EndlessAt(now time.Time) { a.endless(now.Sub(a.d.caller.base)) }

func (a *Attempt) endless(now time.Duration) {
	if !a.judged {
		a.judge(now, true, [badKinds]bool{})
		a.judged = true
	}
	a.slot.endless(now)
}

// Done ends the attempt and frees its slot.
func (a Attempt) Done(r Result) { a.done(a.d.caller.now(), r) }

// DoneAt is Done at the instant now.
func (a Attempt) DoneAt(now time.Time, r Result) { a.done(now.Sub(a.d.caller.base), r) }

func (a Attempt) done(now time.Duration, r Result) {
	d := a.d
	switch {
	case r.Refused:
		r.Outcome = Ignored
	case r.Unsent:
		r.Outcome = Failure
	}
	if !a.slot.release(now, r.Outcome) {
		return
	}
	a.pass.breaker.inFlight.Add(-1)
	switch {
	case r.Refused || r.Outcome == Failure:
		a.slot.request.failed(d, a.pass.breaker.instance)
	case r.Outcome == Success:
		a.slot.request.answered(d)
	}
	if q := a.slot.request; q != nil && r.answered() {
		d.hear(now, q.route, r.Advice.Threshold)
	}
	if r.Refused {
		d.out.calleeRefusals.Add(1)
		d.shortAt(now)
	}
	slow, failed := a.slow(now), r.Outcome == Failure
	if failed {
		d.out.failures.Add(1)
	}
	below := r.Advice.NoRetry || r.Advice.Threshold > 0 // the failure is that of a service further down
	switch verdict := r.Outcome == Success || failed && !below || r.Outcome == Canceled && slow; {
	case a.judged:
	case failed && below && a.several && !(a.endures && a.pass.probing()):
		a.pass.doneBelow(now)
	default:
		a.judge(now, verdict, [badKinds]bool{byFailures: failed, bySlowness: slow})
	}
}

// slow says whether an attempt that took so long counts as slow: more than slowFactor times the latency target.
func (d *Dependency) slow(took time.Duration) bool {
	return took > slowFactor*time.Duration(d.pool.slow.Load())
}

// calm is the mean latency of the dependency in calm, m₀; 0 while it is not learned.
func (d *Dependency) calm() time.Duration { return time.Duration(d.pool.calm.Load()) }

// Retry asks whether a call whose last attempt ended with r may have another, after which wait, for a uniform u in
// [0, 1). A retry needs all of this:
//
//   - fewer than three attempts so far, and r is a failure or a refusal that is not final;
//   - the answer does not carry the hint not to retry;
//   - no layer further out retries;
//   - the request is idempotent, or r proves that it was not executed;
//   - the body can be sent again;
//   - after the backoff, and what the callee asks to wait, there is as much left until the deadline as a call takes in
//     calm;
//   - the budget of the dependency has a token, which is charged now.
//
// If several instances are known, the first refusal of an instance may be tried once on another without waiting, by an
// inner layer, too, and though the refusal carries the hint: it is only that instance's. It charges half a token to the
// budget, because a refusal has cost hardly anything.
func (c *Call) Retry(u float64, r Result) (Retry, bool) {
	c.now = c.d.caller.now()
	return c.retry(u, r)
}

// RetryAt is Retry at the instant now.
func (c *Call) RetryAt(now time.Time, u float64, r Result) (Retry, bool) {
	c.now = now.Sub(c.d.caller.base)
	return c.retry(u, r)
}

func (c *Call) retry(u float64, r Result) (Retry, bool) {
	unexecuted := r.Refused || r.Unsent
	if !unexecuted && r.Outcome != Failure {
		return Retry{}, false
	}
	elsewhere := unexecuted && r.Elsewhere && c.options.Instances > 1 && !c.elsewhere
	hinted := r.Advice.NoRetry && !elsewhere
	if hinted {
		c.request.hint()
	}
	if r.Final {
		return Retry{}, false
	}
	if c.attempts >= maxAttempts {
		c.request.hint() // this layer has tried enough for all
		return Retry{}, false
	}
	o := c.options
	switch {
	case hinted:
		return c.suppress(noRetryHint)
	case o.Inner && !elsewhere:
		return c.suppress(noRetryLayer)
	case !o.Idempotent && !unexecuted:
		return c.suppress(noRetryIdempotent)
	case o.OneShot:
		return c.suppress(noRetryBody)
	}
	retry := Retry{Elsewhere: elsewhere}
	if !elsewhere {
		retry.Wait = defaultBackoff.wait(c.attempts-1, u, r.RetryAfter)
	}
	if left := c.deadline - c.now; c.deadline == never && retry.Wait > patience || left-retry.Wait < max(1, c.d.calm()) {
		return c.suppress(noRetryDeadline)
	}
	cost := 1.0
	if elsewhere {
		cost = elsewhereCost
	}
	if !c.d.out.budget.take(c.now, c.d.caller.retryRatio(c.now), cost) {
		c.request.hint()
		return c.suppress(noRetryBudget)
	}
	c.elsewhere = c.elsewhere || elsewhere
	c.d.out.retries.Add(1)
	c.waiting = true
	c.request.enter(c.now)
	return retry, true
}

func (c *Call) suppress(reason int) (Retry, bool) {
	c.d.out.suppressed[reason].Add(1)
	return Retry{}, false
}

// GiveUp ends a call that waits for a retry and will not try it. Otherwise it does nothing.
func (c *Call) GiveUp() {
	if c.waiting {
		c.now = c.d.caller.now()
		c.stopWaiting()
	}
}

// GiveUpAt is GiveUp at the instant now.
func (c *Call) GiveUpAt(now time.Time) {
	c.now = now.Sub(c.d.caller.base)
	c.stopWaiting()
}

// stopWaiting ends the time that a retry waits, which counts as time in a guarded call.
func (c *Call) stopWaiting() {
	if c.waiting {
		c.waiting = false
		c.request.leave(c.now)
	}
}

// Retries says whether this layer may retry the call, and its requests should carry the mark that tells inner layers not
// to.
func (c *Call) Retries() bool {
	return !c.options.Inner && c.options.Idempotent && !c.options.OneShot
}

// Mark returns the mark that the request of the attempt in progress carries: that of this layer if it may retry, or else that of
// the layer further out which marked the request in ctx, the context of the call (see MarkAttempt).
func (c *Call) Mark(ctx context.Context) (attempt int, marked bool) {
	if c.Retries() {
		return c.attempts - 1, true
	}
	return AttemptOf(ctx)
}

// PickAt chooses an instance to try, for a uniform u in [0, 1): of two at random the one with fewer calls in flight. It
// passes over those whose breaker would refuse the call, and over except, unless there is no other. instances must not
// be empty.
func (d *Dependency) PickAt(now time.Time, instances []string, except string, u float64) string {
	return d.pick(now.Sub(d.caller.base), instances, except, u)
}

// Pick chooses an instance for the next attempt: the one that took an earlier call of the same request, so that one instance
// decides about the whole request, or else like Dependency.PickAt.
func (c *Call) Pick(instances []string, except string, u float64) string {
	if usual := c.Usual(); usual != "" && usual != except && slices.Contains(instances, usual) &&
		c.d.out.instances.of(c.now, usual).admits(c.now) {
		return usual
	}
	return c.d.pick(c.now, instances, except, u)
}

func (d *Dependency) pick(now time.Duration, instances []string, except string, u float64) string {
	n := len(instances)
	place := u * float64(n)
	i := min(max(int(place), 0), n-1)
	first := d.admitting(now, instances, except, i)
	if first < 0 {
		if instances[i] == except {
			i = (i + 1) % n
		}
		return instances[i]
	}
	if n < 3 {
		return d.lighter(now, instances, first, d.admitting(now, instances, except, (first+1)%n))
	}
	step := 1 + min(max(int((place-float64(i))*float64(n-1)), 0), n-2)
	return d.lighter(now, instances, first, d.admitting(now, instances, except, (i+step)%n))
}

// admitting returns the first instance from i on, around the end, that admits a call; -1: there is none.
func (d *Dependency) admitting(now time.Duration, instances []string, except string, i int) int {
	for k := range instances {
		at := (i + k) % len(instances)
		if name := instances[at]; name != except && d.out.instances.of(now, name).admits(now) {
			return at
		}
	}
	return -1
}

// lighter returns that of two instances that has fewer calls in flight; b < 0: there is one only. Calls that hang must not
// keep an instance out forever, so one that has not been called for neglected is next whatever is in flight there.
func (d *Dependency) lighter(now time.Duration, instances []string, a, b int) string {
	if b < 0 {
		return instances[a]
	}
	light, heavy := a, b
	if d.out.instances.of(now, instances[b]).inFlight.Load() < d.out.instances.of(now, instances[a]).inFlight.Load() {
		light, heavy = b, a
	}
	if now-time.Duration(d.out.instances.of(now, instances[heavy]).used.Load()) >= neglected {
		return instances[heavy]
	}
	return instances[light]
}

// neglected is how long an instance goes without a call because others have fewer in flight.
const neglected = 5 * time.Second

// MarkAttempt notes that the request in ctx carries the mark of a layer further out that retries: its attempt, 0 for the
// first. Guarded calls made with ctx then pass failures up, and hand the mark on. Bindings call it; it does nothing if
// ctx carries no request (see NewContext).
func MarkAttempt(ctx context.Context, attempt int) {
	if r := requestOf(ctx); r != nil {
		r.attempt.Store(int32(min(max(attempt, 0), maxMark)))
		r.marked.Store(true)
	}
}

// maxMark bounds the attempt that a request may claim.
const maxMark = 99

// AttemptOf returns the attempt with which the request in ctx is marked; ok is false without a mark.
func AttemptOf(ctx context.Context) (attempt int, ok bool) {
	r := requestOf(ctx)
	if r == nil || !r.marked.Load() {
		return 0, false
	}
	return int(r.attempt.Load()), true
}

// hint notes that a retry of the request is useless.
func (r *request) hint() {
	if r != nil {
		r.noRetry.Store(true)
	}
}
