package sidecar

import (
	"context"
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// Patience is how long an exchange waits for the next byte of the answer after its client has closed its sending side.
// Such a client may be reading still (a half-closed connection), or it may be gone: TCP does not tell until something is
// written. Most services finish within it; and the work for clients that are gone goes on no longer.
const Patience = 5 * time.Second

// errNobodyReads ends an exchange whose client is gone.
var errNobodyReads = errors.New("the client has closed the connection")

// exchange is one request and its answer. It is the context of everything that is done for the request. Unlike the
// server's own context it outlives the end of what an HTTP/1 client sends, see Patience. It ends at once if the client
// resets an HTTP/2 stream or cannot be written to.
type exchange struct {
	context.Context
	server   context.Context // ends with what the client sends
	received *http.Request   // as the server made it, which adds the trailers at the end of the body
	upload   upload
	upgrade  []string // that the upstream requires
	patience time.Duration
	cancel   context.CancelCauseFunc

	closed atomic.Bool // the sending side
	mu     sync.Mutex
	over   bool        // the handler has returned
	timer  *time.Timer // of the patience
}

type exchangeKey struct{}

// exchangeOf returns the exchange that a request received by Server belongs to.
func exchangeOf(ctx context.Context) *exchange { return ctx.Value(exchangeKey{}).(*exchange) }

// Value implements context.Context.
func (x *exchange) Value(key any) any {
	if key == (exchangeKey{}) {
		return x
	}
	return x.Context.Value(key)
}

// Server returns a server for Inbound (in guardhttp.New) or ForwardPort that accepts HTTP/1.1 and HTTP/2, with and
// without TLS. See Patience; 0 takes a client that has closed its sending side for gone. The caller adds time limits.
func Server(next http.Handler, patience time.Duration) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{Protocols: protocols, Handler: exchanges(next, patience), DisableGeneralOptionsHandler: true}
}

func exchanges(next http.Handler, patience time.Duration) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
			http.Error(w, "this is no forward proxy: send the request itself, not CONNECT", http.StatusMethodNotAllowed)
			return
		}
		x := &exchange{server: r.Context(), received: r, patience: patience}
		defer x.finish()
		if r.ProtoMajor == 1 {
			x.Context, x.cancel = context.WithCancelCause(context.WithoutCancel(r.Context()))
			defer context.AfterFunc(r.Context(), x.sendingEnded)()
		} else {
			x.Context, x.cancel = context.WithCancelCause(r.Context())
		}
		inner := r.WithContext(x)
		if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
			x.upload.init(x, w)
			inner.Body = &x.upload
		} else {
			x.upload.read.Store(true)
		}
		next.ServeHTTP(&answer{ResponseWriter: w, exchange: x}, inner)
	})
}

// sendingEnded is called when the server's context ends: the client has closed its sending side, or the server itself is
// ending its requests, for a cause of its own.
func (x *exchange) sendingEnded() {
	if cause := context.Cause(x.server); !errors.Is(cause, context.Canceled) {
		x.cancel(cause)
		return
	}
	x.closed.Store(true)
	x.mu.Lock()
	defer x.mu.Unlock()
	if !x.over {
		x.timer = time.AfterFunc(x.patience, func() { x.cancel(errNobodyReads) })
	}
}

// wrote notes a write to the client.
func (x *exchange) wrote(err error) {
	switch {
	case err != nil && !errors.Is(err, http.ErrBodyNotAllowed) && !errors.Is(err, http.ErrNotSupported):
		x.cancel(errNobodyReads)
	case x.closed.Load():
		x.mu.Lock()
		defer x.mu.Unlock()
		if x.timer != nil && !x.over {
			x.timer.Reset(x.patience)
		}
	}
}

func (x *exchange) finish() {
	x.mu.Lock()
	x.over = true
	if x.timer != nil {
		x.timer.Stop()
	}
	x.mu.Unlock()
	x.cancel(nil)
}

// grpc says whether the client speaks gRPC.
func (x *exchange) grpc() bool { return guardhttp.IsGRPC(x.received) }
