package daemon

import (
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/cmd/internal/api"
	"github.com/seed-de83e32b/governor/control"
)

// Bounds of the journal. A record takes about a kilobyte, so a full journal of the largest size some 200 MB; an hour of
// fifty loops that decide every second is as much.
const (
	journalSpan = time.Hour
	journalMin  = 1 << 10
	journalMax  = 200_000
)

// Journal keeps the last decisions in memory: at least an hour of every loop, as long as that is fewer than 200 000
// records. It is safe for concurrent use.
//
// Sequence numbers begin at the daemon's start in milliseconds since 1970 and grow by one, so that a cursor from before
// a restart is older than everything after it.
type Journal struct {
	mu      sync.RWMutex
	ring    []api.Record
	size    int
	oldest  int    // index of the oldest record once the ring is full
	nextSeq uint64 // of the record to come
}

// NewJournal returns an empty journal for loops that together make that many decisions an hour.
func NewJournal(startedAt time.Time, decisionsPerHour int) *Journal {
	size := min(max(decisionsPerHour+decisionsPerHour/16, journalMin), journalMax)
	return &Journal{size: size, nextSeq: uint64(startedAt.UnixMilli())}
}

// Append adds a record and gives it its sequence number.
func (j *Journal) Append(r api.Record) {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Seq = j.nextSeq
	j.nextSeq++
	if len(j.ring) < j.size {
		j.ring = append(j.ring, r)
		return
	}
	j.ring[j.oldest] = r
	j.oldest = (j.oldest + 1) % j.size
}

// Since returns up to limit records after the cursor since, oldest first, of one service and knob ("": all). The cursor
// it returns passes over what did not match.
func (j *Journal) Since(since uint64, service string, knob control.Knob, limit int) api.Decisions {
	j.mu.RLock()
	defer j.mu.RUnlock()
	answer := api.Decisions{Decisions: []api.Record{}, Next: since}
	n := len(j.ring)
	first := j.nextSeq - uint64(n) // of the oldest record
	if since >= j.nextSeq {
		since = 0 // from another daemon, or a clock that was set back: better twice than never
	}
	skip := 0
	if since >= first {
		skip = int(since - first + 1)
	}
	for i := skip; i < n && len(answer.Decisions) < limit; i++ {
		r := j.ring[(j.oldest+i)%n]
		answer.Next = r.Seq
		if (service == "" || r.Decision.Service == service) && (knob == "" || r.Decision.Knob == knob) {
			answer.Decisions = append(answer.Decisions, r)
		}
	}
	return answer
}
