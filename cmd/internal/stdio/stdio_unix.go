//go:build unix

package stdio

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// EnoughFiles returns an error if so few files may be open that modules would not load, stores
// would not open, and the Go runtime might give up: none of them could say why.
func EnoughFiles() error {
	const needed = 24
	var open []int
	defer func() {
		for _, fd := range open {
			_ = unix.Close(fd)
		}
	}()
	for range needed {
		fd, err := unix.Open(os.DevNull, unix.O_RDONLY|unix.O_CLOEXEC, 0) // not through Go's poller, which wants some too
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
			return fmt.Errorf("too few files may be open: %w", err)
		}
		if err != nil {
			return nil // there may be no /dev
		}
		open = append(open, fd)
	}
	return nil
}

// replaced are the files that os.Stdin, os.Stdout and os.Stderr were before. The garbage collector
// closes the descriptor of an unreferenced file, and 0, 1 and 2 have to stay what they are:
// otherwise modules would print to the next file that is opened.
var replaced []*os.File

// replaceFile replaces one of the standard files.
func replaceFile(standard **os.File, by *os.File) {
	replaced = append(replaced, *standard)
	*standard = by
}

// Own moves the program's stdout to a descriptor that neither modules nor children know. What
// modules print to theirs goes to stderr.
func Own() error {
	fd, err := unix.FcntlInt(1, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	if err := unix.Dup2(2, 1); err != nil {
		return errors.Join(err, unix.Close(fd))
	}
	replaceFile(&os.Stdout, os.NewFile(uintptr(fd), os.Stdout.Name()))
	// Go ends a program that writes into a pipe without a reader only where it is
	// descriptor 1 or 2.
	broken := make(chan os.Signal, 1)
	signal.Notify(broken, syscall.SIGPIPE)
	go func() {
		for range broken {
			EndOnBrokenPipe()
		}
	}()
	return nil
}

// EndOnBrokenPipe ends the program by SIGPIPE if the reader of stdout has gone away. The signal may
// be for another descriptor, such as a module's connection.
func EndOnBrokenPipe() {
	fd := int(os.Stdout.Fd())
	poll := []unix.PollFd{{Fd: int32(fd)}}
	if n, err := unix.Poll(poll, 0); err != nil || n == 0 || poll[0].Revents&unix.POLLERR == 0 {
		return
	}
	signal.Reset(syscall.SIGPIPE)
	if unix.Dup2(fd, 1) == nil {
		_, _ = os.NewFile(1, "stdout").Write([]byte{0}) // it goes nowhere, and ends the program
	}
}

// Mute discards what modules print, on both descriptors. This program's own messages still go to
// stderr. The caller must call restore.
func Mute() (restore func() error, err error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	ours, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(unix.Dup2(int(null.Fd()), 1), unix.Dup2(int(null.Fd()), 2)); err != nil {
		return nil, errors.Join(err, unix.Close(ours))
	}
	before := os.Stderr
	os.Stderr = os.NewFile(uintptr(ours), before.Name())
	guard.NoticeEnds(ours, failure.StatusToken)
	return func() error {
		restored := errors.Join(unix.Dup2(ours, 1), unix.Dup2(ours, 2))
		guard.NoticeEnds(2, failure.StatusToken)
		err := errors.Join(restored, os.Stderr.Close())
		os.Stderr = before
		return err
	}, nil
}
