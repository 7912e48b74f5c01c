// Package stdio keeps what PKCS #11 modules print apart from what this program prints. A module runs
// in the same process and writes to descriptors 1 and 2 as it likes; so these are left to modules,
// and the program's own stdout is another descriptor.
package stdio

import (
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// EnoughFiles reports it when so few files may be open that modules do not load, stores do
// not open, and the Go runtime may give up: none of them could say why.
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
			return fmt.Errorf("too few files may be open, raise ulimit -n: %w", err)
		}
		if err != nil {
			return nil // there may be no /dev
		}
		open = append(open, fd)
	}
	return nil
}

// replaced are files that os.Stdin, os.Stdout and os.Stderr were before. The garbage
// collector closes the descriptor of a file that nothing refers to, and 0, 1 and 2 have to
// stay what they are: the next file that is opened would be what modules print to.
var replaced []*os.File

// replaceFile puts another file in the place of one of the standard ones.
func replaceFile(standard **os.File, by *os.File) {
	replaced = append(replaced, *standard)
	*standard = by
}

// Own moves the program's stdout to a descriptor that neither modules nor children
// know. What modules print on theirs goes to stderr.
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

// EndOnBrokenPipe ends the program by SIGPIPE when the reader of stdout has gone away. The
// signal may be for another descriptor, such as a module's connection.
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

// Mute sends what modules print, on both descriptors, to nowhere. This program's own words
// still go to stderr, until restore is called.
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

// MuteModule runs f with nothing to be seen of what a module prints by itself. tpm2-pkcs11
// prints that a PKCS #1 v1.5 padding could not be removed, which is just what an import
// must not tell.
func MuteModule(f func() error) (err error) {
	restore, err := Mute()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, restore()) }()
	return f()
}
