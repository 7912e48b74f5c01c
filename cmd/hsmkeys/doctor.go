package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/doctor"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "check module, token, store and keyring, and say what to do about faults",
		Description: "Checks everything that the other commands need, and tries the PIN once. Each finding is ok, a warning or a failure, with what it means and the command that mends it, if there is one. The exit status is 1 if a check fails.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			s.WholeStore = true
			if err := noArgument(c); err != nil {
				return err
			}
			return doctor.Run(ctx, s)
		}),
	}
}
