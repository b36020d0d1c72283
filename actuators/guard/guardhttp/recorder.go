package guardhttp

import (
	"bufio"
	"context"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/loadreport"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/patience"
)

// recorder notes the status and whether the connection was hijacked, and gives the request's slot back when HTTP ends on
// the connection, which may then live for hours. Its Unwrap gives http.ResponseController
// everything that the server's own writer can do. as adds the two optional interfaces that older code asks for by type
// assertion, but only if the server's writer has them: a writer that claims to flush and cannot would change what a
// handler does.
type recorder struct {
	http.ResponseWriter
	ctx      context.Context // of the admitted request, if it is one
	stranger bool            // the client is not believed
	permit   guard.Permit
	slo      time.Duration
	client   *patience.Client // nil: the request has not waited for its client
	body     *requestBody     // nil: the request has none
	status   int              // 0: no header written yet
	written  int              // bytes of the body
	begun    time.Time        // when the first write might have waited
	windowed bool             // HTTP/2: the client says how much it takes, even nothing
	hijacked bool
	report   *loadreport.Report // nil: none
	grpc     bool               // the request, if there is a report
	trailed  bool               // the report belongs into the trailer

	envelopes *lastWords // nil: the answer is in none
}

const (
	// unnoticed is how many bytes of an answer net/http and the kernel buffer at least: over HTTP/1, writing them does not
	// wait for the client.
	unnoticed = 32 << 10
	// endlessAge is after how many SLOs an answer that goes on is endless, as in guard.
	endlessAge = 10
)

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

// code returns the status that the client received or will receive: 200 if the handler writes nothing.
func (r *recorder) code() int {
	if r.status == 0 {
		return http.StatusOK
	}
	return r.status
}

func (r *recorder) note(status int) {
	// A 1xx response is not the final one, except 101, which ends HTTP on this connection.
	if r.status == 0 && (status >= 200 || status == http.StatusSwitchingProtocols) {
		r.status = status
		r.envelopes = envelopesOf(r.Header())
		r.client.Begin()
		if status == http.StatusSwitchingProtocols || IsEventStream(r.Header()) {
			r.permit.Endless()
		}
		failing := status >= http.StatusInternalServerError || status == http.StatusTooManyRequests
		advise(r.Header(), guard.AdviceOf(r.ctx), failing, r.stranger)
		r.beginReport()
	}
}

// beginReport writes the load report into the header. In gRPC that is the trailer, too, if it has the code; else the report
// waits for the trailer.
func (r *recorder) beginReport() {
	if r.report == nil {
		return
	}
	if whole := len(r.Header()["Grpc-Status"]) > 0; whole || !r.grpc {
		beginReport(r.report, r.Header(), r.grpc)
	} else {
		r.trailed = true
	}
}

// endReport writes the load report into the trailer where it had to wait for that.
func (r *recorder) endReport() {
	if r.trailed && !r.hijacked {
		endReport(r.report, r.Header())
	}
}

func (r *recorder) WriteHeader(status int) {
	r.note(status)
	if r.stranger && r.status == 0 { // an interim answer
		hush(r.Header())
	}
	r.ResponseWriter.WriteHeader(status)
}

// send calls write, which sends that many bytes to the client.
func (r *recorder) send(bytes int, write func() error) error {
	r.note(http.StatusOK)
	if r.written += bytes; r.written <= unnoticed && !r.windowed {
		return write()
	}
	now := time.Now()
	r.goesOn(now)
	c := r.waiter()
	c.BeginWrite(now)
	defer c.EndWrite()
	return write()
}

// goesOn notes that the answer is not complete yet.
func (r *recorder) goesOn(now time.Time) {
	if r.begun.IsZero() {
		r.begun = now
	}
	if now.Sub(r.begun) > endlessAge*r.slo { // it does not end
		r.permit.Endless()
	}
}

