package token

import "runtime"

// withoutTrace runs f, through whose stack and registers a secret passes, and erases them.
// While it runs, this thread takes no signals: the kernel and the Go runtime, which sends
// them to interrupt a goroutine, would save the registers in memory that nothing erases.
// Memory from the heap is for f to erase.
func withoutTrace(f func() error) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer holdSignals()()
	eraseStack() // which also keeps the stack from being moved while f runs
	defer eraseRegisters()
	defer eraseStack()
	return f()
}

// eraseStack overwrites what the functions that its caller has called have left on the
// stack.
//
//go:noinline
func eraseStack() {
	var below [16 << 10]byte
	clear(below[:])
	runtime.KeepAlive(&below)
}
