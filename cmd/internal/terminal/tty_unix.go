//go:build unix

package terminal

import (
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// A TTY is the terminal that controls the process, for reading and writing (tty(4)).
type TTY struct{ *os.File }

// Open opens the terminal.
func Open() (TTY, error) {
	f, err := OpenInput()
	return TTY{f}, err
}

// OpenInput opens the terminal that controls the process, as stdin of another program.
func OpenInput() (*os.File, error) { return os.OpenFile("/dev/tty", os.O_RDWR, 0) }

// withoutEcho turns off the echo of a terminal and discards what was typed before. Lines can still
// be edited, and ^C still interrupts.
func (t TTY) withoutEcho() (restore func(), err error) {
	fd := int(t.Fd())
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, fmt.Errorf("read the settings of the terminal: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermiosFlush, &quiet); err != nil {
		return nil, fmt.Errorf("turn off the terminal's echo: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
}
