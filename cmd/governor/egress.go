package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"slices"
	"syscall"
	"time"
)

// listen opens the forward port. A socket that a sidecar left when it was killed makes room for the new one.
func (e egress) listen() (net.Listener, error) {
	if e.network == "unix" {
		removeStale(e.address)
	}
	l, err := net.Listen(e.network, e.address)
	if err != nil {
		return nil, listenError("egress", e.String(), err)
	}
	return l, nil
}

// removeStale removes a socket at which nobody listens.
func removeStale(path string) {
	info, err := os.Lstat(path)
	if err != nil || info.Mode()&fs.ModeSocket == 0 {
		return
	}
	conn, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		conn.Close()
	} else if errors.Is(err, syscall.ECONNREFUSED) {
		_ = os.Remove(path) // if it fails, listening says why
	}
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
