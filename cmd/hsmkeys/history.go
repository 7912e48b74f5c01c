package main

import (
	"context"
	"errors"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func historyCommand() *cli.Command {
	return &cli.Command{
		Name: "history", Usage: "list every version and revision of a key, verified", ArgsUsage: "NAME",
		Flags: []cli.Flag{certificateFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				entries, err := k.History(ctx, name)
				if len(entries) == 0 {
					return err
				}
				if s.JSON {
					return errors.Join(err, output.JSON(entries))
				}
				rows := [][]string{{"VERSION", "REVISION", "STATE", "SIGNED", "SIGNER", "KEY ID", "WHY"}}
				for _, e := range entries {
					signed := text.Time(e.Signed)
					if e.Signed.IsZero() {
						signed = "-" // its blob is gone
					}
					rows = append(rows, []string{strconv.Itoa(e.Version), strconv.Itoa(e.Revision), e.Status, signed, text.Printable(e.Signer.Label), e.KeyID, text.Printable(e.Why)})
				}
				return errors.Join(err, output.Table(rows))
			})
		}),
	}
}
