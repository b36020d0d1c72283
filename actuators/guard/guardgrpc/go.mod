module github.com/seed-de83e32b/governor/actuators/guard/guardgrpc

go 1.26.7

require (
	github.com/seed-de83e32b/governor/actuators v0.0.0
	go.uber.org/goleak v1.3.0
	google.golang.org/genproto/googleapis/rpc v0.0.0-20260706201446-f0a921348800
	google.golang.org/grpc v1.84.0
	google.golang.org/protobuf v1.36.12
)

require (
	golang.org/x/net v0.57.0 // indirect
	golang.org/x/sys v0.48.0 // indirect
	golang.org/x/text v0.40.0 // indirect
)

replace github.com/seed-de83e32b/governor/actuators => ../..
