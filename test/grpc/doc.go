// Package grpc puts real gRPC through the sidecar and through guardhttp: the interoperability tests that gRPC's own
// implementations pass among each other. It is a module of its own, so that nothing else depends on gRPC.
package grpc
