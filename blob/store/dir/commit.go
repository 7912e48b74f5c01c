package dir

import (
	"errors"
	"os"
	"sync"
)

// commits makes files and directories durable, those of many writers at once: while a few syncs are
// under way, further writers wait for the next one, which is for all of them. On a file system with
// a journal a few syncs take the place of hundreds. A writer that is alone, or with one or two
// others, has a sync of its own at once.
type commits struct {
	mu      sync.Mutex
	alone   int  // syncs of single writers that are under way
	leading bool // a round is being synced
	next    *round
}

// A round is the files that are synced together.
type round struct {
	files   []*os.File
	writers int
	done    chan struct{}
	err     error
}

// maxAlone is how many writers have syncs of their own at a time.
const maxAlone = 3

// commit returns when the files are durable, or with the error of some that were synced
// together with them.
func (s *Store) commit(files ...*os.File) error {
	c := &s.commits
	c.mu.Lock()
	if c.alone < maxAlone {
		c.alone++
		c.mu.Unlock()
		err := s.syncAll(&round{files: files, writers: 1})
		c.mu.Lock()
		defer c.mu.Unlock()
		c.alone--
		if c.next != nil && !c.leading {
			c.leading = true
			go s.lead()
		}
		return err
	}
	if c.next == nil {
		c.next = &round{done: make(chan struct{})}
	}
	r := c.next
	r.files, r.writers = append(r.files, files...), r.writers+1
	c.mu.Unlock()
	<-r.done
	return r.err
}

// lead syncs the rounds that come together, one after the other, until nobody waits.
func (s *Store) lead() {
	c := &s.commits
	for {
		c.mu.Lock()
		r := c.next
		c.next, c.leading = nil, r != nil
		c.mu.Unlock()
		if r == nil {
			return
		}
		r.err = s.syncAll(r)
		close(r.done)
	}
}

// manyWriters is the number of waiting writers from which the whole file system is synced in one
// call. That can include files of other programs.
const manyWriters = 3

func (s *Store) syncAll(r *round) error {
	if r.writers >= manyWriters {
		if err := s.syncFS(r.files[0]); !errors.Is(err, errors.ErrUnsupported) {
			return err
		}
	}
	for _, f := range r.files {
		if err := s.syncOne(f); err != nil {
			return err
		}
	}
	return nil
}

// syncOne syncs a file or a directory. For directories some network file systems have no
// such call and say EINVAL or ENOTSUP; with them there is nothing more to be had.
func (s *Store) syncOne(f *os.File) error {
	err := s.sync(f)
	if err != nil && cannotSync(err) {
		if info, statErr := f.Stat(); statErr == nil && info.IsDir() {
			return nil
		}
	}
	return err
}
