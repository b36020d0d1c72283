package sidecar

import (
	"net/http"
	"strconv"
	"sync"
	"time"
)

// flushAfter is how long the header of an answer waits for the body, so that short answers take one system call. Everything
// else is flushed at once.
const flushAfter = time.Millisecond

// answer writes an answer to a client as it came, and as soon as it comes: net/http would guess its Content-Type, remove
// headers of 304, send informational answers to clients that do not know them, and keep in a buffer what there is of an
// answer of known length.
type answer struct {
	http.ResponseWriter
	exchange *exchange
	begun    bool
	left     int64 // bytes of the body that are missing, if the length is known; else it is below 0
	pending  *pending
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	switch {
	case status == http.StatusContinue:
		if a.exchange.upload.continues(a.exchange.received) {
			a.ResponseWriter.WriteHeader(status)
		}
		a.exchange.upload.ask() // last: else the server would send a second one
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		if !a.exchange.received.ProtoAtLeast(1, 1) {
			return // RFC 9110, section 15.2
		}
	case !a.begun:
		a.begin(status)
	}
	a.ResponseWriter.WriteHeader(status)
	if a.left > 0 && a.pending == nil {
		a.pending = flushLater(a.ResponseWriter)
	}
}

func (a *answer) begin(status int) {
	a.begun = true
	h := a.Header()
	a.left = -1
	if lengths := h["Content-Length"]; len(lengths) == 1 {
		if n, err := strconv.ParseInt(lengths[0], 10, 64); err == nil && n > 0 && a.exchange.received.Method != http.MethodHead {
			a.left = n
		}
	}
	if status == http.StatusNotModified {
		a.left = -1
		if a.exchange.received.ProtoMajor == 1 {
			// The server removes these by their canonical names. RFC 9110, section 15.4.5, allows them.
			rename(h, "Content-Type", "content-type")
			rename(h, "Content-Length", "content-length")
		}
	} else if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // keeps the server from guessing
	}
}

func rename(h http.Header, from, to string) {
	if values, ok := h[from]; ok {
		delete(h, from)
		h[to] = values
	}
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (n int, err error) {
	if !a.begun {
		a.WriteHeader(http.StatusOK)
	}
	if a.left <= 0 {
		return a.ResponseWriter.Write(p)
	}
	if a.pending != nil {
		a.pending.stop()
		a.pending = nil
	}
	n, err = a.ResponseWriter.Write(p)
	if a.left -= int64(n); a.left > 0 && err == nil {
		err = http.NewResponseController(a.ResponseWriter).Flush()
	}
	return n, err
}

// end is called when the answer is complete.
func (a *answer) end() {
	if a.pending != nil {
		a.pending.stop()
		a.pending = nil
	}
}

// pending is a flush that is due. They are used again and again.
type pending struct {
	mu    sync.Mutex
	timer *time.Timer
	to    http.ResponseWriter // nil: stopped
}

var pendings sync.Pool

// flushLater flushes w after flushAfter, unless it is stopped. Until then nobody else may write to w.
func flushLater(w http.ResponseWriter) *pending {
	f, ok := pendings.Get().(*pending)
	if !ok {
		f = new(pending)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.to = w
	if f.timer == nil {
		f.timer = time.AfterFunc(flushAfter, f.flush)
	} else {
		f.timer.Reset(flushAfter)
	}
	return f
}

func (f *pending) flush() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.to != nil {
		_ = http.NewResponseController(f.to).Flush() // a write that follows has the same error
		f.to = nil
	}
}

func (f *pending) stop() {
	f.mu.Lock()
	f.timer.Stop()
	f.to = nil
	f.mu.Unlock()
	pendings.Put(f)
}
