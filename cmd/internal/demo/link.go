package demo

import (
	"fmt"
	"io"
	"net"
	"sync"
)

// link is the wire between a governor and a server: it passes bytes on until it is cut. Behind a cut link the server
// looks dead: connections break and new ones are refused.
type link struct {
	to string // host:port

	mu       sync.Mutex
	listener net.Listener // nil while it is cut
	address  string
	conns    map[net.Conn]bool
}

// newLink returns a link to host:port with its own address on loopback.
func newLink(to string) (*link, error) {
	l := &link{to: to, address: "127.0.0.1:0", conns: map[net.Conn]bool{}}
	return l, l.mend()
}

// mend makes a link pass bytes again, at the same address.
func (l *link) mend() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener != nil {
		return nil
	}
	listener, err := net.Listen("tcp", l.address)
	if err != nil {
		return fmt.Errorf("listen for the connections to %s: %w", l.to, err)
	}
	l.listener, l.address = listener, listener.Addr().String()
	go l.accept(listener)
	return nil
}

// cut ends every connection and refuses new ones.
func (l *link) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.listener == nil {
		return
	}
	l.listener.Close()
	l.listener = nil
	for conn := range l.conns {
		conn.Close()
	}
	clear(l.conns)
}

func (l *link) accept(listener net.Listener) {
	for {
		near, err := listener.Accept()
		if err != nil {
			return // cut
		}
		go func() {
			far, err := net.Dial("tcp", l.to)
			if err != nil {
				near.Close()
				return
			}
			if l.hold(listener, near, far) {
				go l.pass(far, near)
				l.pass(near, far)
			}
		}()
	}
}

// hold remembers the two ends of a connection, unless the link was cut after it was accepted.
func (l *link) hold(listener net.Listener, ends ...net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range ends {
		if l.listener == listener {
			l.conns[end] = true
		} else {
			end.Close()
		}
	}
	return l.listener == listener
}

// pass copies until either end closes, and then closes both.
func (l *link) pass(to, from net.Conn) {
	_, _ = io.Copy(to, from)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, end := range []net.Conn{to, from} {
		end.Close()
		delete(l.conns, end)
	}
}
