package daemon

import (
	"bytes"
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
// not keep up, and the reader may reconnect and ask for what it missed.
const (
	streamBuffer   = 2048 // frames that a reader may lag behind: four ticks of five hundred loops
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

// subscribe adds a reader. It returns what to send to the reader first: the decisions after its cursor that the journal
// still has (complete says whether that is all of them), and the current loops. Nothing is lost between these and the
// first frame of the channel.
func (r *Recorder) subscribe(after uint64) (s *subscriber, missed []*frame, loops *frame, complete bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	s = &subscriber{frames: make(chan *frame, streamBuffer)}
	r.subscribers[s] = true
	last := r.journal.Last()
	past, complete := r.journal.Missed(after, streamReplay)
	for i, l := range past {
		missed = append(missed, newFrame(api.EventLoop, last-uint64(len(past)-1-i), l))
	}
	return s, missed, newFrame(api.EventSnapshot, last, r.sorted()), complete
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
	sub, missed, loops, complete := d.recorder.subscribe(after)
	defer d.recorder.unsubscribe(sub)

	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // for an nginx in between
	w.WriteHeader(http.StatusOK)
	out := &eventWriter{to: w, control: http.NewResponseController(w)}
	for _, f := range missed {
		out.event(f)
	}
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

// snapshot writes the loops of f together with the status.
func (w *eventWriter) snapshot(f *frame, status api.Status, complete bool) {
	w.event(newFrame(f.kind, f.seq, api.Snapshot{Status: status, Loops: f.what.([]api.Loop), Complete: complete}))
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
