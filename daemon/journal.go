package daemon

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/control"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// Bounds of the journal. A record takes about a kilobyte, so the largest journal takes about 200 MB. That holds an hour
// of fifty loops that decide every second.
const (
	journalSpan = time.Hour
	journalMin  = 1 << 10
	journalMax  = 200_000
)

// Journal keeps the last decisions in memory: at least an hour of every loop, as long as that is fewer than 200,000
// records. It is safe for concurrent use.
//
// Sequence numbers start at the daemon's start time in milliseconds since 1970 and grow by one. So a cursor from before
// a restart is older than everything after it.
type Journal struct {
	mu      sync.RWMutex
	ring    []entry
	size    int
	oldest  int    // index of the oldest entry once the ring is full
	nextSeq uint64 // of the next entry
}

// entry is one decision and the state of its loop at that time.
type entry struct {
	loop       api.Loop
	wrote      bool
	writeError string
	notable    bool // a new state, or a value that moved
}

// NewJournal returns an empty journal for loops that together make perHour decisions an hour.
func NewJournal(startedAt time.Time, decisionsPerHour int) *Journal {
	return &Journal{size: journalSize(decisionsPerHour), nextSeq: uint64(startedAt.UnixMilli())}
}

func journalSize(decisionsPerHour int) int {
	return min(max(decisionsPerHour+decisionsPerHour/16, journalMin), journalMax)
}

// Resize makes room for perHour decisions an hour. It keeps as much of the past as fits, newest first.
func (j *Journal) Resize(decisionsPerHour int) {
	j.mu.Lock()
	defer j.mu.Unlock()
	size := journalSize(decisionsPerHour)
	kept := make([]entry, 0, min(len(j.ring), size))
	for i := len(j.ring) - cap(kept); i < len(j.ring); i++ {
		kept = append(kept, *j.at(i))
	}
	j.ring, j.size, j.oldest = kept, size, 0
}

// at returns the i-th entry, counted from the oldest.
func (j *Journal) at(i int) *entry { return &j.ring[(j.oldest+i)%len(j.ring)] }

// first is the sequence number of the oldest entry.
func (j *Journal) first() uint64 { return j.nextSeq - uint64(len(j.ring)) }

// Append adds a decision and returns its sequence number.
func (j *Journal) Append(e entry) uint64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	if len(j.ring) < j.size {
		j.ring = append(j.ring, e)
	} else {
		j.ring[j.oldest] = e
		j.oldest = (j.oldest + 1) % j.size
	}
	j.nextSeq++
	return j.nextSeq - 1
}

// Last returns the sequence number of the newest entry.
func (j *Journal) Last() uint64 {
	j.mu.RLock()
	defer j.mu.RUnlock()
	return j.nextSeq - 1
}

// selection says which entries a caller asks for. Its zero value selects all.
type selection struct {
	service string
	knob    control.Knob
	notable bool
}

func (s selection) has(e *entry) bool {
	return matches(e, s.service, s.knob) && (e.notable || !s.notable)
}

// Since returns up to limit selected records after the cursor since, oldest first. The cursor it returns also skips the
// records that were not selected.
func (j *Journal) Since(since uint64, s selection, limit int) api.Decisions {
	j.mu.RLock()
	defer j.mu.RUnlock()
	answer := api.Decisions{Decisions: []api.Record{}, Next: since}
	if since >= j.nextSeq {
		since = 0 // from another daemon, or the clock was set back: repeat entries rather than miss any
	}
	skip := 0
	if since >= j.first() {
		skip = int(since - j.first() + 1)
	}
	for i := skip; i < len(j.ring) && len(answer.Decisions) < limit; i++ {
		answer.Next = j.first() + uint64(i)
		if s.has(j.at(i)) {
			answer.Decisions = append(answer.Decisions, j.record(i))
		}
	}
	return answer
}

// Newest returns the cursor before the last n selected records.
func (j *Journal) Newest(n int, s selection) (since uint64) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	i := len(j.ring)
	for found := 0; i > 0 && found < n; {
		i--
		if s.has(j.at(i)) {
			found++
		}
	}
	return j.first() + uint64(i) - 1
}

func (j *Journal) record(i int) api.Record {
	e := j.at(i)
	return api.Record{
		Seq: j.first() + uint64(i), Decision: e.loop.Decision, Wrote: e.wrote, WriteError: e.writeError,
	}
}

// At returns every loop as it was at an instant, sorted by service and knob. Loops that had not decided by then are
// absent.
func (j *Journal) At(at time.Time) []api.Loop {
	j.mu.RLock()
	defer j.mu.RUnlock()
	then := map[loopID]*api.Loop{}
	for i := range j.ring {
		// Groups tick in parallel, so entries may be out of order by up to one tick.
		if l := &j.at(i).loop; !l.Decision.At.After(at) {
			then[loopID{l.Service, l.Knob}] = l
		}
	}
	loops := make([]api.Loop, 0, len(then))
	for _, l := range then {
		loops = append(loops, *l)
	}
	sortLoops(loops)
	return loops
}

// Following returns the state of the loops after each of up to n decisions that follow the cursor, oldest first. It
// returns false if the journal does not reach back that far.
func (j *Journal) Following(since uint64, n int) ([]api.Loop, bool) {
	j.mu.RLock()
	defer j.mu.RUnlock()
	if since+1 < j.first() || since >= j.nextSeq {
		return nil, false
	}
	begin := len(j.ring) - int(j.nextSeq-1-since)
	var found []api.Loop
	for i := begin; i < min(begin+n, len(j.ring)); i++ {
		found = append(found, j.at(i).loop)
	}
	return found, true
}

// History returns the past of the loops of one service and knob ("": all) after the instant since. It returns at most
// one point per step, the last one.
func (j *Journal) History(since time.Time, step time.Duration, service string, knob control.Knob) []api.LoopHistory {
	j.mu.RLock()
	defer j.mu.RUnlock()
	of := map[loopID]*api.LoopHistory{}
	for i := range j.ring {
		e := j.at(i)
		d := &e.loop.Decision
		if !d.At.After(since) || !matches(e, service, knob) {
			continue
		}
		id := loopID{d.Service, d.Knob}
		h := of[id]
		if h == nil {
			h = &api.LoopHistory{Service: d.Service, Knob: d.Knob}
			of[id] = h
		}
		p := api.Point{
			At: d.At, Value: d.Value, Setpoint: d.Setpoint, Measured: d.Measured, State: d.State, BadRatio: d.Inputs.BadRatio,
		}
		if n := len(h.Points); n > 0 && step > 0 && h.Points[n-1].At.Truncate(step).Equal(p.At.Truncate(step)) {
			h.Points[n-1] = p
		} else {
			h.Points = append(h.Points, p)
		}
	}
	histories := make([]api.LoopHistory, 0, len(of))
	for _, h := range of {
		histories = append(histories, *h)
	}
	slices.SortFunc(histories, func(a, b api.LoopHistory) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Knob, b.Knob))
	})
	return histories
}

func matches(e *entry, service string, knob control.Knob) bool {
	return (service == "" || e.loop.Service == service) && (knob == "" || e.loop.Knob == knob)
}
