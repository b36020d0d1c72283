package plain

import (
	"io"
	"sync"
)

// Output is a program's standard output. It remembers the first write that failed, so that the program can end with an
// error although the code in between prints without looking: a full disk must not pass for success. It is safe for
// concurrent use.
type Output struct {
	to  io.Writer
	mu  sync.Mutex
	err error
}

// NewOutput returns an Output that writes to w.
func NewOutput(w io.Writer) *Output { return &Output{to: w} }

// Write implements io.Writer. After a failure it writes nothing more.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.err != nil {
		return 0, o.err
	}
	n, err := o.to.Write(p)
	o.err = err
	return n, err
}

// Err is the first failure; nil if everything was written.
func (o *Output) Err() error {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.err
}

// Unfailing returns a writer to o that reports every write as done, for code that panics otherwise; Err tells the truth.
func (o *Output) Unfailing() io.Writer { return unfailing{o} }

type unfailing struct{ to io.Writer }

// Write implements io.Writer.
func (u unfailing) Write(p []byte) (int, error) {
	_, _ = u.to.Write(p)
	return len(p), nil
}
