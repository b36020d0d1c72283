package guardhttp

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/internal/patience"
)

// body is the body of an answer. The attempt ends when it is read to its end or closed, or when its context ends: a
// caller who forgets to close it must not keep the slot forever.
type body struct {
	io.ReadCloser
	ctx     context.Context
	answer  *http.Response
	source  *source // of the request; nil: it cannot break
	attempt guard.Attempt
	result  guard.Result // if the body comes whole
	ended   atomic.Bool
	forget  func() bool // the end of the context

	mu        sync.Mutex // of envelopes
	envelopes *lastWords // nil: the answer is in none
}

func newBody(answer *http.Response, source *source, attempt guard.Attempt, result guard.Result) *body {
	ctx := answer.Request.Context()
	b := &body{
		ReadCloser: answer.Body, ctx: ctx, answer: answer, source: source, attempt: attempt, result: result,
	}
	if answer.StatusCode == http.StatusOK && len(answer.Header["Grpc-Status"]) == 0 {
		b.envelopes = envelopesOf(answer.Header)
	}
	if ctx.Done() == nil {
		b.forget = func() bool { return true }
	} else {
		b.forget = context.AfterFunc(ctx, func() { b.end(ctx.Err()) })
	}
	return b
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	returned := false
	defer func() {
		if !returned { // by a panic
			b.finish(io.ErrUnexpectedEOF)
		}
	}()
	n, err := b.ReadCloser.Read(p)
	returned = true
	if b.envelopes != nil {
		b.mu.Lock()
		b.envelopes.hear(p[:n])
		b.mu.Unlock()
	}
	if err != nil {
		b.finish(err)
	}
	return n, err
}

// Close implements io.Closer. Closing it before its end is not a failure.
func (b *body) Close() error {
	err := b.ReadCloser.Close()
	b.finish(nil)
	return err
}

func (b *body) finish(err error) {
	b.forget()
	b.end(err)
}

// end ends the attempt, once. io.EOF is the good end; nil: the caller has closed the body, perhaps before its end.
func (b *body) end(err error) {
	if b.ended.Swap(true) {
		return
	}
	r := b.result
	switch {
	case r.Outcome != guard.Success:
	case b.envelopes != nil && b.toldFailure(errors.Is(err, io.EOF)):
		r.Outcome = guard.Failure
	case err == nil:
	case errors.Is(err, io.EOF):
		if b.answer.ProtoMajor == 2 && IsGRPCType(b.answer.Header) {
			r.Outcome = grpcOutcome(b.answer.Trailer.Get("Grpc-Status"))
		}
	case errors.Is(b.ctx.Err(), context.Canceled), b.source.broken():
		r.Outcome = guard.Canceled
	default:
		r.Outcome = guard.Failure
	}
	b.attempt.Done(r)
}

// toldFailure says whether the last envelope has a failure, or is missing at the end.
func (b *body) toldFailure(atEnd bool) (failed bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return (atEnd || b.envelopes.complete()) && b.envelopes.failed()
}

const eventStream = "text/event-stream"

// IsEventStream says whether an answer with this header lasts as long as its caller listens.
func IsEventStream(h http.Header) bool {
	values := h["Content-Type"]
	if len(values) == 0 {
		return false
	}
	kind := values[0]
	if len(kind) < len(eventStream) || !strings.EqualFold(kind[:len(eventStream)], eventStream) {
		return false
	}
	rest := strings.TrimSpace(kind[len(eventStream):])
	return rest == "" || rest[0] == ';'
}

// requestBody is the body of a request.
type requestBody struct {
	io.ReadCloser
	client *patience.Client
	read   atomic.Bool // to its end
	broken atomic.Bool // by the client
}

// Read implements io.Reader.
func (b *requestBody) Read(p []byte) (int, error) {
	if b.read.Load() {
		return b.ReadCloser.Read(p)
	}
	b.client.BeginRead()
	defer b.client.EndRead()
	n, err := b.ReadCloser.Read(p)
	switch {
	case err == nil, errors.Is(err, http.ErrBodyReadAfterClose):
	case errors.Is(err, io.EOF):
		b.read.Store(true)
	default:
		b.broken.Store(true)
	}
	return n, err
}
