// Package load is an open-loop load generator: it sends requests when they are due, whatever happened to earlier ones,
// as independent users do. A closed loop (a fixed number of clients, each waiting for its answer) would slow down with
// the service and hide the very overload that the tests are about.
//
// Arrivals are Poisson, drawn from a seed, at a rate that may change while the generator runs. The generator records
// for each request the instant it was due, how late it was really sent, how it ended and how long that took. Lateness
// measures the generator itself: if its 99% quantile exceeds MaxLateness, the machine was too busy and the results say
// little about the service.
//
// The generator is small because the tests need little: arrivals with known due times, and a record per request.
// (Existing generators pace evenly, or do not expose the due times.)
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// MaxLateness is the largest 99% quantile of lateness for a run to count.
const MaxLateness = 20 * time.Millisecond

// maxInFlight bounds the goroutines. At 600 requests a second and a time-out of 1 s no more than 600 can be in flight,
// three times that with two retries.
const maxInFlight = 8192

// Config describes a generator.
type Config struct {
	URL     string
	Seed    uint64        // two generators with one seed and the same rates send the same requests at the same instants
	Timeout time.Duration // per attempt, > 0; the client then gives up
	SLO     time.Duration // > 0; a request that takes longer over all its attempts counts as slow
	Header  http.Header   // of every request

	// Classes are the kinds of requests, drawn by their shares of the arrivals; nil: one kind.
	Classes []Class
	// Retries is the maximum number of times a client tries again after a refusal or a timeout. Before the n-th retry
	// it waits for a time drawn from 0 to RetryWait·2ⁿ⁻¹ (full jitter). It does not respect Retry-After: clients
	// that do are not the ones that bring a service down.
	Retries   int
	RetryWait time.Duration
}

// Class is a kind of requests.
type Class struct {
	Name   string
	Share  float64     // of the arrivals; those of all classes add up to 1
	Header http.Header // in addition to that of all requests
}

// Outcome is how a request ended for its client, after its last attempt.
type Outcome uint8

// The outcomes. Slow requests were answered well, but later than the SLO. A request with one attempt that timed out and
// another that was refused has timed out.
const (
	OK Outcome = iota
	Slow
	Failed
	Refused
	TimedOut
	outcomes
)

// Record is one request.
type Record struct {
	Due      time.Time
	Lateness time.Duration // of the first attempt, after Due
	Latency  time.Duration // from the first attempt to the end of the last
	Last     time.Duration // the last attempt alone
	Outcome  Outcome
	Class    uint8 // index in Config.Classes
	Attempts uint8
	GaveUp   uint8 // attempts not answered in time
}

// Ended is when the client learned the outcome.
func (r Record) Ended() time.Time { return r.Due.Add(r.Lateness + r.Latency) }

// Generator sends requests until it is stopped. It is safe for concurrent use.
type Generator struct {
	config  Config
	headers []http.Header // by class
	client  *http.Client
	cancel  context.CancelFunc
	rates   chan change
	stopped chan struct{} // closed when pacing has ended
	sending sync.WaitGroup
	slots   chan struct{}

	mu      sync.Mutex
	records []Record
	rate    float64
}

// change is a new rate that applies from an instant onward.
type change struct {
	at   time.Time
	rate float64
}

// Start returns a running generator that sends rate requests per second. It ends with ctx or by Stop.
func Start(ctx context.Context, c Config, rate float64) (*Generator, error) {
	return start(ctx, c, rate, client())
}

func start(ctx context.Context, c Config, rate float64, client *http.Client) (*Generator, error) {
	if c.Timeout <= 0 || c.SLO <= 0 {
		return nil, fmt.Errorf("start load on %s: time-out %s and SLO %s must be positive", c.URL, c.Timeout, c.SLO)
	}
	if _, err := http.NewRequest(http.MethodGet, c.URL, nil); err != nil {
		return nil, fmt.Errorf("start load: %w", err)
	}
	if c.Classes == nil {
		c.Classes = []Class{{Share: 1}}
	}
	ctx, cancel := context.WithCancel(ctx)
	g := &Generator{
		config: c, client: client, cancel: cancel, rate: rate,
		rates: make(chan change), stopped: make(chan struct{}), slots: make(chan struct{}, maxInFlight),
	}
	for _, class := range c.Classes {
		h := http.Header{}
		maps.Copy(h, c.Header)
		maps.Copy(h, class.Header)
		g.headers = append(g.headers, h)
	}
	go g.pace(ctx, rate)
	return g, nil
}

