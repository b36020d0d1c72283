//go:build unix

package files

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A pipe, or a device, that takes the place of a file after Read has looked at it holds nobody up.
func TestOpenWaitsForNobody(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "setting")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	for name, kind := range map[string]string{pipe: "a pipe", os.DevNull: "a device", t.TempDir(): "a directory"} {
		opened := make(chan error, 1)
		go func() {
			f, err := open(name)
			if err == nil {
				err = errors.Join(errors.New("it was opened"), f.Close())
			}
			opened <- err
		}()
		select {
		case err := <-opened:
			if err == nil || !strings.Contains(err.Error(), "is "+kind+", expected a regular file") {
				t.Errorf("%s: %v", name, err)
			}
		case <-time.After(10 * time.Second):
			t.Errorf("%s: opening it waits", name)
			if writer, err := os.OpenFile(name, os.O_RDWR, 0); err == nil { // lets it go
				defer writer.Close()
			}
		}
	}
}

func TestReadIsBounded(t *testing.T) {
	name := filepath.Join(t.TempDir(), "setting")
	if err := os.WriteFile(name, []byte("0123456789"), 0o600); err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int64]string{4: "0123", 10: "0123456789", 99: "0123456789"} {
		if got, err := Read(name, most); err != nil || string(got) != want {
			t.Errorf("%d bytes: %q, %v", most, got, err)
		}
	}
}
