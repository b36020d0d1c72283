module github.com/seed-de83e32b/governor/test/grpc

go 1.26.7

require (
	github.com/cncf/xds/go v0.0.0-20260202195803-dba9d589def2
	github.com/seed-de83e32b/governor/actuators v0.0.0
	github.com/seed-de83e32b/governor/actuators/guard/guardgrpc v0.0.0
	google.golang.org/grpc v1.84.0
	google.golang.org/protobuf v1.36.12
)

require (
	cloud.google.com/go/compute/metadata v0.9.0 // indirect
	github.com/envoyproxy/protoc-gen-validate v1.3.3 // indirect
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/oauth2 v0.36.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.40.0 // indirect
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260706201446-f0a921348800 // indirect
)

replace github.com/seed-de83e32b/governor/actuators => ../../actuators

replace github.com/seed-de83e32b/governor/actuators/guard/guardgrpc => ../../actuators/guard/guardgrpc
