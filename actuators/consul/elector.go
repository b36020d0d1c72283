package consul

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/actuators"
	"github.com/seed-de83e32b/governor/actuators/internal/wait"
)

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
// It uses Consul's session and KV interfaces directly, not api.Lock. api.Lock reports a lost lock on a channel that
// closes on the first failed read of the key, while its renewal goroutine keeps the session, and so the lock, alive
// (hashicorp/consul#1162, #2371). The object then cannot be used again (#4902). And it does not end the leadership
// while Consul is unreachable, which is exactly when another governor may be elected (#9788). Here a standby has no
// session at all, so a governor that does not lead can never hold the lock: it creates a session to acquire the lock,
// and destroys the session whenever that fails or the leadership ends.
type Elector struct {
	client    *Client
	options   ElectorOptions
	log       *slog.Logger
	resign    chan struct{}
	orphans   map[string]bool // sessions that could not be destroyed; used by Run only
	probed    bool            // this token can create sessions; used by Run only
	lastEpoch uint64          // highest ever seen by this process; used by Run only

	mu       sync.Mutex
	state    State
	deadline time.Time       // of the leadership, on the monotonic clock
	troubles map[string]bool // reasons logged since the last request that succeeded
	troubled time.Time       // since when
}

// NewElector returns an Elector; it does nothing before Run.
func NewElector(client *Client, options ElectorOptions) (*Elector, error) {
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

// Resign gives up the leadership, if there is one, and competes again. The next leader, this instance or another, has
// an epoch above every epoch in the store. This is the way out if a key holds a higher epoch than the leader's own.
func (e *Elector) Resign() {
	if _, leading := e.Fence(); !leading {
		return
	}
	select {
	case e.resign <- struct{}{}:
	default:
	}
}

// Run competes for the lock until ctx ends. While it holds the lock, lead runs (nil: nothing runs, and the caller asks
// Fence). lead's context ends with the leadership. lead should then return soon: Run waits for it before it gives up
// the lock or competes again. A lead that returns on its own resigns.
//
// The leadership ends when ctx does (the lock is then released at once), by Resign, when the lock or the session is
// lost, and a tenth of the TTL before Consul could let the session expire, counted on this machine's monotonic clock
// from the time the last successful renewal was sent. That clock stops while the machine is suspended; the fence stops
// a leader that wakes up from a suspend.
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
			_ = wait.For(ctx, pause)
		default:
			retry.reset()
			e.hold(ctx, tenure, lead)
			_ = wait.For(ctx, jitter(retry.first)) // after a resignation or a loss, let others go first
		}
	}
}
