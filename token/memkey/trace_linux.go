package memkey

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// holdSignals blocks the signals of this thread until release is called. Those that a fault of the
// thread itself raises still arrive.
func holdSignals() (release func()) {
	var before, held unix.Sigset_t
	words := unsafe.Slice((*byte)(unsafe.Pointer(&held)), unsafe.Sizeof(held))
	for i := range words {
		words[i] = 0xff
	}
	for _, fault := range []unix.Signal{unix.SIGSEGV, unix.SIGBUS, unix.SIGFPE, unix.SIGILL, unix.SIGABRT, unix.SIGTRAP, unix.SIGSYS} {
		n := uint(fault) - 1
		held.Val[n/bits] &^= 1 << (n % bits)
	}
	if unix.PthreadSigmask(unix.SIG_SETMASK, &held, &before) != nil {
		return func() {}
	}
	return func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &before, nil) }
}

// bits is how many signals a word of a set has.
const bits = uint(8 * unsafe.Sizeof(unix.Sigset_t{}.Val[0]))
