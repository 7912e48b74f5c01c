package main

import (
	"context"
	"errors"
	"syscall"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/stdio"
)

// report prints an error in one line, and a hint where there is one.
func report(ctx context.Context, err error) int {
	if ctx.Err() != nil && errors.Is(err, context.Canceled) {
		message.Error(failure.ErrInterrupted)
		return failure.StatusFailed
	}
	if errors.Is(err, syscall.EPIPE) {
		stdio.EndOnBrokenPipe()
	}
	if errors.Is(err, failure.ErrReported) {
		return failure.Status(err)
	}
	message.Error(err)
	return failure.Status(err)
}
