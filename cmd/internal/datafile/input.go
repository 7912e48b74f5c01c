package datafile

import (
	"context"
	"errors"
	"io"
	"os"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

// Open opens a file, or stdin if path is "-" or empty.
func Open(path string) (io.ReadCloser, error) {
	if path == "" || path == "-" {
		if terminal.Is(os.Stdin) {
			message.Note("reading from the terminal; end with ^D")
		}
		stdio.WidenPipe(os.Stdin)
		return io.NopCloser(os.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(failure.Usage("%q is a directory", path), f.Close())
	}
	return f, nil
}

// Size returns the size of a regular file in bytes, or -1 for anything else.
func Size(in io.Reader) int64 {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

// Copy copies src to dst until its end or until ctx is done.
func Copy(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffer := make([]byte, 64<<10) // the size of age's chunks
	defer clear(buffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, &interruptible{ctx, src}, buffer)
	return err
}

type interruptible struct {
	ctx context.Context
	src io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}

// ReaderAt returns an input for random access and its size, or nil if it is stdin, a pipe or armored.
func ReaderAt(in io.Reader) (io.ReaderAt, int64) {
	if p, ok := in.(*terminal.ProgressReader); ok {
		if f, size := ReaderAt(p.In); f != nil {
			return &terminal.ProgressReaderAt{ProgressReader: p, At: f}, size
		}
	}
	if f, ok := in.(*os.File); ok && f != os.Stdin { // part of stdin may have been read before
		if size := Size(f); size >= 0 && !startsArmored(f) {
			return f, size
		}
	}
	return nil, 0
}

func startsArmored(f io.ReaderAt) bool {
	var start [2 << 10]byte
	n, _ := f.ReadAt(start[:], 0) // an error will recur when the file is read
	return hsmkeys.Armored(start[:n])
}
