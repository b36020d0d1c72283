// Package edge is what a request meets at the sidecar's port before the proxy: which peers are believed, which paths the
// guard leaves alone, how long a client may keep the service waiting, and how a port closes without losing a request.
//
//	client ──► Server ──► Trust.Strip ──► guard ──► Patience ──► proxy ──► service
//	           TLS,       headers of      slot      client's time
//	           drain      strangers                 is not the service's
//
// It does not know the proxy, and it decides nothing about load.
package edge
