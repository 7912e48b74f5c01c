package terminal

import "golang.org/x/sys/unix"

// ioctl(2) requests of termios(3): tcgetattr, and tcsetattr with TCSANOW and TCSAFLUSH.
const (
	getTermios      = unix.TCGETS
	setTermios      = unix.TCSETS
	setTermiosFlush = unix.TCSETSF
)
