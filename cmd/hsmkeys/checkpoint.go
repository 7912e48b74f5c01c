package main

import (
	"context"
	"encoding/hex"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func checkpointCommand() *cli.Command {
	return &cli.Command{
		Name: "checkpoint", Usage: "print the newest state of the keyring that this token has accepted, as N:DIGEST",
		Description: "The line stands for the whole state of the keyring. Give it to another member, who compares it or\n" +
			"joins with it (--checkpoint), write it to a log, or keep it where nobody can change it: a store with\n" +
			"another or an older state is then detected. It is not a secret.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "fresh", Usage: "sign a new one first, which confirms that the state is unchanged, for members that refuse an old one (--max-age)"},
			certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if c.Bool("fresh") && c.String("certificate") != "" {
				return failure.Usage("checkpoint --fresh signs with the token, and takes no --certificate")
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				// Readers trust the line, so an old state is printed only with --older-state.
				if err := k.Trusted(); err != nil && k.State().Older == nil {
					return err
				}
				if c.Bool("fresh") {
					if err := k.Renew(ctx); err != nil {
						return err
					}
				}
				return printCheckpoint(s, k)
			})
		}),
	}
}

func printCheckpoint(s *settings.Settings, k *hsmkeys.Keyring) error {
	state := k.State()
	if s.JSON {
		return output.JSON(map[string]any{
			"checkpoint": state.At.String(), "number": state.At.Number, "digest": hex.EncodeToString(state.At.Digest[:]),
			"keyring": k.ID().String(), "time": text.Time(state.Signed), "list": state.List, "signer": k.Signer(),
		})
	}
	return output.Line("%v", state.At)
}
