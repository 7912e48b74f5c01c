package s3

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"

	"github.com/hsmkeys/hsmkeys/blob"
)

// writerKey is the metadata key for a random identifier of each Put. It identifies which of two writers of the
// same bytes stored the object.
const writerKey = "hsmkeys-put"

// Put implements [blob.Store].
func (s *Store) Put(ctx context.Context, path string, data []byte) error {
	if err := check(ctx, "store", path); err != nil {
		return err
	}
	if err := blob.ValidSize(path, int64(len(data))); err != nil {
		return inPath("store", path, err)
	}
	err := s.put(ctx, s.key(path), data)
	switch {
	case err == nil:
		s.blocks.keepObject(path, data)
	case errors.Is(err, blob.ErrExists): // the caller compares, and not with the cache
		s.blocks.drop(path)
	}
	return inPath("store", path, err)
}

// put stores an object unless the key exists. If the response to an attempt was lost, the metadata of the
// existing object shows whether that attempt succeeded.
func (s *Store) put(ctx context.Context, key *string, data []byte) error {
	writer := rand.Text()
	lost := false // whether the response to an earlier attempt was lost
	look := func(ctx context.Context) (done bool, err error) {
		lost = true
		return s.putBy(ctx, key, writer)
	}
	err := s.do(ctx, func(ctx context.Context) error {
		_, err := s.client.PutObject(ctx, &s3.PutObjectInput{
			Bucket: s.bucket(), Key: key, Body: bytes.NewReader(data), ContentLength: aws.Int64(int64(len(data))),
			IfNoneMatch: aws.String("*"), Metadata: map[string]string{writerKey: writer},
		})
		return s.classify(err, putObject)
	}, look)
	if lost && errors.Is(err, blob.ErrExists) { // perhaps created by the earlier attempt
		if done, err := s.putBy(ctx, key, writer); done || err != nil {
			return err
		}
	}
	return err
}

// putBy reports whether the object exists and was stored by writer. If another writer stored it, the error is a
// [blob.ErrExists].
func (s *Store) putBy(ctx context.Context, key *string, writer string) (bool, error) {
	there, err := s.head(ctx, key)
	switch {
	case errors.Is(err, blob.ErrNotFound):
		return false, nil
	case err != nil:
		return false, err
	case there.Metadata[writerKey] != writer:
		return false, blob.ErrExists
	}
	return true, nil
}

// errMarker, a kind of [blob.ErrNotFound], is the error for an object that was deleted in a bucket that keeps versions.
var errMarker = fmt.Errorf("deleted, with versions: %w", blob.ErrNotFound)

// head returns the metadata of an object.
func (s *Store) head(ctx context.Context, key *string) (out *s3.HeadObjectOutput, err error) {
	return out, s.do(ctx, func(ctx context.Context) (err error) {
		out, err = s.client.HeadObject(ctx, &s3.HeadObjectInput{Bucket: s.bucket(), Key: key})
		var response *awshttp.ResponseError
		if errors.As(err, &response) && response.HTTPStatusCode() == http.StatusNotFound { // without a code, as it has no body
			if response.Response.Header.Get("X-Amz-Delete-Marker") == "true" {
				return errMarker
			}
			return blob.ErrNotFound
		}
		return s.classify(err, getObject)
	}, nil)
}

// Get implements [blob.Store].
func (s *Store) Get(ctx context.Context, path string) ([]byte, error) {
	if err := check(ctx, "read", path); err != nil {
		return nil, err
	}
	if data, ok := s.blocks.object(path); ok {
		return data, nil
	}
	data, err := s.get(ctx, s.key(path), int64(blob.MaxSizeOf(path)))
	if err == nil {
		s.blocks.keepObject(path, data)
	}
	return data, inPath("read", path, err)
}

// get reads an object of at most the given size, in bytes.
func (s *Store) get(ctx context.Context, key *string, most int64) (data []byte, err error) {
	return data, s.do(ctx, func(ctx context.Context) error {
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{Bucket: s.bucket(), Key: key})
		if err != nil {
			return s.classify(err, getObject, listBucket)
		}
		defer out.Body.Close()
		if size := aws.ToInt64(out.ContentLength); size > most {
			return fmt.Errorf("%w: %d bytes, at most %d are allowed", blob.ErrTooLarge, size, most)
		}
		if data, err = readBody(out.Body, out.ContentLength, most+1); err != nil {
			return fmt.Errorf("%w: %w", errCut, err)
		}
		if int64(len(data)) > most { // the response had no Content-Length
			return fmt.Errorf("%w: at most %d bytes are allowed", blob.ErrTooLarge, most)
		}
		return nil
	}, nil)
}

