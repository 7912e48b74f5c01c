package s3

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"
)

// Scheme is the prefix of the URL of a store in a bucket.
const Scheme = "s3://"

// A Location identifies a store in a bucket.
type Location struct {
	Bucket    string
	Prefix    string // of all keys, without the trailing slash; may be empty
	PathStyle bool   // use path-style requests instead of virtual-hosted-style ones
}

// ErrURL is the error for an invalid URL of a store.
var ErrURL = errors.New("not s3://BUCKET/PREFIX, with ?path-style or without")

// validBucket follows the Amazon S3 User Guide, "General purpose bucket naming rules".
var validBucket = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)

// validSegment matches a segment of a prefix. It is a subset of the "safe characters" of the Amazon S3 User Guide,
// "Naming Amazon S3 objects", so keys need no escaping.
var validSegment = regexp.MustCompile(`^[A-Za-z0-9_.-]+$`)

// maxPrefix is the maximum length of a prefix, in bytes. Keys are limited to 1,024 bytes, and every path of an
// object is shorter than 512.
const maxPrefix = 512

// Parse parses the URL of a store, s3://BUCKET/PREFIX, with the optional parameter path-style. The error is an
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
		return Location{}, fmt.Errorf("%w: the name of a bucket has 3 to 63 lower-case letters, digits and - . and %q cannot be one", ErrURL, bucket)
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

// String returns the URL of the store without the parameter, which does not identify the store.
func (l Location) String() string {
	if l.Prefix == "" {
		return Scheme + l.Bucket
	}
	return Scheme + l.Bucket + "/" + l.Prefix
}

// prefix returns the prefix of all keys, with the trailing slash.
func (l Location) prefix() string {
	if l.Prefix == "" {
		return ""
	}
	return l.Prefix + "/"
}
