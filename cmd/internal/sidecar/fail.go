package sidecar

import (
	"errors"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

// fail answers a request that has no answer, in a way that its client understands.
func (x *exchange) fail(w http.ResponseWriter, status int, text string) {
	code := guardhttp.GRPCUnavailable // as gRPC maps 502 to 504
	if status < http.StatusInternalServerError {
		code = guardhttp.GRPCInternal // and 400
	}
	x.failWith(w, status, code, text)
}

// failWith is fail with a code for gRPC.
func (x *exchange) failWith(w http.ResponseWriter, status, code int, text string) {
	x.upload.closeUnread(w.Header())
	if guardhttp.IsGRPC(x.received) {
		guardhttp.FailGRPC(w, x.received, code, text)
		return
	}
	http.Error(w, text, status)
}

// failBroken answers a request whose body the client broke, and says whether it did.
func (x *exchange) failBroken(w http.ResponseWriter) bool {
	fault := x.upload.broken()
	switch {
	case fault == nil:
		return false
	case errors.Is(fault, os.ErrDeadlineExceeded):
		x.fail(w, http.StatusRequestTimeout, "the body of the request did not come in time")
	default:
		x.fail(w, http.StatusBadRequest, "the body of the request is broken: "+fault.Error())
	}
	return true
}

// seldom keeps a log short in an outage, in which every request fails. The zero value is ready.
type seldom struct{ last atomic.Int64 }

// now says whether the last time it said yes was more than ten seconds ago.
func (s *seldom) now() bool {
	now, last := time.Now().UnixNano(), s.last.Load()
	return now-last > int64(10*time.Second) && s.last.CompareAndSwap(last, now)
}
