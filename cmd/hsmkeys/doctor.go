package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/doctor"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
)

func doctorCommand() *cli.Command {
	return &cli.Command{
		Name: "doctor", Usage: "is this module, token, store and keyring sound, and what to do if not",
		Description: "Looks at everything that the other commands need, tries the PIN once, and says of what it finds whether it is ok, a warning or a failure, what that means, and which command mends it, where one does. The exit status is 1 when anything fails.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return doctor.Run(ctx, s)
		}),
	}
}
