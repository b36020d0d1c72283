// Package sidecar is the proxy engine of `governor sidecar`: the way in, from clients to the service, and the way out,
// from the service through forward ports to its dependencies. It does not know flags. Package guardhttp decides
// which requests are admitted and which calls are retried.
//
//	clients ──► Server ──► guardhttp.New ──► Inbound ──► service
//	                                                        │
//	dependency ◄── guardhttp.Transport ◄── ForwardPort ◄── Server
//
// httputil.ReverseProxy copies requests and answers. This package adds what a proxy in front of production needs and
// ReverseProxy leaves out:
//
//   - HTTP/2 without TLS on both sides, and sockets as upstreams (Server, Transport);
//   - requests and answers as they came: raw paths, no guessed Content-Type, trailers that nobody announced (target.go,
//     answer.go, upload.go);
//   - 100 (Continue) only when the service says so (upload.go);
//   - a status for every request: a client that has closed its sending side still reads (exchange.go);
//   - the faults of a client told apart from those of the service (upload.go);
//   - errors that a gRPC client understands (fail.go).
package sidecar
