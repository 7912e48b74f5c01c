package hsmkeys

import (
	"context"
	"fmt"
	"io"
	"iter"
	"sync"
	"sync/atomic"

	"filippo.io/age"
)

// DecryptFile is [Keyring.Decrypt] for a file of size bytes with random access: its chunks are
// decrypted on every processor, and written in order. Nothing is written unless the file is
// complete. What is written is authentic; at a chunk that is not, DecryptFile stops.
func (k *Keyring) DecryptFile(ctx context.Context, dst io.Writer, src io.ReaderAt, size int64) error {
	i := k.fileIdentity(ctx)
	return i.end(decryptFile(ctx, dst, src, size, i))
}

// DecryptFileWithPair is [DecryptWithPair] for a file with random access, as [Keyring.DecryptFile].
func DecryptFileWithPair(ctx context.Context, pair Decrypter, dst io.Writer, src io.ReaderAt, size int64) error {
	i := newFilePairIdentity(ctx, pair)
	return i.end(decryptFile(ctx, dst, src, size, onlyPair{i}))
}

// DecryptFileWithIdentity is [DecryptWithIdentity] for a file with random access, as [Keyring.DecryptFile].
func DecryptFileWithIdentity(ctx context.Context, identity age.Identity, dst io.Writer, src io.ReaderAt, size int64) error {
	return decryptFile(ctx, dst, src, size, identity)
}

// segmentSize is how much is decrypted at a time, in bytes: four of age's chunks.
const segmentSize = 4 * 64 << 10

func decryptFile(ctx context.Context, dst io.Writer, src io.ReaderAt, size int64, identity age.Identity) error {
	source := &sourceReaderAt{src: src}
	plain, plainSize, err := age.DecryptReaderAt(source, size, markedIdentity{identity})
	if err != nil {
		return source.classify(err)
	}
	buffers := sync.Pool{New: func() any { return new([segmentSize]byte) }}
	type segment struct {
		buffer *[segmentSize]byte
		size   int
		err    error
	}
	for s := range inOrder(ctx, offsets(plainSize), func(at int64, err error) segment {
		s := segment{buffer: buffers.Get().(*[segmentSize]byte), err: err}
		if err == nil {
			want := int(min(segmentSize, plainSize-at))
			s.size, s.err = plain.ReadAt(s.buffer[:want], at)
			if s.size == want {
				s.err = nil // or io.EOF, behind the last
			}
		}
		return s
	}) {
		// Of a segment that does not hold, what comes before the chunk that does not.
		_, err := dst.Write(s.buffer[:s.size])
		clear(s.buffer[:s.size])
		buffers.Put(s.buffer)
		if err == nil {
			err = ctx.Err()
		}
		if err != nil {
			return err
		}
		if s.err != nil {
			return source.classify(s.err)
		}
	}
	return nil
}

// offsets are where the segments of a file begin.
func offsets(size int64) iter.Seq2[int64, error] {
	return func(yield func(int64, error) bool) {
		for at := int64(0); at < size; at += segmentSize {
			if !yield(at, nil) {
				return
			}
		}
	}
}

// sourceReaderAt is a sourceReader that is read at any place.
type sourceReaderAt struct {
	src io.ReaderAt
	err atomic.Pointer[error]
}

func (s *sourceReaderAt) ReadAt(p []byte, off int64) (int, error) {
	n, err := s.src.ReadAt(p, off)
	if err != nil && err != io.EOF {
		s.err.CompareAndSwap(nil, &err)
	}
	return n, err
}

func (s *sourceReaderAt) classify(err error) error {
	if failed := s.err.Load(); failed != nil {
		return fmt.Errorf("read the file: %w", *failed)
	}
	return (&sourceReader{}).classify(err)
}
