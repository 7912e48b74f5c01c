package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
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
			s.NeedsAllowed = "load"
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
				return output.Line("%s loaded as %s, id %s", show.Version(e), text.Printable(label), e.KeyID)
			})
		}),
	}
}

// listLoaded prints the secret keys on the token.
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
		if l.Destroyed {
			row[1] += " (destroyed)"
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
