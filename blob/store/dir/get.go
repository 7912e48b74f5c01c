package dir

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Get implements [blob.Store]. What is at this path and not a regular file, or below what
// is no directory, is a [blob.ErrOccupied]: Put did not make it.
func (s *Store) Get(ctx context.Context, name string) ([]byte, error) {
	if err := check(ctx, "read", name); err != nil {
		return nil, err
	}
	most := int64(blob.MaxSizeOf(name))
	if data, ok := readBeneath(s.open, name, most); ok {
		return data, nil
	}
	f, size, err := s.openObject(name)
	if err != nil {
		return nil, storeError("read", name, s.absent(err))
	}
	defer f.Close()
	if err := blob.ValidSize(name, size); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	// The file may have grown since.
	data, err := io.ReadAll(io.LimitReader(f, most+1))
	if err == nil {
		err = blob.ValidSize(name, int64(len(data)))
	}
	if err != nil {
		return nil, storeError("read", name, err)
	}
	return data, nil
}

// GetRange implements [blob.Store].
func (s *Store) GetRange(ctx context.Context, name string, offset int64, length int) ([]byte, error) {
	if err := check(ctx, "read", name); err != nil {
		return nil, err
	}
	if err := blob.ValidRange(name, offset, length); err != nil {
		return nil, fmt.Errorf("read %s: %w", name, err)
	}
	if data, ok := readRangeBeneath(s.open, name, offset, length); ok {
		return data, nil
	}
	f, size, err := s.openObject(name)
	if err != nil {
		return nil, storeError("read", name, s.absent(err))
	}
	defer f.Close()
	short := fmt.Errorf("read %s: %w: %d bytes from %d of %d", name, blob.ErrShort, length, offset, size)
	if offset+int64(length) > size {
		return nil, short
	}
	data := make([]byte, length)
	switch _, err := f.ReadAt(data, offset); {
	case errors.Is(err, io.EOF): // it has shrunk meanwhile
		return nil, short
	case err != nil:
		return nil, storeError("read", name, err)
	}
	return data, nil
}

// openObject opens a regular file, and returns its size too.
func (s *Store) openObject(name string) (*os.File, int64, error) {
	if err := s.occupied(path.Dir(name)); err != nil {
		return nil, 0, err
	}
	// To open a device can act on it, so look first. Nothing holds still between the
	// look and the opening: open without blocking, as to open a FIFO without a writer
	// would wait for one, and look again.
	before, err := s.root.Lstat(name)
	if err == nil {
		err = regular(before)
	}
	if err != nil {
		return nil, 0, err
	}
	f, err := s.root.OpenFile(name, os.O_RDONLY|nonBlocking, 0)
	if err != nil {
		return nil, 0, err
	}
	opened, err := f.Stat()
	if err == nil {
		err = regular(opened)
	}
	if err != nil {
		f.Close()
		return nil, 0, err
	}
	return f, opened.Size(), nil
}
