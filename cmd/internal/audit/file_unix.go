//go:build unix

package audit

import (
	"errors"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// writeOnce calls write(2) once. [os.File.Write] would write the rest of a line after that of another
// process.
func writeOnce(f *os.File, data []byte) (n int, err error) {
	conn, err := f.SyscallConn()
	if err != nil {
		return 0, err
	}
	var written error
	err = conn.Control(func(fd uintptr) { n, written = unix.Write(int(fd), data) })
	return max(n, 0), errors.Join(err, written)
}

// isRemoved reports whether a file has no name any more.
func isRemoved(f *os.File) bool {
	info, err := f.Stat()
	if err != nil {
		return true
	}
	stat, ok := info.Sys().(*syscall.Stat_t)
	return ok && stat.Nlink == 0
}
