//go:build unix

package stdio

/*
#include <fcntl.h>

static int closed[2];

// Runs before Go's runtime, which opens /dev/null in place of closed descriptors.
__attribute__((constructor)) static void look_at_files(void)
{
	for (int fd = 0; fd < 2; fd++)
		closed[fd] = fcntl(fd, F_GETFD) == -1;
}

static int was_closed(int fd) { return closed[fd]; }
*/
import "C"

import (
	"os"

	"golang.org/x/sys/unix"
)

// RefuseClosed makes reads of stdin and writes to stdout fail if the program was started with
// them closed (">&-"). Otherwise Go's runtime has opened /dev/null there: output would be lost and
// input empty without an error.
func RefuseClosed() error {
	for fd, of := range map[int]struct {
		file **os.File
		flag int
	}{
		0: {&os.Stdin, unix.O_WRONLY},
		1: {&os.Stdout, unix.O_RDONLY},
	} {
		if C.was_closed(C.int(fd)) == 0 {
			continue
		}
		useless, err := unix.Open(os.DevNull, of.flag|unix.O_CLOEXEC, 0) // fails with EBADF, as what is closed does
		if err != nil {
			return err
		}
		replaceFile(of.file, os.NewFile(uintptr(useless), (*of.file).Name()))
	}
	return nil
}