// getPart reads at most the given number of bytes from an offset, fewer if the object ends before that.
func (s *Store) getPart(ctx context.Context, path string, offset, most int64) (data []byte, err error) {
	return data, s.do(ctx, func(ctx context.Context) error {
		out, err := s.client.GetObject(ctx, &s3.GetObjectInput{
			Bucket: s.bucket(), Key: s.key(path), Range: aws.String(fmt.Sprintf("bytes=%d-%d", offset, offset+most-1)),
		})
		if code, _ := codeOf(err); code == "InvalidRange" { // the object ends before offset
			data = nil
			return nil
		}
		if err != nil {
			return s.classify(err, getObject, listBucket)
		}
		defer out.Body.Close()
		if out.ContentRange == nil && offset > 0 { // the service ignored the range
			if _, err := io.CopyN(io.Discard, out.Body, offset); err != nil && !errors.Is(err, io.EOF) {
				return fmt.Errorf("%w: %w", errCut, err)
			}
		}
		if data, err = readBody(out.Body, out.ContentLength, most); err != nil {
			return fmt.Errorf("%w: %w", errCut, err)
		}
		return nil
	}, nil)
}

// readBody reads at most the given number of bytes, into a buffer of the right size if that is known.
func readBody(body io.Reader, length *int64, most int64) ([]byte, error) {
	var buffer bytes.Buffer
	if size := aws.ToInt64(length); 0 < size && size <= most {
		buffer.Grow(int(size) + bytes.MinRead) // which ReadFrom wants free at the end
	}
	_, err := buffer.ReadFrom(io.LimitReader(body, most))
	return buffer.Bytes(), err
}

// maxPages limits the pages of a list. A page has up to 1,000 keys.
const maxPages = 1 << 20

// List implements [blob.Store].
func (s *Store) List(ctx context.Context, prefix string) iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		err := s.pages(ctx, prefix, func(page *s3.ListObjectsV2Output) bool {
			for _, o := range page.Contents {
				path, ok := s.path(o.Key, page.EncodingType)
				if ok && strings.HasPrefix(path, prefix) && blob.ValidPath(path) == nil && !yield(path, nil) {
					return false
				}
			}
			return true
		})
		if err != nil {
			yield("", err)
		}
	}
}

// pages calls f for each page of the list of objects under prefix until f returns false.
func (s *Store) pages(ctx context.Context, prefix string, f func(*s3.ListObjectsV2Output) bool) error {
	var token *string
	seen := map[[16]byte]bool{} // tokens, by digest
	for range maxPages {
		var page *s3.ListObjectsV2Output
		err := ctx.Err()
		if err == nil {
			err = s.do(ctx, func(ctx context.Context) (err error) {
				page, err = s.client.ListObjectsV2(ctx, &s3.ListObjectsV2Input{Bucket: s.bucket(), Prefix: s.key(prefix), ContinuationToken: token, EncodingType: types.EncodingTypeUrl})
				return s.classify(err, listBucket)
			}, nil)
		}
		if err != nil {
			return fmt.Errorf("list %q: %w", prefix, err)
		}
		if !f(page) || !aws.ToBool(page.IsTruncated) {
			return nil
		}
		next := page.NextContinuationToken
		sum := sha256.Sum256([]byte(aws.ToString(next)))
		if aws.ToString(next) == "" || seen[[16]byte(sum[:])] {
			break
		}
		seen[[16]byte(sum[:])] = true
		token = next
	}
	return fmt.Errorf("list %q: %w: the list does not end", prefix, blob.ErrUnavailable)
}

// Delete implements [blob.Store].
func (s *Store) Delete(ctx context.Context, path string) error {
	if err := check(ctx, "delete", path); err != nil {
		return err
	}
	s.blocks.drop(path)
	return inPath("delete", path, s.delete(ctx, s.key(path)))
}

// delete deletes an object. In a bucket with versioning its versions remain.
func (s *Store) delete(ctx context.Context, key *string) error {
	return s.do(ctx, func(ctx context.Context) error {
		_, err := s.client.DeleteObject(ctx, &s3.DeleteObjectInput{Bucket: s.bucket(), Key: key})
		if err = s.classify(err, deleteObject); errors.Is(err, blob.ErrNotFound) {
			return nil
		}
		return err
	}, nil)
}
