package conformance

import (
	"errors"
	"testing"
)

// scene is a case in which what matters is when things happen, or how a connection ends. Both sides state what they
// expect of each other. They must be content when the client asks the service directly, and as content through the
// sidecar.
type scene struct {
	name   string
	client func(*peer)
	serve  func(*peer) // on each connection
	most   int         // requests that the service may see; 0: any number
}

func (s scene) run(t *testing.T, kind lane) {
	w := borrow(t, kind)
	clean := true
	for _, through := range []bool{false, true} {
		l := w.begin(through, s.serve)
		l.asClient(s.client)
		clean = w.end(l) && clean
		err := errors.Join(l.errs...)
		if err == nil && s.most > 0 && len(l.seen) > s.most {
			err = errors.New("the service saw a request that nobody sent")
		}
		switch {
		case err != nil && !through:
			t.Fatalf("asked directly: %v; the service saw %v", err, l.seen)
		case err != nil:
			t.Errorf("through the sidecar: %v; the service saw %v", err, l.seen)
		}
	}
	w.giveBack(clean && !t.Failed())
}

func playScenes(t *testing.T, kind lane, scenes []scene) {
	t.Parallel()
	for _, s := range scenes {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			s.run(t, kind)
		})
	}
}

// wants fails the role if an answer is not the one that is wanted.
func (p *peer) wants(got message, want string) {
	for _, m := range parse(want, true, "GET") {
		if lines := differ(m, got, "date"); len(lines) > 0 {
			p.fail("the client got %v: %v", got, lines)
		}
	}
}

// wantsError fails the role if an answer is none of the sidecar's errors. The service itself is not asked for one.
func (p *peer) wantsError(got message, status ...int) {
	if !isError(got) || !allows(status, got) {
		p.fail("the client got %v, want %s", got, names(status))
	}
}

// another is a second connection of the same client. It ends with the client's role.
func (p *peer) another() *peer {
	other, err := p.leg.dial()
	if err != nil {
		p.fail("%v", err)
	}
	p.leg.more = append(p.leg.more, other)
	return other
}
