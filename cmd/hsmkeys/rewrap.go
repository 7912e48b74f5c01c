package main

import (
	"context"
	"errors"
	"iter"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/tally"
)

func rewrapCommand() *cli.Command {
	return &cli.Command{
		Name: "rewrap", Usage: "wrap keys to the current members: same key, next revision", ArgsUsage: "[NAME…]",
		Description: "Works on all versions of the named keys, or of all keys. What is up to date is left alone; it\n" +
			"can be interrupted and started again. With --damaged the token unwraps each of them.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "damaged", Usage: "wrap again also what is up to date but does not open with this token; and of named keys also what another holder has not proven to open (drill --prove)"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := validNames(c); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				do := k.Rewrap
				if c.Bool("damaged") {
					do = func(ctx context.Context, refs []hsmkeys.Ref) iter.Seq[hsmkeys.Result] {
						return k.RewrapDamaged(ctx, refs, c.Args().Present())
					}
				}
				t, err := rewrap(ctx, k, do, c.Args().Slice()...)
				if t.Done > 0 && len(k.FormerMembers()) > 0 {
					message.Note("who was a member before has had the same keys; hsmkeys rotate --former makes new versions where that is so")
				}
				return errors.Join(t.Print(s, "rewrapped", "up to date"), err)
			})
		}),
	}
}

// rewrap has [hsmkeys.Keyring.Rewrap], or another function of its kind, work on every
// version of the named keys, or of all keys.
func rewrap(ctx context.Context, k *hsmkeys.Keyring, do func(context.Context, []hsmkeys.Ref) iter.Seq[hsmkeys.Result], names ...string) (tally.Tally, error) {
	refs, err := k.Versions(ctx, names...)
	if err != nil {
		return tally.Tally{Failed: []tally.Failed{}}, err
	}
	return tally.Run(do(ctx, refs), len(refs), "rewrap")
}
