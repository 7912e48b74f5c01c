// Package s3 implements [blob.Store] in a bucket of a service with the Amazon S3 API.
package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	"github.com/aws/smithy-go/logging"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Store is a [blob.Store] in a bucket, below a prefix. The service must support conditional writes
// (the header If-None-Match: *), which [Store.TryWrite] checks. An object is durable once the service has
// acknowledged the write.
//
// Requests are retried after temporary errors, for at most [Options.Total]. If the response to a write is lost,
// the Store checks whether the object was stored before it tries again.
//
// Packs are read in blocks of 512 KiB, up to 68 MiB of which are cached in memory, so a pack deleted by another
// process may remain readable. A Store is safe for concurrent use.
type Store struct {
	place   Location
	options Options
	client  *s3.Client
	slots   chan struct{} // limits concurrent requests
	down    atomic.Bool   // the last retries were in vain; see do
	blocks  *blocks
}

var _ blob.Store = (*Store)(nil)

// Options configure a Store. The zero value is ready to use.
type Options struct {
	Cache    string        // directory for a disk cache of immutable data, at most 256 MiB; empty for none
	Requests int           // maximum number of concurrent requests; 0 means 32
	Attempt  time.Duration // time limit for an attempt without any progress; 0 means 30 seconds
	Total    time.Duration // time limit for retries of a request; 0 means one minute
}

const (
	defaultRequests = 32
	defaultAttempt  = 30 * time.Second
	defaultTotal    = time.Minute

	// defaultRegion is used if none is configured: most services other than Amazon's have no regions.
	defaultRegion = "us-east-1"
)

// Open returns the store at a location. Credentials, region, endpoint and CA certificates are configured as for
// the AWS command line: in the environment, in files or by instance metadata. Open sends no request. Its error is
// an [ErrSettings].
func Open(ctx context.Context, place Location, o Options) (*Store, error) {
	if o.Requests == 0 {
		o.Requests = defaultRequests
	}
	if o.Attempt == 0 {
		o.Attempt = defaultAttempt
	}
	if o.Total == 0 {
		o.Total = defaultTotal
	}
	transport := awshttp.NewBuildableClient().WithTransportOptions(func(t *http.Transport) {
		t.MaxIdleConnsPerHost = o.Requests
		t.ResponseHeaderTimeout = o.Attempt
	})
	c, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(transport), config.WithLogger(logging.Nop{}))
	if err != nil {
		return nil, fmt.Errorf("open store %s: %w: %w", place, ErrSettings, err)
	}
	if c.Region == "" {
		c.Region = defaultRegion
	}
	s := &Store{place: place, options: o, slots: make(chan struct{}, o.Requests)}
	s.blocks = newBlocks(s)
	s.client = s3.NewFromConfig(c, func(o *s3.Options) {
		o.UsePathStyle = place.PathStyle
		o.Credentials = credentials{o.Credentials}
		o.HTTPClient = bounded{o.HTTPClient}
		o.Retryer = aws.NopRetryer{} // see Store.do
		// Callers check objects by digest or signature, and not all services support checksum headers.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return s, nil
}

// credentials marks errors of a provider as ErrNoCredentials.
type credentials struct{ aws.CredentialsProvider }

func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = &answer{printable(fmt.Sprintf("%v: %v", ErrNoCredentials, err)), []error{ErrNoCredentials, err}}
	}
	return found, err
}

// bounded limits the size of response bodies. The largest legitimate ones are packs; a page of a list is much
// smaller.
type bounded struct{ s3.HTTPClient }

func (c bounded) Do(r *http.Request) (*http.Response, error) {
	moved, _ := r.Context().Value(movedKey{}).(func())
	if moved == nil {
		moved = func() {}
	}
	if r.Body != nil {
		r.Body = &countedBody{r.Body, moved}
	}
	answer, err := c.HTTPClient.Do(r)
	if err == nil && answer.Body != nil {
		left := mostAnswered
		if q := r.URL.Query(); q.Has("list-type") || q.Has("versions") {
			left = mostListed
		}
		answer.Body = &boundedBody{&countedBody{answer.Body, moved}, left}
	}
	return answer, err
}

const (
	mostAnswered = blob.MaxPack + 1<<20 // maximum size of a response body, in bytes
	mostListed   = 4 << 20              // and of that of a page of a list
)

// movedKey is the key of the context value that Store.attempt wants called when bytes are sent or received.
type movedKey struct{}

// A countedBody reports when bytes are read from it.
type countedBody struct {
	io.ReadCloser
	moved func()
}

func (b *countedBody) Read(p []byte) (int, error) {
	n, err := b.ReadCloser.Read(p)
	if n > 0 {
		b.moved()
	}
	return n, err
}

type boundedBody struct {
	io.ReadCloser
	left int
}

func (b *boundedBody) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, errTooMuch
	}
	n, err := b.ReadCloser.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, err
}

// errTooMuch is the error for a response body that is too large.
var errTooMuch = fmt.Errorf("a response that does not end: %w", blob.ErrTooLarge)

// Close returns nil. A Store holds nothing that must be released.
func (s *Store) Close() error { return nil }

// String returns the URL of the store.
func (s *Store) String() string { return s.place.String() }

// check returns an error if path is invalid or ctx is done.
func check(ctx context.Context, doing, path string) error {
	if err := blob.ValidPath(path); err != nil {
		return err
	}
	return inPath(doing, path, ctx.Err())
}

// inPath adds the operation and the path to an error.
func inPath(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, path, err)
}

// key returns the key of the object at a path.
func (s *Store) key(path string) *string { return aws.String(s.place.prefix() + path) }

// path returns the path of the object with a key from a list. It reports false for a key outside the store.
func (s *Store) path(key *string, encoding types.EncodingType) (string, bool) {
	return strings.CutPrefix(decoded(key, encoding), s.place.prefix())
}

// decoded returns a key from a list. Lists are URL-encoded, because XML cannot represent all characters.
func decoded(key *string, encoding types.EncodingType) string {
	if encoding == types.EncodingTypeUrl {
		if plain, err := url.QueryUnescape(aws.ToString(key)); err == nil {
			return plain
		}
	}
	return aws.ToString(key)
}

func (s *Store) bucket() *string { return aws.String(s.place.Bucket) }
