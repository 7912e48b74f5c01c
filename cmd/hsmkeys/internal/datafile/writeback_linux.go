package datafile

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback lets the disk begin with a part of a file, without waiting for it
// (sync_file_range(2)). It is for speed alone: what is durable, Sync says.
func startWriteback(f *os.File, offset, size int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, size, unix.SYNC_FILE_RANGE_WRITE)
}