// client keeps connections alive as long as the server does. A client that gives up drops its connection at once
// (linger 0): hundreds a second would otherwise leave their ports in TIME_WAIT until none is left.
func client() *http.Client {
	dialer := &net.Dialer{Timeout: 5 * time.Second}
	return &http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, network, address string) (net.Conn, error) {
			conn, err := dialer.DialContext(ctx, network, address)
			if tcp, ok := conn.(*net.TCPConn); ok {
				tcp.SetLinger(0)
			}
			return conn, err
		},
		MaxIdleConns:        maxInFlight,
		MaxIdleConnsPerHost: maxInFlight,
		DisableCompression:  true,
	}}
}

// SetRate changes the rate, in requests per second; 0 pauses.
func (g *Generator) SetRate(rate float64) { g.SetRateAt(time.Now(), rate) }

// SetRateAt is SetRate from the instant at, which must not be in the future. Generators given the same instant stay in
// step.
func (g *Generator) SetRateAt(at time.Time, rate float64) {
	g.mu.Lock()
	g.rate = rate
	g.mu.Unlock()
	select {
	case g.rates <- change{at, rate}:
	case <-g.stopped:
	}
}

// Rate returns the rate that was last set.
func (g *Generator) Rate() float64 {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.rate
}

// Stop sends nothing more and returns when every request has ended.
func (g *Generator) Stop() {
	g.cancel()
	<-g.stopped
	g.sending.Wait()
	g.client.CloseIdleConnections()
}

// pace sends requests at the instants of a Poisson process: exponential gaps of mean 1, stretched by the rate. A change
// of rate stretches what is left of the current gap.
func (g *Generator) pace(ctx context.Context, rate float64) {
	defer close(g.stopped)
	stream := func(n uint64) *rand.Rand { return rand.New(rand.NewPCG(g.config.Seed, n)) }
	random, classes := stream(0x6c6f6164), stream(0x636c617373)
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	from, gap := time.Now(), random.ExpFloat64()
	for {
		due := from.Add(time.Hour)
		if rate > 0 {
			due = from.Add(time.Duration(gap / rate * float64(time.Second)))
			if late := time.Since(due); late >= 0 {
				g.send(due, g.class(classes.Float64()), classes.Uint64())
				from, gap = due, random.ExpFloat64()
				continue
			}
		}
		timer.Reset(time.Until(due))
		select {
		case <-ctx.Done():
			return
		case c := <-g.rates:
			gap = max(0, gap-rate*c.at.Sub(from).Seconds())
			from, rate = c.at, c.rate
		case <-timer.C:
		}
	}
}

// class returns the index of the class that the uniform draw u falls on.
func (g *Generator) class(u float64) uint8 {
	for i, c := range g.config.Classes {
		if u < c.Share {
			return uint8(i)
		}
		u -= c.Share
	}
	return uint8(len(g.config.Classes) - 1)
}

// send starts the request that was due at due and records its end. Its waits are drawn from its own seed, so that the
// fate of one request does not affect the others.
func (g *Generator) send(due time.Time, class uint8, seed uint64) {
	select {
	case g.slots <- struct{}{}:
	default:
		// Never sent: give it the largest lateness, so that a run with such requests does not count.
		timeout := g.config.Timeout
		g.record(Record{Due: due, Lateness: timeout, Latency: timeout, Last: timeout, Outcome: Failed, Class: class})
		return
	}
	g.sending.Go(func() {
		began := time.Now()
		r := Record{Due: due, Lateness: began.Sub(due), Class: class}
		g.try(&r, seed)
		r.Latency = time.Since(began)
		if r.Outcome == OK && r.Latency > g.config.SLO {
			r.Outcome = Slow
		}
		<-g.slots
		g.record(r)
	})
}

// try sends a request until it is answered or the client gives up for good.
func (g *Generator) try(r *Record, seed uint64) {
	random := rand.New(rand.NewPCG(g.config.Seed, seed))
	for {
		began := time.Now()
		r.Outcome = g.do(r.Class)
		r.Last = time.Since(began)
		r.Attempts++
		if r.Outcome == TimedOut {
			r.GaveUp++
		}
		switch {
		case r.Outcome != Refused && r.Outcome != TimedOut:
			return
		case int(r.Attempts) > g.config.Retries:
			if r.GaveUp > 0 {
				r.Outcome = TimedOut
			}
			return
		}
		time.Sleep(time.Duration(random.Float64() * float64(g.config.RetryWait<<(r.Attempts-1))))
	}
}

func (g *Generator) record(r Record) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.records = append(g.records, r)
}

