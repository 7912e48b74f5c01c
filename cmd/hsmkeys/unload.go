package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name: "unload", Usage: "delete keys from the token that load has put there", ArgsUsage: "[NAME[@VERSION]]",
		Description: "Takes a key, of which every version goes where none is named, or --label. Only keys of the keyring\n" +
			"are deleted, which are known by their ids; in the keyring they stay, and can be loaded again.",
		Flags: []cli.Flag{&cli.StringFlag{Name: "label", Usage: "`LABEL` of the object"}},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			label := c.String("label")
			if (c.NArg() == 1) == (label != "") || c.NArg() > 1 {
				return failure.Usage("unload takes NAME, NAME@VERSION or --label LABEL")
			}
			var ref hsmkeys.Ref
			if label == "" {
				var err error
				if ref, err = keyArgument(c); err != nil {
					return err
				}
			}
			s.NeedsAllowed = "load"
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				gone, err := k.Unload(ctx, func(l hsmkeys.LoadedKey) bool {
					if label != "" {
						return l.Label == label
					}
					return l.Name == ref.Name && (ref.Version == 0 || l.Version == ref.Version)
				})
				if len(gone) == 0 && err == nil {
					what := fmt.Sprintf("key %q of the keyring is not loaded", ref)
					if label != "" {
						what = fmt.Sprintf("no key of the keyring is loaded as %q", label)
					}
					return failure.NotFound("%s (hsmkeys list --loaded)", what)
				}
				return errors.Join(err, printUnloaded(s, gone))
			})
		}),
	}
}

// printUnloaded prints what was deleted, also if something failed after that.
func printUnloaded(s *settings.Settings, gone []hsmkeys.LoadedKey) error {
	if s.JSON {
		if gone == nil {
			gone = []hsmkeys.LoadedKey{}
		}
		return output.JSON(gone)
	}
	for _, l := range gone {
		if err := output.Line("%s unloaded, was %s", hsmkeys.Ref{Name: l.Name, Version: l.Version}, text.Printable(l.Label)); err != nil {
			return err
		}
	}
	return nil
}
