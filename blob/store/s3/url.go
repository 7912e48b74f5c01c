package s3

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Scheme is what the URL of a store in a bucket begins with.
const Scheme = "s3://"

// A Location is where a store is.
type Location struct {
	Bucket    string
	Prefix    string // what the keys of all objects begin with, without the slash at its end; may be empty
	PathStyle bool   // the bucket is named in the path of a request, not in the name of the host
}

// ErrURL is the error for what is not the URL of a store.
var ErrURL = errors.New("not s3://BUCKET/PREFIX, with ?path-style or without")

// Names of buckets are those of the Amazon S3 User Guide, "General purpose bucket naming rules",
// which other services have too; some of these allow more.
var validBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// validSegment is what may stand between the slashes of a prefix: the "safe characters" of the
// Amazon S3 User Guide, "Naming Amazon S3 objects", that no program needs to escape.
var validSegment = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// maxPrefix is the maximal length of a prefix, in bytes. Keys have at most 1,024, and the longest path of an
// object is shorter than 512.
const maxPrefix = 512

// Parse parses the URL of a store, s3://BUCKET/PREFIX. Its only parameter is path-style. The error is an
// [ErrURL].
func Parse(s string) (Location, error) {
	rest, ok := strings.CutPrefix(s, Scheme)
	if !ok {
		return Location{}, fmt.Errorf("%w: it does not begin with %s", ErrURL, Scheme)
	}
	rest, query, hasQuery := strings.Cut(rest, "?")
	bucket, prefix, _ := strings.Cut(rest, "/")
	l := Location{Bucket: bucket, Prefix: prefix}
	if prefix != "/" {
		l.Prefix = strings.TrimSuffix(prefix, "/")
	}
	if !validBucket.MatchString(bucket) || strings.Contains(bucket, "..") {
		return Location{}, fmt.Errorf("%w: %q cannot be the name of a bucket", ErrURL, bucket)
	}
	if l.Prefix != "" {
		bad := slices.ContainsFunc(strings.Split(l.Prefix, "/"), func(segment string) bool {
			return !validSegment.MatchString(segment) || segment == "." || segment == ".."
		})
		if bad || len(l.Prefix) > maxPrefix {
			return Location{}, fmt.Errorf("%w: the prefix has letters, digits and - . _ between single slashes, %d at most", ErrURL, maxPrefix)
		}
	}
	if !hasQuery {
		return l, nil
	}
	switch parameters, err := url.ParseQuery(query); {
	case err != nil || len(parameters) != 1 || len(parameters["path-style"]) != 1:
	case slices.Contains([]string{"", "true", "false"}, parameters.Get("path-style")):
		l.PathStyle = parameters.Get("path-style") != "false"
		return l, nil
	}
	return Location{}, fmt.Errorf("%w: the only parameter is path-style", ErrURL)
}

// String returns the URL of the store without its parameter, which only says how to ask for it.
func (l Location) String() string {
	if l.Prefix == "" {
		return Scheme + l.Bucket
	}
	return Scheme + l.Bucket + "/" + l.Prefix
}

// prefix returns what all keys begin with.
func (l Location) prefix() string {
	if l.Prefix == "" {
		return ""
	}
	return l.Prefix + "/"
}
