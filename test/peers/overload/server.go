package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"time"

	"github.com/failsafe-go/failsafe-go/adaptivelimiter"
	"github.com/failsafe-go/failsafe-go/failsafehttp"
	"github.com/seed-de83e32b/governor/actuators/guard"
	"github.com/seed-de83e32b/governor/actuators/guard/guardhttp"
)

const (
	bare    = "no limit"
	guarded = "guardhttp"
)

// variants are what may stand in front of the handler.
var variants = []struct {
	name string
	wrap func(http.Handler) (http.Handler, error)
}{
	{bare, func(h http.Handler) (http.Handler, error) { return h, nil }},
	{guarded, func(h http.Handler) (http.Handler, error) {
		g, err := guard.New(guard.Config{Service: "overload", SLO: slo})
		return guardhttp.New(g, h), err
	}},
	{"failsafe-go", func(h http.Handler) (http.Handler, error) {
		return failsafehttp.NewHandler(h, adaptivelimiter.NewWithDefaults[*http.Response]()), nil
	}},
}

// serve runs the server of a variant until its standard input ends. It writes its address to the standard output. work is
// how many steps a request takes, and in how many parts.
func serve(variant string, work []string) error {
	var steps, parts int
	if _, err := fmt.Sscan(strings.Join(work, " "), &steps, &parts); err != nil {
		return fmt.Errorf("serve: expected the steps of a request and its parts, got %q: %w", work, err)
	}
	handler, err := wrapped(variant, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		for range parts {
			compute(steps / parts)
			runtime.Gosched()
		}
		io.WriteString(w, "done\n")
	}))
	if err != nil {
		return err
	}
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	s := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the other process closes it, or ends
		s.Close()
	}()
	fmt.Println(l.Addr())
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func wrapped(variant string, h http.Handler) (http.Handler, error) {
	for _, v := range variants {
		if v.name == variant {
			return v.wrap(h)
		}
	}
	return nil, fmt.Errorf("serve: no variant is called %q", variant)
}

var computed atomic.Uint64 // keeps the compiler from leaving out the work

// compute does some work that needs no memory.
func compute(steps int) {
	x := uint64(1)
	for range steps {
		x ^= x << 13
		x ^= x >> 7
		x ^= x << 17
	}
	computed.Add(x)
}

// calibrate returns how many steps take as long as the work of a request, by the fastest of some tries: the others were
// interrupted.
func calibrate() (steps int) {
	const try = 1_000_000
	fastest := time.Hour
	for range 50 {
		began := time.Now()
		compute(try)
		fastest = min(fastest, time.Since(began))
	}
	return int(float64(try) * work.Seconds() / fastest.Seconds())
}
