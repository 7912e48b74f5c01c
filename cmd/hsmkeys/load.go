package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
)

func loadCommand() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "put a session key onto the token for other applications", ArgsUsage: "NAME[@VERSION]",
		Description: "The key becomes a token object, sensitive and not extractable, that may do what its purpose says.\n" +
			"After rotate, load --replace puts the new version in the place of the old one, for an application\n" +
			"that knows it by its label.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "label", Usage: "`LABEL` of the object"},
			&cli.BoolFlag{Name: "replace", Usage: "delete other versions of the same key that have the label, once this one is there"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			label := c.String("label")
			if label == "" {
				return failure.Usage("load needs --label LABEL")
			}
			if err := validLabel(c); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				load := k.Load
				if c.Bool("replace") {
					load = k.LoadInPlace
				}
				e, err := load(ctx, ref, label)
				if err != nil {
					return err
				}
				if s.JSON {
					return output.JSON(e)
				}
				return output.Line("%s loaded as %s, id %s", versionOf(e), text.Printable(label), e.KeyID)
			})
		}),
	}
}

func unloadCommand() *cli.Command {
	return &cli.Command{
		Name: "unload", Usage: "delete from the token what load has put there", ArgsUsage: "[NAME[@VERSION]]",
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

// printUnloaded tells what is gone, also where something failed after that.
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

// listLoaded shows the secret keys on the token.
func listLoaded(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring) error {
	all, err := k.Loaded(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		if all == nil {
			all = []hsmkeys.LoadedKey{}
		}
		return output.JSON(all)
	}
	rows := [][]string{{"LABEL", "KEY", "NEWEST", "ID"}}
	for _, l := range all {
		row := []string{text.Printable(l.Label), "(not of this keyring)", "-", l.KeyID}
		if l.Name != "" {
			row[1], row[2] = hsmkeys.Ref{Name: l.Name, Version: l.Version}.String(), fmt.Sprint(l.Newest)
		}
		if l.Public {
			row[1] += " (public)"
		}
		rows = append(rows, row)
	}
	if err := output.Table(rows); err != nil {
		return err
	}
	for _, l := range all {
		if l.Public && l.Name != "" {
			message.Warn(fmt.Errorf("the object %q has the id of key %s, and anybody can use it without the PIN, and can have made it; hsmkeys unload %s removes it",
				l.Label, hsmkeys.Ref{Name: l.Name, Version: l.Version}, l.Name))
		}
	}
	return nil
}
