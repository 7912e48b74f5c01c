package main

import (
	"os"

	"golang.org/x/sys/unix"
)

// widenPipe makes more room in a pipe, where it is one, so that who writes into it and
// this program wait less for each other (F_SETPIPE_SZ).
func widenPipe(f *os.File) {
	if info, err := f.Stat(); err == nil && info.Mode()&os.ModeNamedPipe != 0 {
		_, _ = unix.FcntlInt(f.Fd(), unix.F_SETPIPE_SZ, 1<<20) // a limit may be reached: it works all the same
	}
}
