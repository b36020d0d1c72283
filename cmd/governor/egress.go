package main

import (
	"context"
	"fmt"
	"net"
	"net/url"
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

// loops reports what leads into the sidecar's own forward ports, under whatever name: the service's clients would reach a
// dependency, or a call would go round for as long as it can.
func (f egressFlag) loops(upstream *url.URL) (errs []error) {
	for _, port := range f {
		at := edge.Address{Network: port.network, Address: port.address}
		if at.Reaches(context.Background(), upstream) {
			errs = append(errs, fmt.Errorf("--upstream=%s: this is the forward port of --egress=%s: expected the address at which the "+
				"service listens", upstream.Redacted(), port))
		}
		for _, e := range f {
			for _, target := range e.urls() {
				if u, err := url.Parse(target); err == nil && at.Reaches(context.Background(), u) {
					errs = append(errs, fmt.Errorf("--egress=%s: TARGET %q: this is the forward port of --egress=%s: expected the address "+
						"of the dependency", e.dependency, target, port))
				}
			}
		}
	}
	return errs
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
