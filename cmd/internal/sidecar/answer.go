package sidecar

import "net/http"

// answer writes an answer to a client as it came: net/http would guess its Content-Type, remove headers of 304, and
// send informational answers to clients that do not know them.
type answer struct {
	http.ResponseWriter
	exchange *exchange
	begun    bool
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	switch {
	case status == http.StatusContinue:
		if a.exchange.upload.continues(a.exchange.received) {
			a.ResponseWriter.WriteHeader(status)
		}
		a.exchange.upload.ask() // last: else the server would send a second one
		return
	case status < 200 && status != http.StatusSwitchingProtocols:
		if !a.exchange.received.ProtoAtLeast(1, 1) {
			return // RFC 9110, section 15.2
		}
	default:
		a.begin(status)
	}
	a.ResponseWriter.WriteHeader(status)
}

func (a *answer) begin(status int) {
	if a.begun {
		return
	}
	a.begun = true
	h := a.Header()
	if status == http.StatusNotModified && a.exchange.received.ProtoMajor == 1 {
		// The server removes these by their canonical names. RFC 9110, section 15.4.5, allows them.
		for name, other := range map[string]string{"Content-Type": "content-type", "Content-Length": "content-length"} {
			if values, ok := h[name]; ok {
				delete(h, name)
				h[other] = values
			}
		}
		return
	}
	if _, ok := h["Content-Type"]; !ok {
		h["Content-Type"] = nil // keeps the server from guessing
	}
}

// Write implements io.Writer.
func (a *answer) Write(p []byte) (int, error) {
	a.begin(http.StatusOK)
	n, err := a.ResponseWriter.Write(p)
	a.exchange.wrote(err)
	return n, err
}

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	a.begin(http.StatusOK)
	err := http.NewResponseController(a.ResponseWriter).Flush()
	a.exchange.wrote(err)
	return err
}
