package logqueue

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// reader is a log that is read only when it is told to.
type reader struct {
	mu   sync.Mutex
	open *sync.Cond
	text strings.Builder
	shut bool
	err  error
}

func newReader() *reader {
	r := &reader{}
	r.open = sync.NewCond(&r.mu)
	return r
}

func (r *reader) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for r.shut {
		r.open.Wait()
	}
	if r.err != nil {
		return 0, r.err
	}
	return r.text.Write(p)
}

func (r *reader) set(f func(*reader)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f(r)
	r.open.Broadcast()
}

func (r *reader) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.text.String()
}

func TestLogThatNobodyReadsBlocksNobodyAndReportsItsLoss(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReader()
		w := New(r)
		log := slog.New(slog.NewTextHandler(w, nil))
		w.OnLoss(func(n uint64) { log.Warn("lines of the log were dropped", "lines", n) })
		log.Info("first")
		synctest.Wait()
		r.set(func(r *reader) { r.shut = true })
		const all = 30_000
		for i := range all {
			log.Info("in between", "i", i)
		}
		begun := time.Now()
		w.Flush(time.Second)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("waited %s for a log that nobody reads, want 1s", took)
		}
		dropped := w.Dropped()
		if dropped == 0 || dropped >= all {
			t.Fatalf("%d of %d lines dropped", dropped, all)
		}

		r.set(func(r *reader) { r.shut = false })
		w.Flush(time.Hour)
		text := r.String()
		if n := strings.Count(text, "in between"); uint64(n)+dropped != all {
			t.Errorf("%d lines written and %d dropped, of %d", n, dropped, all)
		}
		if want := fmt.Sprintf("lines of the log were dropped\" lines=%d\n", dropped); strings.Count(text, want) != 1 {
			t.Errorf("not reported once: %d lines; the end is %q", dropped, text[len(text)-300:])
		}
		for line := range strings.Lines(text) {
			if !strings.HasPrefix(line, "time=") || !strings.HasSuffix(line, "\n") {
				t.Fatalf("a torn line: %q", line)
			}
		}
	})
}

func TestLogOnAFullDiskIsCountedAndGoesOn(t *testing.T) {
	r := newReader()
	w := New(r)
	r.set(func(r *reader) { r.err = errors.New("no space left on device") })
	fmt.Fprintln(w, "one")
	w.Flush(time.Minute)
	fmt.Fprintln(w, "two")
	w.Flush(time.Minute)
	var reported uint64
	w.OnLoss(func(n uint64) { reported += n })
	r.set(func(r *reader) { r.err = nil })
	fmt.Fprintln(w, "three")
	w.Flush(time.Minute)
	if w.Dropped() != 2 || reported != 2 || r.String() != "three\n" {
		t.Errorf("%d dropped, %d reported, written %q", w.Dropped(), reported, r)
	}

	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip(err)
	}
	defer full.Close()
	w = New(full)
	fmt.Fprintln(w, "one\ntwo")
	w.Flush(time.Minute)
	if w.Dropped() != 2 {
		t.Errorf("/dev/full: %d lines dropped", w.Dropped())
	}
}
