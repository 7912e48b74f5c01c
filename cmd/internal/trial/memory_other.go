//go:build !linux

package trial

// limitMemory does nothing: elsewhere RLIMIT_DATA does not cover mmap(2), or does not exist.
func limitMemory() {}