// waiter returns what pauses the request while it waits for its client.
func (r *recorder) waiter() *patience.Client {
	if r.client == nil {
		r.client = patience.New(r.permit, r.slo)
	}
	return r.client
}

func (r *recorder) Write(b []byte) (n int, err error) {
	err = r.send(len(b), func() error {
		if r.envelopes != nil {
			r.envelopes.hear(b)
		}
		n, err = r.ResponseWriter.Write(b)
		return err
	})
	return n, err
}

// envelopesFailed judges an answer in envelopes. One of gRPC-Web without a message has its code in the header.
func (r *recorder) envelopesFailed() bool {
	if status := grpcStatus(r.Header()); status != "" {
		return grpcFailed(status)
	}
	return r.envelopes.failed()
}

func (r *recorder) WriteString(s string) (n int, err error) {
	err = r.send(len(s), func() error {
		if r.envelopes != nil {
			r.envelopes.hear([]byte(s))
		}
		n, err = io.WriteString(r.ResponseWriter, s)
		return err
	})
	return n, err
}

// ReadFrom keeps sendfile working: io.Copy looks for it on the writer it is given. The time to copy a file is the client's,
// because reading a file takes next to none. With any other source it may be the service's, and envelopes have to be seen.
func (r *recorder) ReadFrom(src io.Reader) (n int64, err error) {
	if !isFile(src) {
		r.note(http.StatusOK)
		if r.envelopes != nil {
			return io.Copy(struct{ io.Writer }{r}, src)
		}
		return io.Copy(r.ResponseWriter, src)
	}
	err = r.send(unnoticed+1, func() error {
		n, err = io.Copy(r.ResponseWriter, src)
		return err
	})
	return n, err
}

func isFile(src io.Reader) bool {
	if limited, ok := src.(*io.LimitedReader); ok {
		src = limited.R
	}
	_, ok := src.(fs.File)
	return ok
}

// FlushError implements what http.ResponseController calls. Flushing sends the header.
func (r *recorder) FlushError() error {
	r.goesOn(time.Now())
	return r.send(0, http.NewResponseController(r.ResponseWriter).Flush)
}

// CloseNotify implements http.CloseNotifier, which gin's Context.Stream calls: the channel delivers when the client has gone
// or the request is over.
func (r *recorder) CloseNotify() <-chan bool {
	gone := make(chan bool, 1)
	context.AfterFunc(r.ctx, func() { gone <- true })
	return gone
}

func (r *recorder) flush() { _ = r.FlushError() }

func (r *recorder) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		r.hijacked = true
		r.client.Begin()
		r.permit.Endless()
	}
	return conn, rw, err
}

type (
	flusher         struct{ *recorder }
	hijacker        struct{ *recorder }
	flusherHijacker struct{ *recorder }
)

func (w flusher) Flush()                                               { w.flush() }
func (w hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error)        { return w.hijack() }
func (w flusherHijacker) Flush()                                       { w.flush() }
func (w flusherHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return w.hijack() }

// as returns r with the optional interfaces that the server's writer has, at any depth of wrapping.
func (r *recorder) as() http.ResponseWriter {
	canFlush := has(r.ResponseWriter, func(w http.ResponseWriter) bool {
		_, plain := w.(http.Flusher)
		_, withError := w.(interface{ FlushError() error })
		return plain || withError
	})
	canHijack := has(r.ResponseWriter, func(w http.ResponseWriter) bool {
		_, ok := w.(http.Hijacker)
		return ok
	})
	switch {
	case canFlush && canHijack:
		return flusherHijacker{r}
	case canFlush:
		return flusher{r}
	case canHijack:
		return hijacker{r}
	}
	return r
}

// has looks for an ability the way http.ResponseController does: in w and in what it wraps.
func has(w http.ResponseWriter, able func(http.ResponseWriter) bool) bool {
	for {
		if able(w) {
			return true
		}
		inner, ok := w.(interface{ Unwrap() http.ResponseWriter })
		if !ok {
			return false
		}
		w = inner.Unwrap()
	}
}
