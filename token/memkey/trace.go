package memkey

import "runtime"

// WithoutTrace calls f, through whose stack and registers a secret passes, and erases them. While
// f runs, this thread takes no signals: the kernel, and the Go runtime, which sends signals to
// interrupt a goroutine, would save the registers in memory that nothing erases. f must erase what
// it allocates on the heap.
func WithoutTrace(f func() error) error {
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
