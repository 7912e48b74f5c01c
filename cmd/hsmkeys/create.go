package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/show"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a session key, wrapped, signed and stored", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "algorithm", Value: "aes256", Usage: "aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512"},
			&cli.BoolFlag{Name: "from-password", Usage: "derive the key from a password: nothing secret is stored, and no backup authority can help"},
			&cli.StringFlag{Name: "kdf", Value: "scrypt", Usage: "with --from-password: scrypt or pbkdf2"},
			&cli.StringFlag{Name: "purpose", Usage: "wrap, for files; encrypt or mac, for other applications (hsmkeys load)", DefaultText: "wrap, or mac for hmac"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			name, err := newNameArgument(c)
			if err != nil {
				return err
			}
			algorithm, err := keyspec.ParseAlgorithm(c.String("algorithm"))
			if err != nil {
				return failure.Usage("--algorithm: %v", err)
			}
			var purpose keyspec.Purpose
			if c.IsSet("purpose") {
				if purpose, err = keyspec.ParsePurpose(c.String("purpose")); err != nil {
					return failure.Usage("--purpose: %v", err)
				}
				if (purpose == keyspec.Authenticate) != algorithm.IsHMAC() {
					return failure.Usage("a key for %s cannot have the purpose %q", algorithm, purpose)
				}
			}
			kdf, err := blob.ParseKDF(c.String("kdf"))
			if err != nil {
				return failure.Usage("--kdf: %v", err)
			}
			if c.IsSet("kdf") && !c.Bool("from-password") {
				return failure.Usage("--kdf goes with --from-password")
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				if c.Bool("from-password") {
					return createFromPassword(ctx, s, k, name, algorithm, purpose, kdf)
				}
				e, err := k.Create(ctx, name, algorithm, purpose)
				if err != nil {
					return err
				}
				show.NoteAlone(k)
				return printMade(s, k, e)
			})
		}),
	}
}

func createFromPassword(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, algorithm keyspec.Algorithm, purpose keyspec.Purpose, kdf blob.KDF) error {
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: name}); err == nil { // before somebody thinks of a password for nothing
		_, err := k.CreateFromPassword(ctx, name, algorithm, purpose, kdf, nil) // it says so, and what to do
		return err
	}
	password, err := session.NewPassword(ctx, s, name)
	if err != nil {
		return err
	}
	defer clear(password)
	e, err := k.CreateFromPassword(ctx, name, algorithm, purpose, kdf, password)
	if err != nil {
		return err
	}
	notePassword()
	return printMade(s, k, e)
}

// notePassword says what it means that nothing is stored.
func notePassword() {
	message.Note("the key is in the password alone: no backup authority has it, and whoever has the store can try passwords")
}

func printMade(s *settings.Settings, k *hsmkeys.Keyring, e hsmkeys.Entry) error {
	until := show.Labels(k.Unproven(e))
	if s.JSON {
		return output.JSON(made{e, until})
	}
	return output.Line("%s created: %s, key id %s%s", show.Version(e), e.Algorithm, e.KeyID, show.NotProven(until))
}

// made is a new key.
type made struct {
	hsmkeys.Entry
	Until []string `json:"not_proven_until,omitempty"` // their tokens have opened it
}
