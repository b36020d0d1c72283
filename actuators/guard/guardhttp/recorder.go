package guardhttp

import (
	"bufio"
	"context"
	"io"
	"net"
	"net/http"

	"github.com/seed-de83e32b/governor/actuators/guard"
)

// recorder notes the status and whether the connection was hijacked, and gives the request's slot back when HTTP ends on
// the connection, which may then live for hours. Its Unwrap gives http.ResponseController
// everything that the server's own writer can do. as adds the two optional interfaces that older code asks for by type
// assertion, but only if the server's writer has them: a writer that claims to flush and cannot would change what a
// handler does.
type recorder struct {
	http.ResponseWriter
	ctx      context.Context // of the admitted request
	permit   guard.Permit
	status   int // 0: no header written yet
	hijacked bool
}

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
		if status == http.StatusSwitchingProtocols || isStream(r.Header()) {
			r.permit.Endless()
		}
		if (status >= http.StatusInternalServerError || status == http.StatusTooManyRequests) && guard.NoRetryOf(r.ctx) {
			r.Header()[NoRetryHeader] = []string{"1"}
		}
	}
}

func (r *recorder) WriteHeader(status int) {
	r.note(status)
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(b []byte) (int, error) {
	r.note(http.StatusOK)
	return r.ResponseWriter.Write(b)
}

func (r *recorder) WriteString(s string) (int, error) {
	r.note(http.StatusOK)
	return io.WriteString(r.ResponseWriter, s)
}

// ReadFrom keeps sendfile working: io.Copy looks for it on the writer it is given.
func (r *recorder) ReadFrom(src io.Reader) (int64, error) {
	r.note(http.StatusOK)
	return io.Copy(r.ResponseWriter, src)
}

// FlushError implements what http.ResponseController calls. Flushing sends the header.
func (r *recorder) FlushError() error {
	r.note(http.StatusOK)
	return http.NewResponseController(r.ResponseWriter).Flush()
}

func (r *recorder) flush() { _ = r.FlushError() }

func (r *recorder) hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(r.ResponseWriter).Hijack()
	if err == nil {
		r.hijacked = true
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
