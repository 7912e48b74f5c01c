package stdio

import (
	"os"

	"golang.org/x/sys/unix"
)

// WidenPipe enlarges the buffer of f if it is a pipe (F_SETPIPE_SZ), so that its writer and this
// program wait less for each other.
func WidenPipe(f *os.File) {
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 1<<20) // beyond the limit of the user: the pipe works as it is
	}
}
