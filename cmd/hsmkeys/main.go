//go:build !manual

// Command hsmkeys keeps session keys safely outside the hardware: made, wrapped and signed on a
// PKCS #11 token, and stored anywhere.
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

	"github.com/hsmkeys/hsmkeys/cmd/internal/ageplugin"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/completion"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/internal/trial"
	"github.com/hsmkeys/hsmkeys/token/guard"
)

func main() { guard.Exit(run()) }

func run() int {
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
	if ageplugin.IsPlugin(os.Args) {
		return ageplugin.Main(ctx, os.Args[1:])
	}
	if len(os.Args) > 1 && os.Args[1] == completion.Command {
		completion.Main(newApp, os.Args[2:])
		syscall.Exit(0) // not guard.Exit: exit handlers of a module that hangs would hang too
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

// tuneGC makes the garbage collector run less often than by default, as long as memory is small: a
// command holds a few megabytes, whatever the size of the store. GOGC and GOMEMLIMIT have
// precedence.
func tuneGC() {
	if os.Getenv("GOGC") == "" && os.Getenv("GOMEMLIMIT") == "" {
		debug.SetGCPercent(200)
		debug.SetMemoryLimit(192 << 20)
	}
}
