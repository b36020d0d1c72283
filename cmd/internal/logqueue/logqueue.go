// Package logqueue lets a program log without ever waiting for whoever reads the log. A pipe that nobody reads takes
// 64 kB and then blocks every write; a leader whose loops wait for a log decides nothing and keeps its lock.
//
// A Writer keeps what cannot be written yet, up to a bound. Beyond it, lines are dropped and counted, and when the log
// flows again, the program reports how many.
package logqueue

import (
	"bytes"
	"io"
	"sync"
	"time"
)

// most is how many bytes wait at most: some thousands of lines.
const most = 1 << 20

// Writer is an io.Writer that does not block. Each Write is one or more whole lines. It is safe for concurrent use.
type Writer struct {
	to io.Writer

	mu      sync.Mutex
	pending []byte
	writing chan struct{} // closed when everything has been written; nil: nothing is being written
	dropped uint64        // lines, ever
	told    uint64        // how many of them have been reported
	report  func(lines uint64)
}

// New returns a Writer to w. One goroutine at a time calls w.
func New(w io.Writer) *Writer { return &Writer{to: w} }

// OnLoss sets what is called after lines have been dropped, once the log flows again. It may write to the log.
func (w *Writer) OnLoss(report func(lines uint64)) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.report = report
}

// Dropped returns how many lines have been dropped, because nobody read them or because they could not be written.
func (w *Writer) Dropped() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.dropped
}

// Write implements io.Writer. It never fails: a program can do nothing about a log that is lost.
func (w *Writer) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.pending)+len(p) > most {
		w.dropped += lines(p)
		return len(p), nil
	}
	w.pending = append(w.pending, p...)
	if w.writing == nil {
		w.writing = make(chan struct{})
		go w.drain(w.writing)
	}
	return len(p), nil
}

// drain writes until nothing is pending.
func (w *Writer) drain(done chan struct{}) {
	defer close(done)
	for {
		w.mu.Lock()
		batch := w.pending
		w.pending = nil
		if len(batch) == 0 {
			w.writing = nil
			w.mu.Unlock()
			return
		}
		w.mu.Unlock()

		n, err := w.to.Write(batch)

		w.mu.Lock()
		if err != nil {
			w.dropped += lines(batch[max(0, n):])
		}
		lost, report := w.dropped-w.told, w.report
		flows := err == nil && len(w.pending) < most/2 // so that the report itself finds room
		if flows {
			w.told = w.dropped
		}
		w.mu.Unlock()
		if flows && lost > 0 && report != nil {
			report(lost)
		}
	}
}

// Flush waits until everything has been written, but not longer than patience.
func (w *Writer) Flush(patience time.Duration) {
	late := time.NewTimer(patience)
	defer late.Stop()
	for {
		w.mu.Lock()
		writing := w.writing
		w.mu.Unlock()
		if writing == nil {
			return
		}
		select {
		case <-writing:
		case <-late.C:
			return
		}
	}
}

func lines(p []byte) uint64 { return uint64(bytes.Count(p, []byte("\n"))) }
