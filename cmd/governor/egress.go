package main

import (
	"net"
	"slices"

	"github.com/seed-de83e32b/governor/cmd/internal/edge"
)

// listen opens the forward port. A socket that a sidecar left when it was killed makes room for the new one.
func (e egress) listen() (net.Listener, error) {
	l, err := edge.Address{Network: e.network, Address: e.address}.Listen()
	if err != nil {
		return nil, listenError("egress", e.String(), err)
	}
	return l, nil
}

// String returns what an error calls the forward port.
func (e egress) String() string { return e.dependency + "=" + e.address }

// urls returns the instances as in the flag.
func (e egress) urls() []string {
	urls := slices.Clone(e.instances)
	for i := range urls {
		urls[i] = e.scheme + "://" + urls[i]
	}
	return urls
}
