// Package conformance sends raw requests through the built `governor sidecar`, and the same bytes to the service itself:
//
//	            direct            ┌─────────┐
//	client ──────────────────────►│ service │   the service sees what was sent,
//	client ─────────► sidecar ───►│         │   the client gets what the service answered, or an error
//	                  through     └─────────┘
//
// The proxy has to be transparent. Unless a case says otherwise, the service must see the request as the client sent it,
// and the client must get the answer as the service gave it: method, target, body, trailers, status and the values of
// all header fields, byte for byte. Where a request or an answer is malformed or cut off, the client gets an error: a
// status of 400 or more, or a connection that ends before the message does. It never gets a success that the service did
// not give, and the service never gets a request that looks whole and is not.
//
// Not compared, because the protocol leaves it to each connection or to nobody: the case and the order of field names
// (the order of the values of one name is compared), the reason phrase, the version, the hop-by-hop fields, the framing
// of a message whose sender did not state its length, and white space around a value. The sidecar may add
// X-Forwarded-For, X-Forwarded-Host, X-Forwarded-Proto and Guard-Context to a request, and Date to an answer that has none.
//
// GOVERNOR_BINARY names the binary to test; without it the tests build one.
package conformance
