package main

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/seed-de83e32b/governor/actuators/waittest"
	"github.com/seed-de83e32b/governor/daemon/api"
)

// A pipe that nobody reads is full after 64 kB, and one whose reader has gone raises a signal that ends a process. In
// both cases the loops go on, and the process ends in order when it is told to.
func TestDaemonDecidesAlthoughNobodyReadsItsLog(t *testing.T) {
	for _, tc := range []struct {
		name string
		pipe func(t *testing.T) *os.File
	}{
		{"full", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { r.Close(); w.Close() })
			if err := w.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
				t.Fatal(err)
			}
			for err == nil {
				_, err = w.Write(make([]byte, 4096))
			}
			return w
		}},
		{"broken", func(t *testing.T) *os.File {
			r, w, err := os.Pipe()
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { w.Close() })
			r.Close()
			return w
		}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			cmd, client := daemonProcess(t, write(t, goodConfig+"timing: {scrape_interval: 1s}\n"), tc.pipe(t))
			var seen uint64
			for range 3 {
				waittest.Until(t, "another decision", func() bool {
					d, err := client.Decisions(t.Context(), api.Query{Last: 1})
					if err != nil {
						t.Fatal(err)
					}
					before := seen
					seen = d.Next
					return before != 0 && seen > before
				})
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			select {
			case err := <-ended:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Error(errors.New("SIGTERM has not ended it"))
			}
		})
	}
}
