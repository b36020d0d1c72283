package sidecar

import (
	"context"
	"net"
	"net/http"
	"time"
)

// exchange is one request and its answer. It is the context of everything that is done for the request.
type exchange struct {
	context.Context
	received *http.Request // as the server made it, which adds the trailers at the end of the body
	upload   *upload       // nil: the request has no body
	answer   answer
	upgrade  []string // that the upstream requires

	admitted       time.Time // the rest is of Holders
	list           int
	holds          bool
	older, younger *exchange
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
// without TLS. It must serve a Listener. The caller adds time limits.
func Server(next http.Handler) *http.Server {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Server{
		Protocols: protocols, Handler: exchanges(next),
		DisableGeneralOptionsHandler: true, // OPTIONS * is for the service
	}
}

func exchanges(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodConnect {
			w.Header().Set("Allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
			http.Error(w, "this is no forward proxy: send the request itself, not CONNECT", http.StatusMethodNotAllowed)
			return
		}
		x := &exchange{Context: r.Context(), received: r}
		inner := r.WithContext(x)
		if r.ContentLength != 0 && r.Body != nil && r.Body != http.NoBody {
			x.upload = newUpload(x, w)
			inner.Body = x.upload
		}
		x.answer.ResponseWriter, x.answer.exchange = w, x
		complete := false
		defer func() {
			x.answer.end()
			if !complete && !r.ProtoAtLeast(1, 1) {
				reset(w)
			}
		}()
		next.ServeHTTP(&x.answer, inner)
		complete = true
	})
}

// reset breaks the connection of a client of HTTP/1.0: to it, the end of the connection is the end of the answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if held, ok := conn.(*connection); ok {
		conn = held.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
