// Package guard keeps a service useful under overload. It runs inside the service, or in front of it as a sidecar. For each
// request it decides whether to admit it, and for each call to another service whether to make it. What it does not admit it
// refuses at once: there is no queue. It is the final control element of governor's loop, and works without governor, too.
//
// # The five patterns
//
//	              the way in                                      the way out
//
//	            ┌─────── Guard ───────┐                   ┌────────── Dependency ─────────┐
//	request ──► limit ──► rate ──► shed ──► handler ──► retry ──► breaker ──► bulkhead ──► other service
//	              └────────┴────────┴──► Refusal            └─────────┴────────────┴──► CallRefusal
//	                503, 429, Retry-After                     nothing was sent
//
// Each pattern answers one question:
//
//   - Try again, but when? Exponential backoff: three attempts at most, full jitter, a budget of a tenth of the calls, one
//     layer that retries, and none where the callee has no room. See [Call.Retry].
//   - Is it worth calling? A circuit breaker for each instance of a dependency. See [ErrBreakerOpen].
//   - How much may one neighbor take? A bulkhead: a limit on the calls to a [Dependency], so that one that hangs does not take
//     all slots of its callers. Routes with an SLO of their own have compartments under one roof, see [Route]. APIs and tenants
//     have fair shares of what the service completes, see [Config.FairKeys].
//   - What pace is fair? A rate limit for the whole fleet, of which each instance has its part. See [ErrRate].
//   - Whom do we refuse first? Load shedding: a filling service refuses the least important requests first, by [Criticality]
//     and by a [Rank] that travels with the request. Each answer says what would be refused, see [Threshold], so that callers
//     refuse it at their own doors.
//
// They stand on the limit on requests in flight, which answers how much the service can take. Two layers move it. Every
// 250 ms, the reflex compares the mean latency of admitted requests with its setpoint. Every few seconds, governor publishes a
// Setting with the latency target, the ceiling and the bounds of the reflex, the rate and the shed threshold. The time that a
// request spends in guarded calls is not held against the service. The latency of single requests and percentiles are ignored,
// because they say little about how much is waiting.
//
// A request passes the cheapest policy first. One that a policy refuses takes nothing from another: only a request that has a
// slot spends a token.
//
// # A first program
//
//	g, err := guard.New(guard.Config{Service: "checkout", SLO: 300 * time.Millisecond})
//	if err != nil {
//		log.Fatal(err)
//	}
//	client := &http.Client{Transport: guardhttp.Transport(g.Dependency("payments"), nil)} // for calls to payments
//	log.Fatal(http.ListenAndServe(":8080", guardhttp.New(g, mux)))
//
// Make the calls with the context of the request. Without HTTP, [Guard.Do] is a request:
//
//	err := g.Do(ctx, guard.Default, func(ctx context.Context) error { return work(ctx) })
//
// To follow governor, also run [Guard.Run] in a goroutine.
//
// # What to rely on
//
// The package is a guest in its host. It starts no goroutine (the reflex steps inside Acquire and Release when its time has
// come), and allocates nothing to admit or refuse a request. Without governor it keeps the last good Setting for a lease, and then
// drifts to its fallback. It never acts on doubt: a Setting that is blank, damaged, older than the one in force or outside its
// own bounds changes nothing but a counter. A request that does not end gives its slot back: at once if [Permit.Endless] declares
// it, else when the guard finds it.
//
// A [Guard] and a [Dependency] may be used by several goroutines at a time, a [Permit] and a [Call] by one. Another goroutine than
// the one that acquired a permit may release it. Methods that end in At take the instant as an argument, for simulations and
// replays; the others read the clock.
//
// # Where to look
//
//   - Set up: [New], [Config], [Route].
//   - Settings: [Guard.Run] and [Source], [PartSource], [Guard.Apply], [Guard.ApplyRoute]; [Watch] for a limiter or a pool that is
//     not a guard.
//   - Requests: [Guard.Do], or [Guard.Acquire] and [Permit.Release] with an [Outcome]; for users and tenants [Guard.DoFor] and
//     [Guard.AcquireFor]; for requests that last [Permit.Endless], [Guard.AdmitEndless] and [Permit.Pause]. What is refused is a
//     [Refusal].
//   - Calls: [Guard.Dependency] with a [CallOption] ([CallTarget], [MaxCalls]), [Dependency.Start] with [CallOptions]; then a
//     [Call] with its [Attempt], [Result] and [Retry]. What is refused is a [CallRefusal].
//   - Inside a handler: [Optional] for work that may be left out, [WithGroup] for calls at the same time.
//   - What guards tell each other: [Guard.Admit] with an [Arrival], [NewContext], [OriginOf], [AdviceOf], [AdviceAt], [Advice],
//     [LevelOf], [MarkAttempt], [AttemptOf], [Criticalities], [ParseCriticality]. Bindings need these, services do not.
//   - To look inside: [Guard.Snapshot] with [Snapshot], [CallSnapshot], [Latency], [CutShort] and [Roof]; [Guard.Load]; an
//     [Observer] hears each [Decision] and [CallDecision].
//
// The bindings are packages of their own: guardhttp (net/http), guardgrpc (gRPC), guardprom (Prometheus) and guardotel
// (OpenTelemetry). Sources of Settings are in actuators/consul and actuators/source. This package imports only the standard
// library. A page for each pattern, with its figures and its limits, is linked from docs/guard.md in the repository.
package guard
