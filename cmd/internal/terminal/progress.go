package terminal

import (
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/schollz/progressbar/v3"
)

// Progress returns a reader of in that shows on stderr how much has been read, once that takes
// longer than a second. The size of in is -1 if it is not known. Nothing is shown if a person types
// the input or reads the output on the terminal, among whose lines it would appear. The caller must
// call done.
func Progress(in io.Reader, size int64, toTerminal bool) (_ io.Reader, done func()) {
	if !Is(os.Stderr) || toTerminal || size < 0 && Is(os.Stdin) {
		return in, func() {}
	}
	p := &ProgressReader{In: in, size: size, began: time.Now()}
	return p, p.done
}

// A ProgressReader reads In and shows how much has been read.
type ProgressReader struct {
	In    io.Reader
	size  int64
	began time.Time
	read  int64
	bar   *progressbar.ProgressBar // nil in the first second
}

func (p *ProgressReader) Read(b []byte) (int, error) {
	n, err := p.In.Read(b)
	p.advance(n)
	return n, err
}

func (p *ProgressReader) advance(n int) {
	p.read += int64(n)
	if p.bar == nil && time.Since(p.began) > time.Second {
		p.bar = progressbar.NewOptions64(p.size, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	if p.bar != nil {
		_ = p.bar.Set64(p.read) // that a bar cannot be shown is not a failure
	}
}

// A ProgressReaderAt is a ProgressReader for random access, also by several goroutines at once.
type ProgressReaderAt struct {
	*ProgressReader
	mu sync.Mutex
	At io.ReaderAt
}

func (p *ProgressReaderAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.At.ReadAt(b, off)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(n)
	return n, err
}

// A Counter shows on a terminal how many keys are done, once that takes longer than a second.
type Counter struct {
	mu    sync.Mutex
	doing string
	total int
	done  int
	began time.Time
	bar   *progressbar.ProgressBar
}

// counting is the counter of the operation that is under way.
var counting atomic.Pointer[Counter]

// NewCounter returns a counter up to total, labelled with what is done to each key. [CountKey] counts
// until End.
func NewCounter(doing string, total int) *Counter {
	n := &Counter{doing: doing, total: total, began: time.Now()}
	counting.Store(n)
	return n
}

// CountKey counts a key for the operation that is under way. It may be called by several goroutines at
// once.
func CountKey() {
	if n := counting.Load(); n != nil {
		n.one()
	}
}

func (n *Counter) one() {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.done++
	if n.bar == nil && Is(os.Stderr) && time.Since(n.began) > time.Second {
		n.bar = progressbar.NewOptions(n.total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(n.doing),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	if n.bar != nil {
		_ = n.bar.Set(n.done)
	}
}

// Clear removes the counter from the terminal, for a line of text.
func (n *Counter) Clear() {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.bar != nil {
		_ = n.bar.Clear()
	}
}

// End removes the counter from the terminal for good.
func (n *Counter) End() {
	counting.CompareAndSwap(n, nil)
	n.Clear()
}

// done removes the bar from the terminal.
func (p *ProgressReader) done() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
