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

// firstWait is how long the first pause is, and it is doubled each time. Tests have less time.
var firstWait = 100 * time.Millisecond

const (
	// maxAttempts bounds how often a request is sent; it waits about ten seconds in all between them.
	maxAttempts = 8

	// maxUnreached is how often it is when nobody has answered at the address.
	maxUnreached = 3

	mostWait = 5 * time.Second // unless the service asks for more
)

// do sends a request, and again when it failed for a reason that passes, unless that was just in vain for another
// request: of many, not each has to find that out. Where it may have been carried out all the same, looked is
// called before the next attempt, unless it is nil: it tells whether it was.
func (s *Store) do(ctx context.Context, send func(context.Context) error, looked func(context.Context) (done bool, err error)) error {
	left := s.options.Total // of the time for it, without that in which others had their turn
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

// attempt sends a request once, when its turn comes, and returns how long that took then.
func (s *Store) attempt(ctx context.Context, within time.Duration, send func(context.Context) error) (time.Duration, error) {
	select {
	case s.slots <- struct{}{}:
		defer func() { <-s.slots }()
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	err := send(ctx)
	return time.Since(began), err
}

var transient = retry.IsErrorRetryables(retry.DefaultRetryables)

// passes reports whether an error is one of those that pass.
func passes(err error) bool {
	if errors.Is(err, ErrNoCredentials) {
		return false
	}
	// That of one attempt: the caller looks at its own context first.
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, errCut) {
		return true
	}
	switch _, status := codeOf(err); {
	case status == http.StatusTooManyRequests, status == http.StatusRequestTimeout, status == http.StatusConflict: // somebody else is at it
		return true
	case status == http.StatusOK: // with what is no answer
		return true
	}
	var network net.Error
	return errors.As(err, &network) || transient.IsErrorRetryable(err) == aws.TrueTernary
}

// errCut is the error for an answer that ends too early.
var errCut = errors.New("the answer ends too early")

// unreached reports whether nobody answered at the address, which is most often wrong then.
func unreached(err error) bool {
	var name *net.DNSError
	return errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &name)
}

// pause returns how long to wait after attempt n: as long as the service asks for, or else twice as
// long as the time before, and less by chance, lest all who were sent away come back at once.
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

// wait waits, and reports whether nobody has ended that.
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
