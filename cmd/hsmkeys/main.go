//go:build !manual

// Command hsmkeys keeps session keys safely outside the hardware: made, wrapped and signed on a
// PKCS #11 token, and stored anywhere.
package main

import (
	"context"
	"os"
	"slices"
	"syscall"

	"github.com/hsmkeys/hsmkeys/cmd/internal/ageplugin"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/completion"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/program"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
)

func main() { program.Main("hsmkeys", run) }

func run(ctx context.Context) int {
	if ageplugin.IsPlugin(os.Args) {
		return ageplugin.Main(ctx, os.Args[1:])
	}
	if len(os.Args) > 1 && os.Args[1] == completion.Command {
		completion.Main(newApp, os.Args[2:])
		syscall.Exit(0) // not guard.Exit: exit handlers of a module that hangs would hang too
	}
	if len(os.Args) > 1 && os.Args[1] == rehearsalArgument {
		os.Args = slices.Delete(os.Args, 1, 2)
		session.Rehearsal = true
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
