package blob

import (
	"context"
	"fmt"
	"iter"
)

// A Store keeps immutable objects under paths. It is never trusted: what it returns counts only if
// a signature, or a digest that is already trusted, verifies it.
//
// Paths are those of [ValidPath]; any other is an [ErrName]. If the context is done, every call
// returns its error before anything is touched. The contract asks only for what every kind of
// bucket has: put if absent, read, list in any order, delete. Implementations are safe for
// concurrent use, by several processes too, and pass the tests of package storetest.
type Store interface {
	// Put stores data, at most [MaxSizeOf] bytes or the error is an [ErrTooLarge],
	// under a path where nothing is yet, whole or not at all. When it returns nil the
	// object is durable. When there is an object already the error is an [ErrExists],
	// and that object is durable; of several writers exactly one gets nil. Where
	// something is that no Put has made, it is an [ErrOccupied]. After any other error
	// the object may be there, whole, as when an answer is lost. The caller may change
	// data afterwards.
	Put(ctx context.Context, path string, data []byte) error

	// Get returns a whole object, or an [ErrNotFound], [ErrTooLarge] or [ErrOccupied].
	// The caller may change what it gets.
	Get(ctx context.Context, path string) ([]byte, error)

	// GetRange returns exactly length bytes of an object from offset, and reads little
	// more. When the object has fewer, or no object can have them (see [ValidRange]),
	// the error is an [ErrShort]; otherwise they are those of Get.
	GetRange(ctx context.Context, path string, offset int64, length int) ([]byte, error)

	// List returns the paths that start with prefix, which need not end with a slash,
	// each once and in no order. It does so in bounded memory. It returns whole
	// objects, and the paths of objects at which Get returns another error than
	// ErrNotFound: what is there must not be passed over. An error with a path is about
	// the directory there, of which all or a part is missing in the list, which goes
	// on; one with an empty path ends it. What is stored or deleted meanwhile may be in
	// it or not. Objects may be stored and deleted while the list is read.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]

	// Delete removes an object; when it returns nil the removal is durable. An object
	// that is not there is no error. What no Put has made is an [ErrOccupied] and stays.
	// Afterwards Put can store an object there again.
	Delete(ctx context.Context, path string) error
}

// A Syncer is a [Store] that can make an object durable which somebody else has put
// there: by copying a file, or by a Put that may not have come to its end. A reader that
// is to remember for good what it has seen calls Sync first. In stores without it, what
// can be read is durable.
type Syncer interface {
	// Sync returns nil when the object is durable; the errors are those of Get. It
	// needs no right to write.
	Sync(ctx context.Context, path string) error
}

// A Purger is a [Store] that may keep earlier versions of objects, such as a bucket with versioning.
type Purger interface {
	// Purge is Delete, and also deletes all earlier versions of the object.
	Purge(ctx context.Context, path string) error
}

// A Remote is a [Store] with a high latency, which is faster when calls are made concurrently.
type Remote interface {
	// Requests returns the useful number of concurrent calls.
	Requests() int
}

// A Forgetter is a [Store] that caches data.
type Forgetter interface {
	// Forget drops cached data. It is called when data from the store was found to be wrong.
	Forget()
}

// ValidSize returns nil when path can be that of an object of this many bytes, and else
// an [ErrName] or [ErrTooLarge]. It is for implementations of [Store].
func ValidSize(path string, size int64) error {
	if err := ValidPath(path); err != nil {
		return err
	}
	if most := MaxSizeOf(path); size > int64(most) {
		return fmt.Errorf("%w: %d bytes, at most %d are allowed", ErrTooLarge, size, most)
	}
	return nil
}

// ValidRange returns nil when path can be that of an object that has length bytes, one at
// least, from offset, and else an [ErrName] or [ErrShort]. It is for implementations of
// [Store]: where a node lies is only a [Hint], and must do no harm.
func ValidRange(path string, offset int64, length int) error {
	if err := ValidPath(path); err != nil {
		return err
	}
	if most := int64(MaxSizeOf(path)); offset < 0 || length < 1 || offset > most || int64(length) > most-offset {
		return fmt.Errorf("%w: no object has %d bytes from %d", ErrShort, length, offset)
	}
	return nil
}
