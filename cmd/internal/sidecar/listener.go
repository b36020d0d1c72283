package sidecar

import (
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Patience is how long a request may wait for the next byte of its answer after its client has closed its sending side.
// Such a client may be reading still (a half-closed connection), or it may be gone: TCP does not tell until something is
// written. Most services answer within it, and work for clients that are gone goes on no longer.
const Patience = 5 * time.Second

// Listener accepts connections for a Server.
//
// While a handler runs, net/http reads ahead, and takes the end of what a client sends for its end: it cancels the request.
// Connections of this listener hold that end back for patience. 0 holds nothing back. TLS on top of it hides what is read
// ahead, so there a client that closes its sending side gives its request up.
func Listener(l net.Listener, patience time.Duration) net.Listener {
	return &listener{Listener: l, patience: patience}
}

type listener struct {
	net.Listener
	patience time.Duration
}

// Accept implements net.Listener.
func (l *listener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || l.patience == 0 {
		return c, err
	}
	return &connection{Conn: c, patience: l.patience, wake: make(chan struct{}, 1)}, nil
}

// connection holds back the end of what a client sends, from the only reader that it does not matter to: the one that reads
// ahead, one byte.
type connection struct {
	net.Conn
	patience time.Duration

	ended atomic.Bool  // what the client sends
	wrote atomic.Int64 // since then, when: nanoseconds of Unix time
	wake  chan struct{}
	stop  atomic.Int32 // why a Read must not wait
}

// Values of connection.stop.
const (
	goOn = iota
	deadlinePassed
	closed
)

// Read implements net.Conn.
func (c *connection) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if len(p) == 1 && errors.Is(err, io.EOF) {
		return n, c.hold(err)
	}
	return n, err
}

// hold returns end when nothing has been written for the patience, or why it must return before.
func (c *connection) hold(end error) error {
	c.wrote.Store(time.Now().UnixNano())
	c.ended.Store(true)
	timer := time.NewTimer(c.patience)
	defer timer.Stop()
	for {
		switch c.stop.Load() {
		case deadlinePassed:
			return os.ErrDeadlineExceeded
		case closed:
			return net.ErrClosed
		}
		select {
		case <-c.wake:
		case <-timer.C:
			left := c.patience - time.Since(time.Unix(0, c.wrote.Load()))
			if left <= 0 {
				return end
			}
			timer.Reset(left)
		}
	}
}

// Write implements net.Conn.
func (c *connection) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if c.ended.Load() {
		c.wrote.Store(time.Now().UnixNano())
	}
	return n, err
}

// SetReadDeadline implements net.Conn. One that has passed ends a Read, as net/http does before it stops reading ahead.
func (c *connection) SetReadDeadline(t time.Time) error {
	if !t.IsZero() && time.Until(t) <= 0 {
		c.end(deadlinePassed)
	} else {
		c.stop.CompareAndSwap(deadlinePassed, goOn)
	}
	return c.Conn.SetReadDeadline(t)
}

// SetDeadline implements net.Conn.
func (c *connection) SetDeadline(t time.Time) error {
	if err := c.SetReadDeadline(t); err != nil {
		return err
	}
	return c.Conn.SetWriteDeadline(t)
}

// Close implements net.Conn.
func (c *connection) Close() error {
	c.end(closed)
	return c.Conn.Close()
}

// CloseWrite closes the sending side, as tunnels do.
func (c *connection) CloseWrite() error { return closeWrite(c.Conn, c) }

// closeWrite closes the sending side of inner, or all of outer, which is around it, if inner has no sides.
func closeWrite(inner, outer net.Conn) error {
	if half, ok := inner.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return outer.Close()
}

func (c *connection) end(why int32) {
	c.stop.Store(why)
	if !c.ended.Load() {
		return // nobody waits, or will see why
	}
	select {
	case c.wake <- struct{}{}:
	default:
	}
}
