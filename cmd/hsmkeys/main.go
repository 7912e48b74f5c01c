//go:build !manual

// Command hsmkeys stores session keys safely outside the hardware: made, wrapped
// and signed on a PKCS #11 token, stored anywhere.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
	"time"

	"github.com/awnumar/memcall"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/ageplugin"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/completion"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/trial"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

func main() { guard.Exit(run()) }

func run() int {
	// A core dump would hold PINs, file keys and, where the token can hold none,
	// session keys. Where the system refuses, nothing is lost but this.
	_ = memcall.DisableCoreDumps()
	message.JSON = message.AsksForJSON(os.Args) // until the options are read
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
	// What waits for the token, a pipe or a person cannot be interrupted; it is
	// given a moment to clean up, and then left.
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
	if ageplugin.IsPlugin(os.Args) {
		return ageplugin.Main(ctx, os.Args[1:])
	}
	if len(os.Args) > 1 && os.Args[1] == completion.Command {
		completion.Main(newApp, os.Args[2:])
		syscall.Exit(0) // at once: what a module that hangs has registered to run at the end hangs too
	}
	app := newApp()
	out := &output.Checked{W: os.Stdout}
	app.Writer = out
	err := app.RunContext(ctx, commandline.Arrange(app, os.Args))
	if err == nil {
		err = out.Err
	}
	if err != nil {
		return message.Report(ctx, err)
	}
	return 0
}

// tuneGC has memory collected less often than Go does by itself, as long as there is
// little of it: a command holds a few megabytes, whatever the size of the store. Who sets
// GOGC or GOMEMLIMIT knows better.
func tuneGC() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200)
		debug.SetMemoryLimit(192 << 20)
	}
}
