package s3

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Purge implements [blob.Purger]. If versions of the object are left, because the credentials or an
// object lock do not allow to delete them, the error is an [ErrVersionsKept], and the object itself
// is deleted.
func (s *Store) Purge(ctx context.Context, path string) error {
	if err := check(ctx, "delete", path); err != nil {
		return err
	}
	s.blocks.drop(path)
	return inPath("delete", path, s.purge(ctx, s.key(path)))
}

func (s *Store) purge(ctx context.Context, key *string) error {
	left := s.deleteVersions(ctx, key)
	if left == nil {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// Whether there is anything to be kept, deleting the object tells.
	kept, err := s.delete(ctx, key)
	if err != nil {
		return err
	}
	if kept {
		return fmt.Errorf("%w: %w", ErrVersionsKept, left)
	}
	return nil
}

// deleteVersions deletes all versions of an object and what marks it as deleted. In a bucket that keeps
// no versions, the object is its only one.
func (s *Store) deleteVersions(ctx context.Context, key *string) error {
	all, err := s.versions(ctx, key)
	for i := 0; i < len(all) && err == nil; i++ {
		err = s.do(ctx, func(ctx context.Context) error {
			_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: key, VersionId: all[i]})
			if err = s.classify(err, deleteVersion); errors.Is(err, blob.ErrNotFound) {
				return nil
			}
			return err
		}, nil)
	}
	return err
}

// maxVersions bounds how many versions of one object are deleted: no program of ours makes more than one.
const maxVersions = 10_000

// versions returns the versions of an object, those that mark it as deleted included.
func (s *Store) versions(ctx context.Context, key *string) (all []*string, err error) {
	in := &s3.ListObjectVersionsInput{Bucket: s.bucket(), Prefix: key}
	for len(all) < maxVersions {
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
		for _, v := range page.Versions {
			if aws.ToString(v.Key) == *key {
				all = append(all, v.VersionId)
			}
		}
		for _, m := range page.DeleteMarkers {
			if aws.ToString(m.Key) == *key {
				all = append(all, m.VersionId)
			}
		}
		if !aws.ToBool(page.IsTruncated) {
			return all, nil
		}
		in.KeyMarker, in.VersionIdMarker = page.NextKeyMarker, page.NextVersionIdMarker
	}
	return nil, fmt.Errorf("%s has more than %d versions", *key, maxVersions)
}
