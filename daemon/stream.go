package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"reflect"
	"strconv"
	"sync"
	"time"

	"github.com/seed-de83e32b/governor/daemon/api"
)

// The stream sends every decision as it is made. The daemon never blocks on a reader: it disconnects a reader that does
// not keep up, and the reader may reconnect and ask for what it missed. Whatever readers ask for and however slowly they
// read, they cost a bounded amount of memory: there is a highest number of streams, all share the encoding of a decision,
// and what is long, the past and the snapshot, is encoded and sent in pieces.
const (
	streamsMost    = 64
	streamPiece    = 100      // loops that are encoded at once
	streamBatch    = 64 << 10 // bytes that are sent at once, or a little more
	streamBuffer   = 2048     // frames that a reader may lag behind: four ticks of five hundred loops
	streamReplay   = 10_000
	streamPatience = 10 * time.Second // for one write to a reader whose connection is stuck
	statusEvery    = time.Second
)

// frame is one event of the stream. Its body is encoded once for all readers.
type frame struct {
	kind string
	seq  uint64
	body func() ([]byte, error)
	what any
}

func newFrame(kind string, seq uint64, what any) *frame {
	return &frame{
		kind: kind, seq: seq, what: what,
		body: sync.OnceValues(func() ([]byte, error) { return json.Marshal(what) }),
	}
}

// subscriber is one reader of the stream. Its channel is closed if it falls behind.
type subscriber struct{ frames chan *frame }

// tell passes a frame to every reader, and disconnects those that have no room for it. The caller holds r.mu.
func (r *Recorder) tell(f *frame) {
	for s := range r.subscribers {
		select {
		case s.frames <- f:
		default:
			delete(r.subscribers, s)
			close(s.frames)
			r.metrics.streamsDropped.Inc()
		}
	}
}

// subscribe adds a reader. It returns what to send to the reader first: the current loops, after the decisions up to
// that snapshot that the reader has missed. Nothing is lost between these and the first frame of the channel. It returns
// nil if there are too many readers.
func (r *Recorder) subscribe() (s *subscriber, loops *frame) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.subscribers) >= streamsMost {
		return nil, nil
	}
	s = &subscriber{frames: make(chan *frame, streamBuffer)}
	r.subscribers[s] = true
	return s, newFrame(api.EventSnapshot, r.journal.Last(), r.sorted())
}

func (r *Recorder) unsubscribe(s *subscriber) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.subscribers, s)
}

// serveStream answers with server-sent events until the reader leaves, falls behind, or the daemon stops.
func (d *Daemon) serveStream(w http.ResponseWriter, r *http.Request) {
	after, err := lastEventID(r)
	if err != nil {
		refuse(w, http.StatusBadRequest, err.Error(), "pass the id of an event of this stream, or none")
		return
	}
	sub, loops := d.recorder.subscribe()
	if sub == nil {
		refuse(w, http.StatusServiceUnavailable, fmt.Sprintf("%d streams are open, the most that one governor serves", streamsMost),
			"close some, or ask a standby: each has the same decisions")
		return
	}
	defer d.recorder.unsubscribe(sub)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for an nginx in between
	w.WriteHeader(http.StatusOK)
	out := &eventWriter{to: w, control: http.NewResponseController(w)}
	complete := out.replay(r.Context(), d.recorder.journal, after, loops.seq)
	status := d.Status()
	out.snapshot(loops, status, complete)
	out.flush()

	second := time.NewTicker(statusEvery)
	defer second.Stop()
	for out.err == nil {
		select {
		case <-r.Context().Done():
			return
		case f, open := <-sub.frames:
			for more := true; more; {
				switch {
				case !open:
					return
				case f.kind == api.EventSnapshot:
					out.snapshot(f, d.Status(), true)
				default:
					out.event(f)
				}
				if out.buffer.Len() >= streamBatch {
					out.flush()
				}
				select {
				case f, open = <-sub.frames:
				default:
					more = false
				}
			}
		case <-second.C:
			if now := d.Status(); !sameStatus(now, status) {
				status = now
				out.event(newFrame(api.EventStatus, 0, now))
			}
			out.heartbeat(time.Now())
		}
		out.flush()
	}
}

// lastEventID returns the cursor of a reader that reconnects, 0 if it sends none.
func lastEventID(r *http.Request) (uint64, error) {
	text := r.Header.Get("Last-Event-ID")
	if text == "" {
		return 0, nil
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("Last-Event-ID: %q: expected a whole number", text)
	}
	return n, nil
}

// sameStatus says whether the two differ in nothing but time.
func sameStatus(a, b api.Status) bool {
	a.Now = b.Now
	return reflect.DeepEqual(a, b)
}

// eventWriter writes server-sent events. Its first error is sticky.
type eventWriter struct {
	to      http.ResponseWriter
	control *http.ResponseController
	buffer  bytes.Buffer
	said    time.Time // the last write
	err     error
}

func (w *eventWriter) event(f *frame) {
	body, err := f.body()
	if err != nil {
		w.err = err
		return
	}
	fmt.Fprintf(&w.buffer, "event: %s\n", f.kind)
	if f.seq > 0 {
		fmt.Fprintf(&w.buffer, "id: %d\n", f.seq)
	}
	fmt.Fprintf(&w.buffer, "data: %s\n\n", body)
}

// replay sends the decisions after a cursor up to another one, and says whether the journal still had all of them. If it
// does not have them, or if they are too many, it sends none of them, or no more.
func (w *eventWriter) replay(ctx context.Context, journal *Journal, after, upTo uint64) (complete bool) {
	if after > upTo || upTo-after > streamReplay {
		return false
	}
	for after < upTo && w.err == nil && ctx.Err() == nil {
		piece, ok := journal.Following(after, int(min(streamPiece, upTo-after)))
		if !ok {
			return false
		}
		for _, l := range piece {
			after++
			w.event(newFrame(api.EventLoop, after, l))
		}
		w.flush()
	}
	return true
}

// snapshot writes an api.Snapshot, the loops of f together with the status, piece by piece.
func (w *eventWriter) snapshot(f *frame, status api.Status, complete bool) {
	fmt.Fprintf(&w.buffer, "event: %s\n", f.kind)
	if f.seq > 0 {
		fmt.Fprintf(&w.buffer, "id: %d\n", f.seq)
	}
	w.buffer.WriteString(`data: {"status":`)
	w.json(status)
	w.buffer.WriteString(`,"loops":[`)
	for i, l := range f.what.([]api.Loop) {
		if i > 0 {
			w.buffer.WriteByte(',')
		}
		w.json(l)
		if w.buffer.Len() >= streamBatch {
			w.flush()
		}
		if w.err != nil {
			return
		}
	}
	fmt.Fprintf(&w.buffer, `],"complete":%t}`+"\n\n", complete)
}

func (w *eventWriter) json(v any) {
	body, err := json.Marshal(v)
	if err != nil {
		w.err = err
	}
	w.buffer.Write(body)
}

// heartbeat writes a heartbeat if nothing else was written for a while.
func (w *eventWriter) heartbeat(now time.Time) {
	if w.buffer.Len() == 0 && now.Sub(w.said) >= api.Heartbeat {
		w.buffer.WriteString(":\n\n")
	}
}

func (w *eventWriter) flush() {
	if w.err != nil || w.buffer.Len() == 0 {
		return
	}
	w.said = time.Now()
	_ = w.control.SetWriteDeadline(w.said.Add(streamPatience)) // not every connection supports it
	if _, w.err = w.buffer.WriteTo(w.to); w.err == nil {
		w.err = w.control.Flush()
	}
}
