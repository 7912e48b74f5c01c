package audit

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// A file takes one line with each write(2), at its end (O_APPEND), so that the lines of several processes
// do not mix. It is synced before write returns.
type file struct {
	path    string
	wasTorn bool

	mu    sync.RWMutex // held for writing while f is replaced
	f     *os.File     // nil if it could not be reopened
	syncs *sharedSync
}

func openFile(path string) (*file, error) {
	f := &file{path: path}
	if err := f.reopen(); err != nil {
		return nil, err
	}
	f.wasTorn = isTorn(f.f)
	return f, nil
}

func (f *file) reopen() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f != nil {
		_ = f.f.Close() // what was written is synced
	}
	var err error
	f.f, err = ownfile.Append(f.path)
	f.syncs = &sharedSync{}
	return err
}

func (f *file) close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.f == nil {
		return nil
	}
	err := f.f.Close()
	f.f = nil
	return err
}

func (f *file) write(_ Record, _ []field, line []byte) error {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for tries := 0; f.f == nil || isRemoved(f.f); tries++ { // or records would go nowhere
		if tries > 0 {
			return fmt.Errorf("%q: it was removed", f.path)
		}
		f.mu.RUnlock()
		err := f.reopen()
		f.mu.RLock()
		if err != nil {
			return err
		}
	}
	if isTorn(f.f) {
		line = append([]byte{'\n'}, line...)
	}
	n, err := writeOnce(f.f, line)
	if err == nil && n < len(line) {
		err = io.ErrShortWrite
	}
	if err != nil {
		return fmt.Errorf("%d of %d bytes written to %q: %w", n, len(line), f.path, err)
	}
	return f.syncs.do(f.f.Sync)
}

// isTorn reports whether a file ends in the middle of a line: a process or the machine has stopped, or the
// disk was full. A line that is just being written, which may be seen page by page, has time to be
// completed; if that is too short, one more line end does no harm.
func isTorn(f *os.File) bool {
	for range 10 {
		info, err := f.Stat()
		if err != nil || info.Size() == 0 {
			return false
		}
		var last [1]byte
		if _, err = f.ReadAt(last[:], info.Size()-1); err != nil || last[0] == '\n' {
			return false
		}
		time.Sleep(time.Millisecond)
	}
	return true
}

// A sharedSync lets those who wait for a sync at the same time share the next one.
type sharedSync struct {
	one    sync.Mutex // syncs
	failed error      // once: what was written before may never get onto the disk, whatever a later sync says

	mu   sync.Mutex
	next *syncing // that has not begun
}

type syncing struct {
	done chan struct{}
	err  error
}

// do returns when sync has been called once and returned, since do was called.
func (s *sharedSync) do(sync func() error) error {
	s.mu.Lock()
	mine := s.next
	first := mine == nil
	if first {
		mine = &syncing{done: make(chan struct{})}
		s.next = mine
	}
	s.mu.Unlock()
	if first {
		s.one.Lock()
		s.mu.Lock()
		s.next = nil // who comes now has written after sync begins
		s.mu.Unlock()
		if s.failed == nil {
			s.failed = sync()
		}
		mine.err = s.failed
		s.one.Unlock()
		close(mine.done)
	}
	<-mine.done
	return mine.err
}
