// Package program has what the programs of this project begin with, before they read their options.
package program

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/awnumar/memcall"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

// Main runs a program: run with a context that ends at SIGINT, SIGTERM and SIGHUP, or in a child process
// the trial of a module. It exits with the status that run returns.
func Main(name string, run func(context.Context) int) {
	message.Program = name
	guard.Exit(start(run))
}

func start(run func(context.Context) int) int {
	// A core dump would contain PINs, file keys and, if the token cannot hold them, session keys. It
	// is no failure if the system refuses to turn them off.
	_ = memcall.DisableCoreDumps()
	message.JSON = message.AsksForJSON(os.Args) // until the settings are read
	if err := stdio.EnoughFiles(); err != nil {
		message.Error(err)
		return failure.StatusFailed
	}
	if err := stdio.Own(); err != nil {
		message.Error(fmt.Errorf("keep what modules print out of stdout: %w", err))
		return failure.StatusFailed
	}
	guard.NoticeEnds(2, failure.StatusToken)
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) { // as by nohup(1)
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(context.Background(), signals...)
	defer stop()
	// Whatever waits for the token, a pipe or a person cannot be interrupted: give the rest a moment to
	// clean up, and exit.
	context.AfterFunc(ctx, func() {
		time.Sleep(2 * time.Second)
		message.Error(failure.ErrInterrupted)
		guard.Exit(failure.StatusFailed)
	})
	if err := stdio.RefuseClosed(); err != nil {
		return message.Report(ctx, err)
	}
	tuneGC()
	if len(os.Args) > 1 && os.Args[1] == trial.Command {
		return trial.Main(os.Args[2:])
	}
	return run(ctx)
}

// tuneGC makes the garbage collector run less often than by default, as long as memory is small: a
// command holds a few megabytes, whatever the size of the store. GOGC and GOMEMLIMIT have
// precedence.
func tuneGC() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200)
		debug.SetMemoryLimit(192 << 20)
	}
}
