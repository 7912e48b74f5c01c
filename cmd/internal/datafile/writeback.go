package datafile

import "os"

// early makes the system write a file to the disk while it grows, so that little is left to wait
// for at its end.
type early struct {
	file           *os.File
	written, begun int64
}

// earlySize is how much is written to the disk at a time, in bytes.
const earlySize = 8 << 20

func (e *early) Write(p []byte) (int, error) {
	n, err := e.file.Write(p)
	if e.written += int64(n); e.written-e.begun >= earlySize {
		startWriteback(e.file, e.begun, e.written-e.begun)
		e.begun = e.written
	}
	return n, err
}
