package conformance

import (
	"io"
	"net"
	"testing"
	"testing/synctest"
)

// TestARoleEndsWhenAllIsSent: the connection is closed when its role ends. Bytes that were still to be sent would be lost,
// and the sidecar would be blamed.
func TestARoleEndsWhenAllIsSent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		conn, far := net.Pipe()
		l := &leg{}
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			l.play(&peer{conn: conn, leg: l}, func(p *peer) { p.sendAside("all of it") })
			conn.Close()
		}()
		synctest.Wait()
		select {
		case <-ended:
			t.Error("the role has ended before its bytes were read")
		default:
		}
		if got, err := io.ReadAll(far); string(got) != "all of it" || err != nil {
			t.Errorf("received %q, %v", got, err)
		}
		<-ended
	})
}
