// Package s3 keeps the objects of a [blob.Store] in a bucket of a service that speaks the Amazon
// S3 protocol.
package s3

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/smithy-go/logging"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Store is a [blob.Store] in a bucket, below a prefix. The service must store an object with
// the header If-None-Match: * only where there is none, as Amazon S3 does: [Store.TryWrite] tries
// that. An object is durable when the service has answered.
//
// Requests that fail for a while are repeated, within [Options.Total]. A Put whose answer was lost
// is looked up before it is repeated.
//
// Packs are read in blocks of 512 KiB, of which some are kept in memory, so that a pack that somebody
// else has deleted may still be read for a while. It is safe for concurrent use.
type Store struct {
	place   Location
	options Options
	client  *s3.Client
	slots   chan struct{} // one for each request under way
	down    atomic.Bool   // the last request that was given up was tried for as long as there was time
	blocks  *blocks
}

var _ blob.Store = (*Store)(nil)

// Options are how a bucket is used. Their zero value is ready for use.
type Options struct {
	Cache    string        // a directory where objects are kept that never change; "" for none
	Requests int           // most that are under way at a time; 0 for 32
	Attempt  time.Duration // after which one attempt at a request is given up; 0 for 30 s
	Total    time.Duration // after which a request is given up, with all attempts; 0 for 1 min
}

const (
	defaultRequests = 32
	defaultAttempt  = 30 * time.Second
	defaultTotal    = time.Minute

	// defaultRegion is for the services that have none.
	defaultRegion = "us-east-1"
)

// Open returns the store at a place. Credentials, region, endpoint and certificates of authorities
// come from where the AWS command line has them: environment, files and instance metadata. An error
// is an [ErrSettings]; nothing is sent before the store is used.
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
		// Every object is checked by digest or signature, and not all services know the newer headers.
		o.RequestChecksumCalculation = aws.RequestChecksumCalculationWhenRequired
		o.ResponseChecksumValidation = aws.ResponseChecksumValidationWhenRequired
	})
	return s, nil
}

// credentials say of their errors what they are about.
type credentials struct{ aws.CredentialsProvider }

func (c credentials) Retrieve(ctx context.Context) (aws.Credentials, error) {
	found, err := c.CredentialsProvider.Retrieve(ctx)
	if err != nil && ctx.Err() == nil {
		err = fmt.Errorf("%w: %w", ErrNoCredentials, err)
	}
	return found, err
}

// bounded cuts answers off that are larger than any that this program asks for: a list of a thousand paths is
// much smaller than the largest object.
type bounded struct{ s3.HTTPClient }

func (c bounded) Do(r *http.Request) (*http.Response, error) {
	answer, err := c.HTTPClient.Do(r)
	if err == nil && answer.Body != nil {
		answer.Body = &boundedBody{answer.Body, mostAnswered}
	}
	return answer, err
}

// mostAnswered is the maximal size of an answer, in bytes.
const mostAnswered = blob.MaxPack + 1<<20

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

// errTooMuch is the error for an answer that does not end.
var errTooMuch = fmt.Errorf("an answer of more than %d MiB: %w", mostAnswered>>20, blob.ErrTooLarge)

// Close releases what reading ahead has begun.
func (s *Store) Close() error { return s.blocks.close() }

// String returns the URL of the store.
func (s *Store) String() string { return s.place.String() }

// check refuses what is no path, and ends what nobody waits for any more.
func check(ctx context.Context, doing, path string) error {
	if err := blob.ValidPath(path); err != nil {
		return err
	}
	return inPath(doing, path, ctx.Err())
}

// inPath says what failed on what.
func inPath(doing, path string, err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%s %s: %w", doing, path, err)
}

// key returns the key of the object at a path.
func (s *Store) key(path string) *string { return aws.String(s.place.prefix() + path) }

func (s *Store) bucket() *string { return aws.String(s.place.Bucket) }
