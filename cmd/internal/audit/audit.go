// Package audit writes records of the uses of keys and of the changes of keyrings: one line of JSON for
// each, to a file, to the syslog daemon or to journald.
//
// [Open] opens a destination, and [Log.Record] is what hsmkeys.Options.Record takes. A service that
// works for other processes writes with [Log.Write], and says which process that was.
//
// A record in a file is on the disk when Write returns. The daemons have got it then, and decide
// themselves when they write it.
package audit

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
)

// Names of destinations. The first is followed by the absolute path of a file. The others may be
// followed by a colon and the absolute path of the daemon's socket.
const (
	toFile     = "file"
	toSyslog   = "syslog"
	toJournald = "journald"
)

// A destination is where records go: a name, and the path of a file or socket, "" for the usual one.
type destination struct{ name, path string }

// ErrDestination is the error for what is no destination on this system.
var ErrDestination = errors.New("records of use go to " + Destinations)

// ErrNoDaemon is the error for a daemon that does not listen on its socket.
var ErrNoDaemon = errors.New("no daemon listens there")

// Check returns an [ErrDestination] unless records can go to a destination on this kind of system.
func Check(to string) error {
	_, err := parse(to)
	return err
}

func parse(to string) (destination, error) {
	name, path, hasPath := strings.Cut(to, ":")
	d := destination{name, path}
	if !slices.Contains(names, name) || hasPath && !filepath.IsAbs(path) || name == toFile && !hasPath {
		return d, ErrDestination
	}
	return d, nil
}

// A Log is an open destination. Its methods may be called by several goroutines at once.
type Log struct {
	to   string
	sink sink
}

// A sink takes records.
type sink interface {
	// write writes the fields of a record, which are also the JSON in line.
	write(r Record, fields []field, line []byte) error
	reopen() error
	close() error
}

// Open opens a destination. A missing file is made, readable for this user alone. A file or a directory
// on the way to it that others can write to is an [ownfile.ErrForeign]. A daemon that does not run is
// an [ErrNoDaemon].
func Open(to string) (*Log, error) {
	d, err := parse(to)
	if err != nil {
		return nil, err
	}
	l := &Log{to: to}
	switch d.name {
	case toFile:
		l.sink, err = openFile(d.path)
	default:
		l.sink, err = openDaemon(d)
	}
	if err != nil {
		return nil, l.wrap(err)
	}
	return l, nil
}

// Write writes a record. It returns nil when the record is on the disk, or with the daemon. A Time that
// is zero is now.
func (l *Log) Write(r Record) error {
	if r.Time.IsZero() {
		r.Time = time.Now()
	}
	fields := r.fields()
	return l.wrap(l.sink.write(r, fields, appendLine(nil, fields)))
}

// Record writes a record of an event in this process.
func (l *Log) Record(_ context.Context, e hsmkeys.Event) error {
	return l.Write(Record{Process: ThisProcess(), Event: e})
}

// Reopen opens the file anew, as after it was renamed, or connects to the daemon anew. If that fails,
// the next Write tries again.
func (l *Log) Reopen() error { return l.wrap(l.sink.reopen()) }

// Close closes the destination.
func (l *Log) Close() error { return l.sink.close() }

// Torn reports whether the file ended in the middle of a line when it was opened. The next record begins
// on a line of its own.
func (l *Log) Torn() bool {
	f, ok := l.sink.(*file)
	return ok && f.wasTorn
}

// An Error is about a destination.
type Error struct {
	Destination string // as it was named
	Err         error
}

func (e *Error) Error() string { return fmt.Sprintf("record to %s: %v", e.Destination, e.Err) }

// Unwrap returns what went wrong.
func (e *Error) Unwrap() error { return e.Err }

func (l *Log) wrap(err error) error {
	if err == nil {
		return nil
	}
	return &Error{l.to, err}
}

// Operations that are recorded beside those of the library.
const (
	OpLogin      = "login"       // only recorded if it fails
	OpInitToken  = "init-token"  // initialise a token
	OpMakePair   = "make-pair"   // make a key exchange pair, or take one over
	OpImportPair = "import-pair" // import one from a file
)
