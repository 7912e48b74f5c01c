package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func renameCommand() *cli.Command {
	return &cli.Command{
		Name: "rename", Usage: "give a key another name; files that name the old one still open", ArgsUsage: "NAME NEW-NAME",
		Flags: []cli.Flag{&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; hsmkeys log shows it"}},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() != 2 {
				return failure.Usage("rename takes two arguments, the NAME of a key and its NEW-NAME")
			}
			if err := validNames(c); err != nil {
				return err
			}
			name, to := c.Args().Get(0), c.Args().Get(1)
			if err := blob.ValidNewName(to); err != nil {
				return err
			}
			reason, err := reasonOption(c, false)
			if err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				e, err := k.Rename(ctx, name, to, reason)
				if err != nil {
					return err
				}
				if s.JSON {
					return output.JSON(e)
				}
				return output.Line("%s is now %s; files that name %s still open", name, to, name)
			})
		}),
	}
}
