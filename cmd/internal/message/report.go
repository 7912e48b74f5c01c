package message

import (
	"context"
	"errors"
	"syscall"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
)

// Report prints an error with its hint, and returns the exit status.
func Report(ctx context.Context, err error) int {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		Error(failure.ErrInterrupted)
		return failure.StatusFailed
	}
	if errors.Is(err, syscall.EPIPE) {
		stdio.EndOnBrokenPipe()
	}
	if errors.Is(err, failure.ErrReported) {
		return failure.Status(err)
	}
	Error(err)
	return failure.Status(err)
}
