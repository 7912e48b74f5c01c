// Package place opens stores by name: the path of a directory or the URL of a bucket.
package place

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/blob/store/s3"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// A Store is an open store.
type Store interface {
	blob.Store
	io.Closer
	fmt.Stringer // returns the path or the URL

	// Names returns the names of keys that start with prefix, up to the next slash after it.
	Names(ctx context.Context, prefix string) iter.Seq[string]

	// TryWrite checks that objects can be stored and not overwritten, and removes its traces.
	TryWrite(ctx context.Context) error
}

// IsBucket reports whether name has the scheme of a bucket. The URL may be invalid.
func IsBucket(name string) bool { return strings.HasPrefix(name, s3.Scheme) }

// mistyped matches what was most likely meant as the URL of a bucket.
var mistyped = regexp.MustCompile(`^(?i:s3:|s3//|arn:)`)

// Check returns an error if name is not a valid name of a store.
func Check(name string) error {
	if IsBucket(name) {
		_, err := parse(name)
		return err
	}
	scheme, _, hasScheme := strings.Cut(name, "://")
	if hasScheme && scheme != "" && !strings.Contains(scheme, "/") || mistyped.MatchString(name) {
		return failure.Usage("store %q is neither a directory nor a bucket, s3://BUCKET/PREFIX; a directory with such a name is ./%s", name, name)
	}
	return nil
}

// Open opens an existing store. The error for a missing directory is a [failure.ErrNoStore]; a missing bucket is
// noticed by the first request. For a bucket, cache is the directory of the disk cache, or empty for none.
func Open(ctx context.Context, name, cache string) (Store, error) {
	if IsBucket(name) {
		return openBucket(ctx, name, cache)
	}
	if err := Check(name); err != nil {
		return nil, err
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

// Create opens a store and creates the directory if necessary. It does not create buckets.
func Create(ctx context.Context, name string) (Store, error) {
	if IsBucket(name) {
		return openBucket(ctx, name, "")
	}
	if err := Check(name); err != nil {
		return nil, err
	}
	store, err := dir.Create(name)
	if err != nil {
		return nil, err
	}
	return store, nil
}

// parse parses the URL of a bucket. The error does not quote a URL with a user, which may contain a secret.
func parse(name string) (s3.Location, error) {
	location, err := s3.Parse(name)
	switch {
	case err != nil && strings.Contains(name, "@"):
		err = failure.Usage("%w, and no credentials in it", s3.ErrURL)
	case err != nil:
		err = failure.Usage("store %q: %w", name, err)
	}
	return location, err
}

func openBucket(ctx context.Context, name, cache string) (Store, error) {
	location, err := parse(name)
	if err != nil {
		return nil, err
	}
	store, err := s3.Open(ctx, location, s3.Options{Cache: cache})
	if err != nil {
		return nil, err
	}
	return store, nil
}

// Absolute returns a name of the store that does not depend on the working directory.
func Absolute(name string) (string, error) {
	if IsBucket(name) {
		return name, nil
	}
	return filepath.Abs(name)
}

// Same returns the canonical URL of a bucket. Other names are returned unchanged.
func Same(name string) string {
	if location, err := s3.Parse(name); err == nil {
		return location.String()
	}
	return name
}
