// Package place opens the store that is named on the command line: a directory, or a bucket by its URL.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
)

// A Store is a store that the program has opened.
type Store interface {
	blob.Store
	io.Closer
	fmt.Stringer // its name: a path or a URL

	// Names returns the names of keys that start with prefix, up to the next slash after it.
	Names(ctx context.Context, prefix string) iter.Seq[string]

	// TryWrite tries whether objects can be stored, each once, and leaves nothing.
	TryWrite(ctx context.Context) error
}

// IsBucket reports whether a name is that of a bucket: a URL, whether it is a good one or not.
func IsBucket(name string) bool { return strings.HasPrefix(name, s3.Scheme) }

// Check returns an error unless a name can be that of a store.
func Check(name string) error {
	if IsBucket(name) {
		if _, err := s3.Parse(name); err != nil {
			return failure.Usage("store %q: %w", name, err)
		}
		return nil
	}
	if scheme, _, ok := strings.Cut(name, "://"); ok && scheme != "" && !strings.Contains(scheme, "/") {
		return failure.Usage("store %q is neither a directory nor a bucket, s3://BUCKET/PREFIX; a directory with such a name is ./%s", name, name)
	}
	return nil
}

// Open opens a store that is there. A directory that is not there is a [failure.ErrNoStore]; a bucket
// shows that when it is used. In cache, unless it is "", is kept what never changes of a bucket.
func Open(ctx context.Context, name, cache string) (Store, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	if IsBucket(name) {
		return openBucket(ctx, name, cache)
	}
	store, err := dir.Open(name)
	if errors.Is(err, blob.ErrNotFound) {
		err = fmt.Errorf("%w: %w", failure.ErrNoStore, err)
	}
	if err != nil {
		return nil, err
	}
	return store, nil
}

// Create opens a store, and makes the directory first if there is none. It makes no bucket.
func Create(ctx context.Context, name string) (Store, error) {
	if err := Check(name); err != nil {
		return nil, err
	}
	if IsBucket(name) {
		return openBucket(ctx, name, "")
	}
	store, err := dir.Create(name)
	if err != nil {
		return nil, err
	}
	return store, nil
}

func openBucket(ctx context.Context, name, cache string) (Store, error) {
	location, err := s3.Parse(name)
	if err != nil {
		return nil, failure.Usage("store %q: %w", name, err)
	}
	store, err := s3.Open(ctx, location, s3.Options{Cache: cache})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// Absolute returns a name that means the same store in every directory.
func Absolute(name string) (string, error) {
	if IsBucket(name) {
		return name, nil
	}
	return filepath.Abs(name)
}

// Same returns the one name of all those by which a bucket can be called.
func Same(name string) string {
	if location, err := s3.Parse(name); err == nil {
		return location.String()
	}
	return name
}
