package sidecar

import (
	"bufio"
	"bytes"
	"io"
	"net"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
)

// answer writes an answer to a client as it came, and as soon as it comes: net/http would guess its Content-Type, remove
// headers of 304, send informational answers to clients that do not know them, and keep in a buffer what there is of an
// answer of known length.
type answer struct {
	http.ResponseWriter
	exchange *exchange
	begun    bool
	delayed  bool // parts of it are flushed later

	mu   sync.Mutex // for writing and flushing
	left int64      // bytes of the body that are missing, if the length is known; else it is below 0

	due    atomic.Bool // a part of it is in a buffer
	linked atomic.Bool // in flushes, by next
	next   *answer
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// Hijack implements http.Hijacker, for a tunnel. What the client has sent already, beyond its request, is read from the
// connection first.
func (a *answer) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(a.ResponseWriter).Hijack()
	if err != nil {
		return conn, rw, err
	}
	if rw.Reader.Buffered() == 0 {
		return newTunnelClient(conn), rw, nil
	}
	early := make([]byte, rw.Reader.Buffered())
	if _, err := io.ReadFull(rw.Reader, early); err != nil {
		return conn, rw, err
	}
	c := newTunnelClient(&eager{Conn: conn, early: bytes.NewReader(early)})
	return c, bufio.NewReadWriter(bufio.NewReader(c), rw.Writer), nil
}

// eager is a connection whose client has sent something that was read before the connection was given away.
type eager struct {
	net.Conn
	early *bytes.Reader
}

// Read implements net.Conn.
func (c *eager) Read(p []byte) (int, error) {
	if c.early.Len() > 0 {
		return c.early.Read(p)
	}
	return c.Conn.Read(p)
}

// CloseWrite closes the sending side, as tunnels do.
func (c *eager) CloseWrite() error { return closeWrite(c.Conn, c) }

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
	if a.left > 0 && !a.delayed {
		a.delayed = true
		dueFlushes.add(a)
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
	if !a.delayed {
		return a.ResponseWriter.Write(p)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	n, err = a.ResponseWriter.Write(p)
	if a.left -= int64(n); a.left > 0 {
		dueFlushes.add(a)
	} else {
		a.due.Store(false)
	}
	return n, err
}

// end is called when the answer is complete.
func (a *answer) end() {
	if !a.delayed {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.due.Store(false)
}
