package sidecar

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"strings"
	"time"
)

// exchange is one request and its answer. It is the context of everything that is done for the request.
type exchange struct {
	context.Context
	received *http.Request // as the server made it, which adds the trailers at the end of the body
	upload   *upload       // nil: the request has no body
	answer   answer
	upgrade  []string // that the upstream requires
	name     string   // at Requests; "": none

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
		if !hasAuthority(r) {
			w.Header().Set("Connection", "close")
			http.Error(w, "the target of the request must be a path, or a URL with a host", http.StatusBadRequest)
			return
		}
		if lacksLength(r) {
			w.Header().Set("Connection", "close")
			http.Error(w, "a request with a body needs Content-Length in HTTP/1.0, or HTTP/1.1", http.StatusBadRequest)
			return
		}
		if lacksBody(r) {
			http.Error(w, "the request has a Content-Length and no body", http.StatusBadRequest)
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

// lacksLength says whether a request of HTTP/1.0 may have a body that has no length: chunks, which that version does not
// know, and which the server takes for no body (RFC 9112, section 6.1).
func lacksLength(r *http.Request) bool {
	if r.ProtoAtLeast(1, 1) || r.Header["Content-Length"] != nil {
		return false
	}
	return r.Method == http.MethodPost || r.Method == http.MethodPut || r.Method == http.MethodPatch
}

// lacksBody says whether a request of HTTP/2 ends with its header, which announces a body (RFC 9113, section 8.1.1). The
// server notices when a body that has begun is too short, but not this: the service would take it for a whole request.
func lacksBody(r *http.Request) bool {
	length := r.Header["Content-Length"]
	return r.ProtoMajor == 2 && r.ContentLength == 0 && len(length) > 0 && strings.Trim(length[0], "0") != ""
}

// reset breaks the connection of a client of HTTP/1.0: to it, the end of the connection is the end of the answer.
func reset(w http.ResponseWriter) {
	conn, _, err := http.NewResponseController(w).Hijack()
	if err != nil {
		return
	}
	if secure, ok := conn.(*tls.Conn); ok {
		conn = secure.NetConn() // closing secure would tell the client that the answer has ended
	}
	if held, ok := conn.(*connection); ok {
		conn = held.Conn
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	conn.Close()
}
