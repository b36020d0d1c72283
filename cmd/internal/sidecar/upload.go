package sidecar

import (
	"errors"
	"io"
	"maps"
	"net/http"
	"sync"
	"sync/atomic"
	"time"
)

// continueAfter is how long a service that was sent "Expect: 100-continue" may say nothing. Then the body is sent all the
// same, as RFC 9110, section 10.1.1, asks of a client: some servers do not know the header.
const continueAfter = 2 * time.Second

// upload is the body of a request. It remembers whether it was read to its end, and the fault of a client that breaks it.
// It is read by the transport, in another goroutine than the handler, and perhaps until after the handler has returned.
//
// A nil upload is that of a request without a body.
//
// If the client waits for 100 (Continue), the server would send it at the first Read. So upload holds the first Read back
// until the service has asked for the body. A service that answers without it never causes a Read.
type upload struct {
	io.ReadCloser
	exchange *exchange
	control  *http.ResponseController
	read     atomic.Bool // to its end
	fault    atomic.Pointer[error]
	trailer  http.Header // of the request to the service, filled in at the end of the body

	asked  chan struct{} // closed: the client may send the body; nil: it does not wait
	once   sync.Once     // for asked
	begun  atomic.Bool   // the first Read after waiting
	before time.Time     // when waiting began
}

// framing are the headers that delimit a message. As trailers they must not be sent (RFC 9110, section 6.5.1).
var framing = []string{"Content-Length", "Transfer-Encoding", "Trailer"}

func newUpload(x *exchange, w http.ResponseWriter) *upload {
	r := x.received
	u := &upload{ReadCloser: r.Body, exchange: x, control: http.NewResponseController(w)}
	if r.ProtoMajor == 1 {
		// So that the answer can begin before the body has ended.
		_ = u.control.EnableFullDuplex()
	}
	if r.ProtoMajor == 1 && r.ContentLength < 0 || r.Trailer != nil { // over HTTP/1 unannounced ones arrive, too
		u.trailer = http.Header{}
		for name := range r.Trailer {
			u.trailer[name] = nil
		}
	}
	if expectsContinue(r) {
		u.asked, u.before = make(chan struct{}), time.Now()
	}
	return u
}

// expectsContinue says whether the client waits for 100 (Continue) before it sends the body. The server has refused all
// other expectations, and hides those of HTTP/2, which it meets itself.
func expectsContinue(r *http.Request) bool { return r.Header["Expect"] != nil && r.ProtoAtLeast(1, 1) }

// continues says whether 100 (Continue) from the service still has to be written to the client. The server writes it at
// the first Read.
func (u *upload) continues(r *http.Request) bool {
	return r.ProtoAtLeast(1, 1) && (!u.waits() || !u.begun.Load())
}

// waits says whether the client waits, or waited, before it sends the body.
func (u *upload) waits() bool { return u != nil && u.asked != nil }

// ask lets the first Read begin. The service has asked for the body.
func (u *upload) ask() {
	if u.waits() {
		u.once.Do(func() { close(u.asked) })
	}
}

// Read implements io.Reader.
func (u *upload) Read(p []byte) (int, error) {
	if u.asked != nil && !u.begun.Load() {
		if err := u.wait(); err != nil {
			return 0, err
		}
	}
	n, err := u.ReadCloser.Read(p)
	switch {
	case err == nil:
	case errors.Is(err, io.EOF):
		maps.Copy(u.trailer, u.exchange.received.Trailer)
		for _, name := range framing {
			delete(u.trailer, name)
		}
		u.read.Store(true)
	case !errors.Is(err, http.ErrBodyReadAfterClose):
		u.fault.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (u *upload) wait() error {
	timer := time.NewTimer(continueAfter - time.Since(u.before))
	defer timer.Stop()
	select {
	case <-u.asked:
	case <-timer.C:
	case <-u.exchange.Done():
		return http.ErrBodyReadAfterClose
	}
	u.begun.Store(true)
	return nil
}

// broken returns what was wrong with the body; nil: nothing so far.
func (u *upload) broken() error {
	if u != nil {
		if err := u.fault.Load(); err != nil {
			return *err
		}
	}
	return nil
}

// cut ends a read of a body that does not come: neither a cancellation nor Close does.
func (u *upload) cut() {
	if u != nil && !u.read.Load() {
		_ = u.control.SetReadDeadline(time.Now())
	}
}

// closeUnread puts into the header of an answer that the connection will be closed, if the body has not been read: if the
// server reads the rest after the answer and reuses the connection, it panics (golang/go#68560).
func (u *upload) closeUnread(h http.Header) {
	if u != nil && !u.read.Load() && u.exchange.received.ProtoMajor == 1 {
		h.Add("Connection", "close")
	}
}
