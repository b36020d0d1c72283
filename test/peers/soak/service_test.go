package soak_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/guard"
)

const (
	keys         = 1_000_000
	entries      = 2000 // more than a guard knows apart, and so are the routes
	routes       = 1000
	dependencies = 8
	pods         = 20                     // instances of a dependency at one time
	podEvery     = 100 * time.Millisecond // one of them is replaced: more in a half than a guard remembers

	slo     = 300 * time.Millisecond
	took    = 20 * time.Millisecond // by a request of an idle service
	carries = 2000                  // requests per second that the service can do
	calm    = carries / 2
	flood   = carries * 3
	phase   = 45 * time.Second // calm, and then overload as long

	scrape  = 5 * time.Second
	workers = 4
	batch   = 20 * time.Millisecond // the workers wait for each other after so long
)

// service is a guarded service, and all that calls it. Its clock stands still while the workers are at a batch: one that
// the machine lets wait must not seem to hold its requests for seconds.
type service struct {
	guard        *guard.Guard
	dependencies []*guard.Dependency
	base         time.Time
	now          atomic.Int64 // since base
	seen         func(key string)
	arrivals     atomic.Int64
	refused      atomic.Int64
	revision     uint64

	first, second uint64 // heap, in bytes
	snapshot      guard.Snapshot
}

func (s *service) String() string {
	return fmt.Sprintf("%d requests, %d of them refused, in %v of the guard's time; heap %d bytes after the first half, "+
		"%d after the second", s.arrivals.Load(), s.refused.Load(), time.Duration(s.now.Load()), s.first, s.second)
}

func (s *service) grown() int64 { return int64(s.second) - int64(s.first) }

// soak runs two halves, each for half of so long at least and until it has had as many keys as it is told. Either ends
// after an overload and a calm, when all requests have ended.
func soak(t *testing.T, long time.Duration, distinct int64, seen func(key string)) *service {
	t.Helper()
	s := &service{base: time.Unix(1_700_000_000, 0), seen: seen}
	var err error
	s.guard, err = guard.New(guard.Config{
		Service: "checkout", SLO: slo, FairKeys: true,
		Now: func() time.Time { return s.base.Add(time.Duration(s.now.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range dependencies {
		s.dependencies = append(s.dependencies, s.guard.Dependency("callee-"+strconv.Itoa(i)))
	}
	s.first = s.half(t, long/2, distinct)
	s.second = s.half(t, long/2, distinct)
	s.snapshot = s.guard.Snapshot()
	return s
}

// half returns the heap after a collection, in bytes.
func (s *service) half(t *testing.T, long time.Duration, distinct int64) uint64 {
	t.Helper()
	began, before := time.Now(), s.arrivals.Load()
	for time.Since(began) < long || s.arrivals.Load()-before < 2*distinct { // at most half are of the loud tenant
		s.set(t)
		var held [workers][]request
		s.traffic(&held, calm)
		s.traffic(&held, flood)
		s.traffic(&held, 0)
		for _, h := range held {
			if len(h) > 0 {
				t.Fatalf("%d requests have not ended in %v", len(h), phase)
			}
		}
	}
	runtime.GC()
	runtime.GC() // a sync.Pool keeps what it held for one collection
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// set puts a Setting in force, whose lease runs out before the next.
func (s *service) set(t *testing.T) {
	t.Helper()
	s.revision++
	raw, err := actuators.Setting{
		Schema: actuators.Schema, Service: "checkout", Epoch: 1, Revision: s.revision, LeaseSeconds: 30, Reason: "soak",
		Concurrency: &actuators.Concurrency{
			Limit: 100, Ceiling: 400, LatencyTargetSeconds: 0.1, Fallback: 60 + int(s.revision%20), Min: 10, Max: 400,
		},
		Shed: &actuators.Shed{Threshold: 0.5 + 0.1*float64(s.revision%2), Fallback: 0.6, Min: 0, Max: 1},
	}.Encode()
	if err == nil {
		err = s.guard.Apply(raw)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// request is one in flight.
type request struct {
	permit guard.Permit
	call   *guard.Attempt
	end    time.Duration
}

// traffic brings so many requests per second, for one phase.
func (s *service) traffic(all *[workers][]request, perSecond int) {
	from := time.Duration(s.now.Load())
	for now := from; now < from+phase; now += batch {
		var group sync.WaitGroup
		for i := range all {
			group.Go(func() { all[i] = s.work(all[i], now, perSecond) })
		}
		group.Wait()
		s.now.Store(int64(now + batch))
		if now%scrape == 0 {
			s.guard.Snapshot()
		}
	}
}

// work ends what is due and brings a worker's part of the requests of a batch.
func (s *service) work(held []request, now time.Duration, perSecond int) []request {
	at := s.base.Add(now)
	held = slices.DeleteFunc(held, func(h request) bool {
		if h.end > now {
			return false
		}
		outcome := guard.Success
		if rand.IntN(20) == 0 {
			outcome = guard.Outcome(rand.IntN(4))
		}
		if h.call != nil {
			h.call.DoneAt(at, guard.Result{Outcome: outcome, Refused: rand.IntN(50) == 0})
		}
		h.permit.ReleaseAt(at, outcome)
		return true
	})
	for range perSecond * int(batch/time.Millisecond) / 1000 / workers {
		if h, ok := s.arrive(now, perSecond); ok {
			held = append(held, h)
		}
	}
	return held
}

// arrive brings one request, and says whether it was admitted.
func (s *service) arrive(now time.Duration, perSecond int) (h request, ok bool) {
	n, at := s.arrivals.Add(1), s.base.Add(now)
	key := "tenant-" + strconv.FormatInt(n%keys, 10)
	entry := "front/" + strconv.Itoa(rand.IntN(entries))
	if perSecond == flood && n%3 == 0 {
		key, entry = "loud", "front/loud"
	}
	s.seen(key)
	arrival := guard.Arrival{
		Criticality: guard.Criticality(rand.IntN(4)), Key: key, Entry: entry, Route: "/" + strconv.Itoa(rand.IntN(routes)),
	}
	if n%10 == 0 { // it makes four calls that belong together
		arrival.Rank = guard.Rank{ID: rand.Uint32(), Group: 4, Place: rand.Uint32(), Drawn: true}
	}
	if n%100 == 0 {
		arrival.Early = 3
	}
	permit, err := s.guard.AdmitAt(at, arrival)
	if err != nil {
		s.refused.Add(1)
		s.guard.RefusalAdviceAt(at, arrival)
		return h, false
	}
	inFlight, _ := s.guard.Load()
	slower := max(1, float64(inFlight)/(carries*took.Seconds()))
	h = request{permit: permit, end: now + time.Duration(float64(took)*slower*(0.5+rand.Float64()))}
	if n%500 == 0 { // an event stream
		permit.EndlessAt(at)
		h.end += time.Second
	}
	if n%2 == 0 {
		d := s.dependencies[rand.IntN(dependencies)]
		pod := int(now/podEvery) + rand.IntN(pods)
		c := d.StartAt(guard.NewContext(context.Background(), permit), at, guard.CallOptions{Idempotent: true})
		if a, err := c.TryAt(at, "10.0."+strconv.Itoa(pod>>8)+"."+strconv.Itoa(pod&255)+":80"); err == nil {
			h.call = &a
		}
	}
	return h, true
}
