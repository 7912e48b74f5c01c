package trial

import (
	"runtime"

	"golang.org/x/sys/unix"
)

// maxMemory is the maximal size of the data of the process, without the stacks of its threads.
// The program itself needs some 70 MB.
const maxMemory = 384 << 20

// limitMemory limits the memory of a trial with RLIMIT_DATA. RLIMIT_AS would count what Go reserves
// and does not use. Stacks of threads count in full.
func limitMemory() {
	runtime.GOMAXPROCS(2) // otherwise there are as many threads as processors
	const threads = 16
	stack := unix.Rlimit{}
	if unix.Getrlimit(unix.RLIMIT_STACK, &stack) != nil || stack.Cur > 1<<30 {
		stack.Cur = 8 << 20
	}
	limit := maxMemory + threads*stack.Cur
	_ = unix.Setrlimit(unix.RLIMIT_DATA, &unix.Rlimit{Cur: limit, Max: limit})
}
