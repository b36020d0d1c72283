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
	if err != nil {
		return err
	}
	return regular(name, info)
}

func regular(name string, info os.FileInfo) error {
	kind := "a device"
	switch mode := info.Mode(); {
	case mode.IsRegular():
		return nil
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
	if err := Regular(name); err != nil { // to open a device may already do something to it
		return nil, err
	}
	f, err := open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, most))
}

// open opens a regular file. It waits for nobody, even if the name has come to mean a FIFO since somebody looked.
func open(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDONLY|nonblock, 0)
	if err != nil {
		return nil, err
	}
	info, err := f.Stat()
	if err == nil {
		err = regular(name, info)
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}
