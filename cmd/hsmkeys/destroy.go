package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func destroyCommand() *cli.Command {
	destroy := statusChange{
		name: "destroy", done: "destroyed", passedOver: "destroyed already", reason: true,
		means: func(s hsmkeys.Selected) bool { return !s.Destroyed }, set: (*hsmkeys.Keyring).Destroy,
	}
	return &cli.Command{
		Name: "destroy", Usage: "destroy keys: their blobs are deleted, and what is encrypted under them is lost", ArgsUsage: "NAME[@VERSION]…",
		Description: "Takes NAME, for all versions of a key, NAME@VERSION, or PREFIX/ for all keys below it. It cannot be undone.\n" +
			"Who destroyed a key, when and why stays in the state of the keyring, and the name is taken; create\n" +
			"--reuse-name makes a new key of that name. Copies of the store, such as backups, still have the blobs, and\n" +
			"keep them: delete these copies as well. If it is interrupted, or a blob cannot be deleted, run it again.",
		Flags: append(manyFlags(), yesFlag()),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			reason, err := destroy.check(c)
			if err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes") || c.Bool("dry-run")); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				all, err := choose(ctx, k, c.Args().Slice(), destroy.means)
				if err != nil {
					return err
				}
				m := destroy.change(k, all, reason)
				if c.Bool("dry-run") {
					return m.dryRun(s, all)
				}
				noKeyChosen(all)
				if len(all.refs) > 0 {
					if err := confirm.Ask(ctx, c.Bool("yes"), destroyRows(all, reason), fmt.Sprintf("Destroy %s, and lose what is encrypted under them?", text.Plural(len(all.refs), "key", "keys"))); err != nil {
						return err
					}
				}
				err = m.run(ctx, s, all)
				if len(all.refs) > 0 {
					message.Note("backups and other copies of the store still have the blobs, which the holders' tokens open: delete them too")
					noteLoaded(ctx, k, all)
				}
				return err
			})
		}),
	}
}

// destroyRows returns what a person is asked about.
func destroyRows(all chosen, reason string) [][]string {
	rows := [][]string{{"destroy", text.Printable(reason)}}
	for i, ref := range all.refs {
		if i == maxShown {
			rows = append(rows, []string{"", fmt.Sprintf("and %d more (hsmkeys destroy --dry-run lists them)", len(all.refs)-i)})
			break
		}
		what := ref.String()
		if ref.Version == 0 {
			what += ", all versions"
		}
		if e := all.entries[i]; e.Description != "" {
			what += ": " + text.Printable(e.Description)
		}
		rows = append(rows, []string{"  key", what})
	}
	return rows
}

const maxShown = 20 // keys in a question

// noteLoaded names the objects on this token that are keys which were destroyed.
func noteLoaded(ctx context.Context, k *hsmkeys.Keyring, all chosen) {
	loaded, err := k.Loaded(ctx)
	if err != nil {
		if !errors.Is(err, errors.ErrUnsupported) {
			message.Warn(fmt.Errorf("whether this token has a destroyed key as an object is not known: %w", err))
		}
		return
	}
	for _, l := range loaded {
		if l.Destroyed {
			message.Warn(fmt.Errorf("this token still has %s as the object %q, for other applications; hsmkeys unload %s deletes it", hsmkeys.Ref{Name: l.Name, Version: l.Version}, l.Label, l.Name))
		}
	}
}
