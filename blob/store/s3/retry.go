package s3

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/hsmkeys/hsmkeys/blob"
)

// firstWait is the delay before the second attempt. It doubles with each attempt. Tests shorten it.
var firstWait = 100 * time.Millisecond

const (
	// maxAttempts limits the attempts per request, with about ten seconds of delays in total.
	maxAttempts = 8

	// maxUnreached limits the attempts if the host is unknown or refuses connections.
	maxUnreached = 3

	mostWait = 5 * time.Second // unless Retry-After is longer
)

// do sends a request, and retries it after a temporary error, with exponential backoff, until maxAttempts or
// Options.Total is reached. After a request has failed in this way, later ones are retried only once until one
// succeeds, so that a long series of requests to a service that is down ends soon.
//
// A failed attempt may have had its effect. If looked is not nil, do calls it before each retry, and returns if
// looked reports that the request is done.
func (s *Store) do(ctx context.Context, send func(context.Context) error, looked func(context.Context) (done bool, err error)) error {
	left := s.options.Total // time left, not counting the wait for a slot
	for n := 1; ; n++ {
		took, err := s.attempt(ctx, min(s.options.Attempt, left), send)
		if left -= took; err == nil || !passes(err) {
			s.down.Store(false)
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case !passes(err):
			return err
		}
		rest := pause(n, err)
		if n == maxAttempts || n == maxUnreached && unreached(err) || n > 1 && s.down.Load() || rest >= left {
			s.down.Store(true)
			return fmt.Errorf("%w, in %d attempts: %w", blob.ErrUnavailable, n, err)
		}
		if left -= rest; !wait(ctx, rest) {
			return ctx.Err()
		}
		if looked == nil {
			continue
		}
		if done, err := looked(ctx); done || err != nil {
			return err
		}
	}
}

// attempt waits for a free slot, sends a request once and returns how long that took, without the wait. It gives up
// when no byte was sent or received within a time.
func (s *Store) attempt(ctx context.Context, within time.Duration, send func(context.Context) error) (time.Duration, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	began := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	still := time.AfterFunc(within, func() { cancel(context.DeadlineExceeded) })
	defer still.Stop()
	ctx = context.WithValue(ctx, movedKey{}, func() { still.Reset(within) })
	err := send(ctx)
	if err != nil && errors.Is(context.Cause(ctx), context.DeadlineExceeded) {
		err = fmt.Errorf("no progress within %v: %w", within.Round(time.Millisecond), context.DeadlineExceeded)
	}
	return time.Since(began), err
}

var transient = retry.IsErrorRetryables(retry.DefaultRetryables)

// passes reports whether an error is temporary.
func passes(err error) bool {
	if errors.Is(err, ErrNoCredentials) {
		return false
	}
	// The deadline is that of the attempt: the caller has checked its own context.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errCut) {
		return true
	}
	switch _, status := codeOf(err); {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusConflict: // a concurrent write
		return true
	case status == http.StatusOK: // an error while the body was read
		return true
	}
	var network net.Error
	return errors.As(err, &network) || transient.IsErrorRetryable(err) == aws.TrueTernary
}

// errCut is the error for a response body that ends early.
var errCut = errors.New("the answer ends too early")

// unreached reports whether the host is unknown or refuses connections, so that the endpoint is probably wrong.
func unreached(err error) bool {
	var name *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &name)
}

// pause returns the delay after attempt n: that of the Retry-After header, or else exponential backoff with jitter.
func pause(n int, err error) time.Duration {
	var response *awshttp.ResponseError
	if errors.As(err, &response) && response.Response != nil {
		if seconds, err := strconv.ParseUint(response.Response.Header.Get("Retry-After"), 10, 16); err == nil && seconds > 0 {
			return time.Duration(seconds) * time.Second
		}
	}
	most := min(firstWait<<(n-1), mostWait)
	return most/2 + rand.N(most/2)
}

// wait sleeps for d. It reports false if ctx is done before that.
func wait(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
