package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Purge implements [blob.Purger]. If the credentials or an object lock do not permit deleting the versions of the
// object, the error is an [ErrVersionsKept] and the current version remains.
func (s *Store) Purge(ctx context.Context, path string) error {
	if err := check(ctx, "delete", path); err != nil {
		return err
	}
	s.blocks.drop(path)
	return inPath("delete", path, s.purge(ctx, s.key(path)))
}

func (s *Store) purge(ctx context.Context, key *string) error {
	all, err := s.versions(ctx, key)
	if err != nil {
		return s.deleteOnly(ctx, key, err)
	}
	// Delete the newest version last: while it exists, List finds the object and Purge can be retried.
	for _, version := range slices.Backward(all) {
		if err := s.deleteVersion(ctx, key, version); errors.Is(err, ErrDenied) {
			return fmt.Errorf("%w: %w", ErrVersionsKept, err)
		} else if err != nil {
			return err
		}
	}
	return s.deleteOnly(ctx, key, errLag) // which the list of versions may have lacked
}

// errLag is the error for a version that the list of versions did not contain.
var errLag = errors.New("the list of its versions lags")

// deleteOnly deletes an object if the bucket keeps no versions of it. Otherwise it returns an ErrVersionsKept with the
// reason why the versions cannot be deleted.
func (s *Store) deleteOnly(ctx context.Context, key *string, reason error) error {
	there, err := s.head(ctx, key)
	if errors.Is(err, errMarker) && !errors.Is(reason, errLag) {
		return fmt.Errorf("%w: %w", ErrVersionsKept, reason)
	}
	if errors.Is(err, blob.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	if version := aws.ToString(there.VersionId); version != "" && version != noVersion {
		return fmt.Errorf("%w: %w", ErrVersionsKept, reason)
	}
	return s.delete(ctx, key)
}

// noVersion is the version of an object that was stored while versioning was off.
const noVersion = "null"

func (s *Store) deleteVersion(ctx context.Context, key, version *string) error {
	return s.do(ctx, func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: key, VersionId: version})
		if err = s.classify(err, deleteVersion); errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		return err
	}, nil)
}

// maxVersionPages limits the list of the versions of one object. A page has up to 1,000; hsmkeys itself creates one
// version.
const maxVersionPages = 10

// versions returns the identifiers of all delete markers of an object and then of its versions, newest first.
func (s *Store) versions(ctx context.Context, key *string) (all []*string, err error) {
	in := &s3.ListObjectVersionsInput{Bucket: s.bucket(), Prefix: key, EncodingType: types.EncodingTypeUrl}
	for range maxVersionPages {
		var page *s3.ListObjectVersionsOutput
		err := s.do(ctx, func(ctx context.Context) (err error) {
			page, err = s.client.ListObjectVersions(ctx, in)
			if _, status := codeOf(err); status == http.StatusNotImplemented {
				return fmt.Errorf("%w: the service has no lists of versions", errors.ErrUnsupported)
			}
			return s.classify(err, listVersions)
		}, nil)
		if err != nil {
			return nil, err
		}
		for _, m := range page.DeleteMarkers {
			if decoded(m.Key, page.EncodingType) == *key {
				all = append(all, m.VersionId)
			}
		}
		for _, v := range page.Versions {
			if decoded(v.Key, page.EncodingType) == *key {
				all = append(all, v.VersionId)
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		in.KeyMarker, in.VersionIdMarker = aws.String(decoded(page.NextKeyMarker, page.EncodingType)), page.NextVersionIdMarker
		if *in.KeyMarker != *key { // the versions of the key come first
			return all, nil
		}
	}
	return nil, fmt.Errorf("%s has more than %d pages of versions", *key, maxVersionPages)
}
