package conformance

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync"
	"time"
)

// peer is one end of a connection: a client, or the service. Its methods end the role with a failure if the other end
// does not do what they expect.
type peer struct {
	conn net.Conn
	r    *bufio.Reader
	leg  *leg
	body *body // of the message whose head was read last

	aside sync.WaitGroup // for what is being sent; see sendAside
}

// failure is what ends a role; see leg.play.
type failure struct{ error }

func (p *peer) fail(format string, args ...any) { panic(failure{fmt.Errorf(format, args...)}) }

// send writes the text. If the other end has gone, what it answered before still counts.
func (p *peer) send(text string) { _, _ = io.WriteString(p.conn, text) }

// sendAside is send, while the role goes on. The role ends only when all is sent: else its end could overtake the bytes.
func (p *peer) sendAside(text string) { p.aside.Go(func() { p.send(text) }) }

// cue tells the other side of the case that this one has come so far.
func (p *peer) cue(name string) { p.leg.cues.give(name) }

// await waits for the other side.
func (p *peer) await(name string) {
	select { // the end of the case may have come as well
	case <-p.leg.cues.of(name):
		return
	default:
	}
	timer := time.NewTimer(time.Until(p.leg.ends))
	defer timer.Stop()
	select {
	case <-p.leg.cues.of(name):
	case <-p.leg.cues.of(over):
		p.fail("the case ended before: %s", name)
	case <-timer.C:
		p.fail("waited in vain for: %s", name)
	}
}

// closeWrite ends what this side sends, and goes on reading.
func (p *peer) closeWrite() { _ = p.conn.(interface{ CloseWrite() error }).CloseWrite() }

// reset ends the connection with RST.
func (p *peer) reset() {
	if c, ok := p.conn.(*net.TCPConn); ok {
		_ = c.SetLinger(0)
	}
	p.conn.Close()
}

func (p *peer) close() { p.conn.Close() }

// request reads a whole request and notes that the service has seen it. ok is false if the connection ends instead.
func (p *peer) request() (m message, ok bool) {
	m, err := readMessage(p.r, false, "")
	if err != nil {
		return m, false
	}
	p.leg.saw(m)
	return m, true
}

// requestHead reads a request up to its body. The request counts as seen.
func (p *peer) requestHead() message {
	m, err := readHead(p.r, false)
	if err == nil {
		p.body, err = bodyOf(p.r, m, "")
	}
	if err != nil {
		p.fail("the head of a request: %v", err)
	}
	p.leg.saw(m)
	return m
}

// answer reads a whole answer.
func (p *peer) answer(asked string) message {
	m, err := readMessage(p.r, true, asked)
	if err != nil {
		m.broken = broken(cut(err))
	}
	return m
}

// answerHead reads an answer up to its body, which must have this status.
func (p *peer) answerHead(asked string, status int) message {
	m, err := readHead(p.r, true)
	if err == nil {
		p.body, err = bodyOf(p.r, m, asked)
	}
	if err != nil {
		p.fail("the head of an answer with %d: %v", status, err)
	}
	if m.status() != status {
		p.fail("answered %v, want %d", m, status)
	}
	return m
}

// expect reads this text from the body.
func (p *peer) expect(text string) {
	got := make([]byte, len(text))
	n, err := io.ReadFull(p.body, got)
	if string(got[:n]) != text {
		p.fail("the body goes on with %s, %v; want %s", short(string(got[:n])), err, short(text))
	}
}

// expectEnd requires that the body ends here, whole.
func (p *peer) expectEnd() {
	if rest, err := io.ReadAll(p.body); err != nil || len(rest) > 0 {
		p.fail("the body goes on with %s, %v; want its end", short(string(rest)), err)
	}
}

// raw reads this text from the connection itself, as after an upgrade.
func (p *peer) raw(text string) {
	got := make([]byte, len(text))
	n, err := io.ReadFull(p.r, got)
	if string(got[:n]) != text {
		p.fail("received %s, %v; want %s", short(string(got[:n])), err, short(text))
	}
}

// gone requires that the other end closes the connection, cleanly or not, without sending more.
func (p *peer) gone() {
	rest, err := io.ReadAll(p.r)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		p.fail("the connection stays open")
	}
	if len(rest) > 0 {
		p.fail("received %s, want the end of the connection", short(string(rest)))
	}
}

// goneSoon is gone, and the other end may not take its time: what this side still does is for nobody.
func (p *peer) goneSoon() {
	p.conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	p.gone()
}

// quiet requires that nothing arrives for d.
func (p *peer) quiet(d time.Duration) {
	p.conn.SetReadDeadline(time.Now().Add(d))
	if _, err := p.r.Peek(1); !errors.Is(err, os.ErrDeadlineExceeded) {
		rest, _ := p.r.Peek(p.r.Buffered())
		p.fail("received %s, %v; want nothing yet", short(string(rest)), err)
	}
	p.conn.SetReadDeadline(p.leg.ends)
}