func (g *Generator) do(class uint8) Outcome {
	ctx, cancel := context.WithTimeout(context.Background(), g.config.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, g.config.URL, nil)
	if err != nil {
		return Failed
	}
	req.Header = g.headers[class]
	resp, err := g.client.Do(req)
	if err == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return TimedOut
	case err != nil:
		return Failed
	case resp.StatusCode == http.StatusServiceUnavailable || resp.StatusCode == http.StatusTooManyRequests:
		return Refused
	case resp.StatusCode >= 300:
		return Failed
	}
	return OK
}

// Summary is what clients saw of the requests that were due in [From, To).
type Summary struct {
	From, To time.Time
	Offered  int
	OK       int
	Slow     int
	Failed   int
	Refused  int
	TimedOut int

	MeanSeconds float64       // of answered requests; NaN without any
	P99Seconds  float64       // of answered requests; NaN without any
	Lateness    time.Duration // 99% quantile
}

// Seconds is the length of the stretch.
func (s Summary) Seconds() float64 { return s.To.Sub(s.From).Seconds() }

// Add joins two stretches into one: counts add up, the latencies are the worse of both (NaN where either is), To moves
// on by the length of o.
func (s Summary) Add(o Summary) Summary {
	if s.From.IsZero() {
		return o
	}
	s.To = s.To.Add(o.To.Sub(o.From))
	s.Offered += o.Offered
	s.OK += o.OK
	s.Slow += o.Slow
	s.Failed += o.Failed
	s.Refused += o.Refused
	s.TimedOut += o.TimedOut
	s.MeanSeconds = max(s.MeanSeconds, o.MeanSeconds)
	s.P99Seconds = max(s.P99Seconds, o.P99Seconds)
	s.Lateness = max(s.Lateness, o.Lateness)
	return s
}

// Admitted is the number of requests that were not refused.
func (s Summary) Admitted() int { return s.Offered - s.Refused }

// BadRatio is the share of admitted requests that were slow, failed or timed out; NaN where none was admitted.
func (s Summary) BadRatio() float64 {
	if s.Admitted() == 0 {
		return math.NaN()
	}
	return float64(s.Slow+s.Failed+s.TimedOut) / float64(s.Admitted())
}

func (s Summary) String() string {
	return fmt.Sprintf("%.1f s: offered %d, ok %d, slow %d, timed out %d, failed %d, refused %d, bad %.2f %%, "+
		"mean %.0f ms, p99 %.0f ms, generator late by %.1f ms (p99)",
		s.Seconds(), s.Offered, s.OK, s.Slow, s.TimedOut, s.Failed, s.Refused, 100*s.BadRatio(),
		1000*s.MeanSeconds, 1000*s.P99Seconds, s.Lateness.Seconds()*1000)
}

// Records returns the requests that have ended, in the order in which they did. The slice is not to be changed.
func (g *Generator) Records() []Record {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Clip(g.records) // only ever appended to
}

// Between sums up the requests that were due in [from, to). It leaves out requests still under way: with n retries,
// call it n + 1 timeouts, plus the waits between them, after to.
func (g *Generator) Between(from, to time.Time) Summary {
	s := Summary{From: from, To: to}
	var latency, lateness []time.Duration
	var counts [outcomes]int
	for _, r := range g.Records() {
		if r.Due.Before(from) || !r.Due.Before(to) {
			continue
		}
		counts[r.Outcome]++
		lateness = append(lateness, r.Lateness)
		if r.Outcome == OK || r.Outcome == Slow {
			latency = append(latency, r.Latency)
		}
	}
	s.OK, s.Slow, s.Failed, s.Refused, s.TimedOut =
		counts[OK], counts[Slow], counts[Failed], counts[Refused], counts[TimedOut]
	s.Offered = len(lateness)
	s.Lateness = quantile(lateness, 0.99)
	s.MeanSeconds, s.P99Seconds = math.NaN(), math.NaN()
	if len(latency) > 0 {
		sum := time.Duration(0)
		for _, d := range latency {
			sum += d
		}
		s.MeanSeconds = sum.Seconds() / float64(len(latency))
		s.P99Seconds = quantile(latency, 0.99).Seconds()
	}
	return s
}

// quantile sorts ds and returns its q quantile (nearest rank), 0 for none.
func quantile[T cmp.Ordered](ds []T, q float64) T {
	var zero T
	if len(ds) == 0 {
		return zero
	}
	slices.Sort(ds)
	return ds[min(len(ds)-1, max(0, int(math.Ceil(q*float64(len(ds))))-1))]
}
