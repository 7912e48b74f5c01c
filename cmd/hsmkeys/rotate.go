package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/tally"
)

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "make a new version of a session key", ArgsUsage: "[NAME…]",
		Description: "Takes one NAME. A key from a password gets a new salt; with --new-password a new password too.\n" +
			"With --former it rotates each key, of all or of the named ones, whose newest version was ever\n" +
			"wrapped to a former member; it can be interrupted and started again.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "new-password", Usage: "take a new password, for a key from a password"},
			&cli.BoolFlag{Name: "former", Usage: "rotate each key that a former member can open; NAME may be left out, or several"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.Bool("former") && c.Bool("new-password") {
				return failure.Usage("--former and --new-password do not go together: a key from a password is wrapped to nobody")
			}
			if c.Bool("former") {
				if err := validNames(c); err != nil {
					return err
				}
				return rotateAllFormer(ctx, s, c.Args().Slice())
			}
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				e, err := rotate(ctx, s, k, name, c.Bool("new-password"))
				if err != nil {
					return err
				}
				if e.Password != "" {
					notePassword()
				} else {
					show.NoteAlone(k)
				}
				return printMade(s, k, e)
			})
		}),
	}
}

func rotateAllFormer(ctx context.Context, s *settings.Settings, names []string) error {
	return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
		t, err := rotateFormer(ctx, k, names...)
		return errors.Join(t.Print(s, "rotated", "not needed"), err)
	})
}

func rotateFormer(ctx context.Context, k *hsmkeys.Keyring, names ...string) (tally.Tally, error) {
	results, total, err := k.RotateFormer(ctx, names...)
	if err != nil {
		return tally.Tally{Failed: []tally.Failed{}}, err
	}
	return tally.Run(results, total, "rotate")
}

func rotate(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, newPassword bool) (hsmkeys.Entry, error) {
	if !newPassword {
		return k.Rotate(ctx, name)
	}
	e, err := k.Show(ctx, hsmkeys.Ref{Name: name})
	if err != nil {
		return e, err
	}
	if e.Password == "" {
		return e, failure.Usage("key %q is stored, and has no password", name)
	}
	password, err := session.NewPassword(ctx, s, name)
	if err != nil {
		return e, err
	}
	defer clear(password)
	return k.RotatePassword(ctx, name, password)
}
