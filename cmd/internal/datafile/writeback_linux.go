package datafile

import (
	"os"

	"golang.org/x/sys/unix"
)

// startWriteback starts writing a part of a file to the disk, without waiting for it
// (sync_file_range(2)). It only saves time: durability comes from Sync.
func startWriteback(f *os.File, offset, size int64) {
	_ = unix.SyncFileRange(int(f.Fd()), offset, size, unix.SYNC_FILE_RANGE_WRITE)
}
