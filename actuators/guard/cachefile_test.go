//go:build unix

package guard

import (
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// A cache file that is a pipe would wait for a writer, and one that is a device would be replaced: both are refused in
// words, read or written, and the guard works from its fallback.
func TestCacheFileThatIsNoFileIsNeitherOpenedNorReplaced(t *testing.T) {
	dir := t.TempDir()
	pipe := filepath.Join(dir, "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Skip(err)
	}
	link := filepath.Join(dir, "null")
	if err := os.Symlink("/dev/null", link); err != nil {
		t.Skip(err)
	}
	for _, tc := range []struct{ file, want string }{
		{pipe, "is a pipe"}, {dir, "is a directory"}, {"/dev/zero", "is a device"}, {link, "is a device"},
	} {
		var log strings.Builder
		g, err := New(Config{
			Service: "checkout", SLO: 300 * time.Millisecond, Fallback: 33, CacheFile: tc.file, Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := g.Snapshot(); s.Limit != 33 || !strings.Contains(log.String(), tc.want) {
			t.Errorf("%s: limit %d, log %q", tc.file, s.Limit, &log)
		}
		before, err := os.Lstat(tc.file)
		if err != nil {
			t.Fatal(err)
		}
		if err := replaceFile(tc.file, []byte("{}")); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: written, %v", tc.file, err)
		}
		if after, err := os.Lstat(tc.file); err != nil || after.Mode().Type() != before.Mode().Type()&fs.ModeType {
			t.Errorf("%s: now %v, %v", tc.file, after.Mode(), err)
		}
	}
}
