package main

import (
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// muteModule runs f with nothing to be seen of what a module prints by itself. tpm2-pkcs11
// prints that a PKCS #1 v1.5 padding could not be removed, which is just what an import
// must not tell. This program's own words still go to stderr.
func muteModule(f func() error) (err error) {
	null, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer null.Close()
	ours, err := unix.FcntlInt(2, unix.F_DUPFD_CLOEXEC, 3)
	if err != nil {
		return err
	}
	if err := unix.Dup2(int(null.Fd()), 2); err != nil {
		return errors.Join(err, unix.Close(ours))
	}
	before := os.Stderr
	os.Stderr = os.NewFile(uintptr(ours), before.Name())
	defer func() {
		restored := unix.Dup2(ours, 2)
		err = errors.Join(err, restored, os.Stderr.Close())
		os.Stderr = before
	}()
	return f()
}
