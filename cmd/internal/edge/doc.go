// Package edge is what a request meets at the sidecar's port before the proxy: which peers are believed, which paths the
// guard leaves alone, how long a client may keep the service waiting, and how a port closes without losing a request.
//
//	client ──► Server ──► Patience ──► Trust.Handler ──► guard ──► proxy ──► service
//	           TLS,       slow         headers of
//	           drain      clients      strangers
//
// It does not know the proxy, and it decides nothing about load.
package edge
