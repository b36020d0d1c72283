package sidecar

import (
	"io"
	"net"
	"sync"
	"time"
)

// lingering is how long the bytes for an end that takes no more are still read after the other direction has ended. If the
// connection that they come from were closed at once, with unread bytes, it would be reset, and what was sent last on it
// lost.
const lingering = time.Second

// tunnelEnd is one end of an upgraded connection: the client or the service.
//
// ReverseProxy closes both ends when a write to one of them fails. But an end that takes no more may have sent something
// before: a service that refuses a message sends the reason, and closes the connection while its client still sends. So
// the first failed write ends nothing. Bytes for this end are dropped until all that it sent has been passed on.
type tunnelEnd struct {
	io.ReadWriteCloser

	mu     sync.Mutex
	failed error     // of the first Write that failed
	ended  time.Time // what this end sends; zero: it has not
}

// Read implements io.Reader.
func (e *tunnelEnd) Read(p []byte) (int, error) {
	n, err := e.ReadWriteCloser.Read(p)
	if err != nil {
		e.mu.Lock()
		defer e.mu.Unlock()
		if e.ended.IsZero() {
			e.ended = time.Now()
		}
		if e.failed != nil {
			err = io.EOF // how it ended does not matter; an error would close the other end at once
		}
	}
	return n, err
}

// Write implements io.Writer.
func (e *tunnelEnd) Write(p []byte) (int, error) {
	e.mu.Lock()
	failed, ended := e.failed, e.ended
	e.mu.Unlock()
	if failed == nil {
		n, err := e.ReadWriteCloser.Write(p)
		if err == nil {
			return n, nil
		}
		e.mu.Lock()
		e.failed, ended = err, e.ended
		e.mu.Unlock()
		failed = err
	}
	if !ended.IsZero() && time.Since(ended) >= lingering {
		return 0, failed
	}
	return len(p), nil
}

// CloseWrite closes the sending side, as tunnels do. If it is closed already, it has done so.
func (e *tunnelEnd) CloseWrite() error {
	half, ok := e.ReadWriteCloser.(interface{ CloseWrite() error })
	if !ok {
		return e.Close()
	}
	_ = half.CloseWrite()
	return nil
}

// tunnelClient is the end of the client.
type tunnelClient struct {
	net.Conn
	end tunnelEnd
}

func newTunnelClient(c net.Conn) *tunnelClient {
	return &tunnelClient{Conn: c, end: tunnelEnd{ReadWriteCloser: c}}
}

// Read implements net.Conn.
func (c *tunnelClient) Read(p []byte) (int, error) { return c.end.Read(p) }

// Write implements net.Conn.
func (c *tunnelClient) Write(p []byte) (int, error) { return c.end.Write(p) }

// CloseWrite is that of tunnelEnd.
func (c *tunnelClient) CloseWrite() error { return c.end.CloseWrite() }
