//go:build unix

package stdio

import (
	"os"
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// What modules print on descriptor 1 would go into the next file that is opened if the
// garbage collector closed the descriptor.
func TestAReplacedFileStaysOpen(t *testing.T) {
	fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	standard := os.NewFile(uintptr(fd), "standard")
	replaceFile(&standard, nil)
	collected := make(chan bool)
	runtime.AddCleanup(new([16]byte), func(c chan bool) { close(c) }, collected)
	for done := false; !done; {
		runtime.GC()
		select {
		case <-collected:
			done = true
		case <-time.After(time.Millisecond):
		}
	}
	runtime.GC()
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
		return
	}
	t.Error("its descriptor was closed")
}
