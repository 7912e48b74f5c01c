package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a session key, wrapped, signed and stored", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "algorithm", Value: "aes256", Usage: "aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512"},
			&cli.BoolFlag{Name: "from-password", Usage: "make the key from a password: nothing secret is stored, and no backup authority can help"},
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
				noteAlone(k)
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

// noteAlone says what it means that there is no backup authority.
func noteAlone(k *hsmkeys.Keyring) {
	if lost := alone(k.Members()); lost != "" {
		message.Note("%s (hsmkeys authority add)", lost)
	}
}

// alone returns what it means for members that none of them is a backup authority, or
// nothing where one is.
func alone(members []blob.Member) string {
	owners := 0
	for _, m := range members {
		if m.Role == blob.BackupAuthority {
			return ""
		}
		owners++
	}
	if owners == 1 {
		return "there is no backup authority: when this token is lost, the key and all data under it are lost"
	}
	return fmt.Sprintf("there is no backup authority: only the tokens of the %d owners open the key", owners)
}

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
					noteAlone(k)
				}
				return printMade(s, k, e)
			})
		}),
	}
}

func rotateAllFormer(ctx context.Context, s *settings.Settings, names []string) error {
	return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
		t, err := rotateFormer(ctx, k, names...)
		return errors.Join(t.print(s, "rotated", "not needed"), err)
	})
}

func rotateFormer(ctx context.Context, k *hsmkeys.Keyring, names ...string) (tally, error) {
	results, total, err := k.RotateFormer(ctx, names...)
	if err != nil {
		return tally{Failed: []failedKey{}}, err
	}
	return runMany(results, total, "rotate")
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

func printMade(s *settings.Settings, k *hsmkeys.Keyring, e hsmkeys.Entry) error {
	until := labels(k.Unproven(e))
	if s.JSON {
		return output.JSON(made{e, until})
	}
	return output.Line("%s created: %s, key id %s%s", versionOf(e), e.Algorithm, e.KeyID, notProven(until))
}

// made is a new key.
type made struct {
	hsmkeys.Entry
	Until []string `json:"not_proven_until,omitempty"` // their tokens have opened it
}
