// Package files reads files that other programs write, and may have replaced by something else: of a pipe or a device it says
// so instead of waiting for it, and it reads no more than it is told to.
package files

import (
	"fmt"
	"io"
	"os"
)

// Regular returns nil for a regular file. To open a FIFO waits for another process, and whoever may write to /dev can
// replace a device.
func Regular(name string) error {
	info, err := os.Stat(name)
	if err != nil || info.Mode().IsRegular() {
		return err
	}
	kind := "a device"
	switch mode := info.Mode(); {
	case mode.IsDir():
		kind = "a directory"
	case mode&os.ModeNamedPipe != 0:
		kind = "a pipe"
	case mode&os.ModeSocket != 0:
		kind = "a socket"
	}
	return fmt.Errorf("%s is %s, expected a regular file", name, kind)
}

// Read returns the content of a regular file, and of a longer one the first most bytes.
func Read(name string, most int64) ([]byte, error) {
	if err := Regular(name); err != nil {
		return nil, err
	}
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}
