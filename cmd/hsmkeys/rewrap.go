package main

import (
	"context"
	"errors"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
)

func rewrapCommand() *cli.Command {
	return &cli.Command{
		Name: "rewrap", Usage: "wrap keys to the current members: same key, next revision", ArgsUsage: "[NAME…]",
		Description: "Works on all versions of the named keys, of those below PREFIX/, or of all keys. What is up to date is left\n" +
			"alone; it can be interrupted and started again. With --damaged the token unwraps each of them.",
		Flags: append(manyFlags(),
			&cli.BoolFlag{Name: "damaged", Usage: "wrap again also what is up to date but does not open with this token; and of named keys also what another holder has not proven to open (drill --prove)"}),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := refArguments(c, false); err != nil {
				return err
			}
			reason, err := reasonOption(c, false)
			if err != nil {
				return err
			}
			if c.Bool("damaged") && c.Bool("dry-run") {
				return failure.Usage("--damaged and --dry-run do not go together: only the token can tell what is damaged")
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				refs, err := versionsToRewrap(ctx, k, c.Args().Slice())
				if err != nil {
					return err
				}
				if c.Bool("dry-run") {
					return rewrapDryRun(ctx, s, k, refs)
				}
				results := k.Rewrap(ctx, refs, reason)
				if c.Bool("damaged") {
					results = k.RewrapDamaged(ctx, refs, reason, c.Args().Present())
				}
				t, err := tally.Run(results, len(refs), "rewrap", nil)
				if t.Done > 0 && len(k.FormerMembers()) > 0 {
					message.Note("who was a member before has had the same keys; hsmkeys rotate --former makes new versions where that is so")
				}
				return errors.Join(t.Print(s, "rewrapped", "up to date", ""), err)
			})
		}),
	}
}

// versionsToRewrap returns every version of the keys that are named, or of all, but what was destroyed.
func versionsToRewrap(ctx context.Context, k *hsmkeys.Keyring, args []string) ([]hsmkeys.Ref, error) {
	all, err := choose(ctx, k, args, func(s hsmkeys.Selected) bool { return !s.Destroyed })
	if err != nil || len(args) > 0 && len(all.refs) == 0 {
		noKeyChosen(all)
		return nil, err
	}
	if len(args) == 0 {
		return k.Versions(ctx)
	}
	return k.Versions(ctx, all.names()...)
}

// rewrapAll wraps every version of all keys to the current members.
func rewrapAll(ctx context.Context, k *hsmkeys.Keyring) (tally.Tally, error) {
	refs, err := k.Versions(ctx)
	if err != nil {
		return tally.Tally{Failed: []tally.Failed{}}, err
	}
	return tally.Run(k.Rewrap(ctx, refs, ""), len(refs), "rewrap", nil)
}

// rewrapDryRun prints the versions that are not up to date.
func rewrapDryRun(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, refs []hsmkeys.Ref) error {
	var all chosen
	for _, ref := range refs {
		e, outdated, err := k.Outdated(ctx, ref)
		if err != nil {
			return err
		}
		if outdated {
			all.add(ref, e, true)
		}
	}
	return manyChange{doing: "rewrap"}.dryRun(s, all)
}
