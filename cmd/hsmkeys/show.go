package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func showCommand() *cli.Command {
	return &cli.Command{
		Name: "show", Usage: "show all about one key, verified", ArgsUsage: "NAME[@VERSION]",
		Flags: []cli.Flag{certificateFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			s.IgnoreCache = true // show reports the residence
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				e, err := k.Show(ctx, ref)
				if err != nil {
					return err
				}
				if e.Status == ledger.Destroyed.String() {
					return show.Entry(s, e)
				}
				return errors.Join(show.Entry(s, e), k.CheckOpens(ctx, hsmkeys.Ref{Name: e.Name, Version: e.Version}))
			})
		}),
	}
}
