// Package grpc puts real gRPC through the sidecar, guardhttp and guardgrpc, and through one in front of another: the
// interoperability tests that gRPC's own implementations pass among each other. It is a module of its own, so that nothing
// else depends on gRPC.
package grpc
