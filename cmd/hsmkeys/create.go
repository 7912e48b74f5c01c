package main

import (
	"context"
	"iter"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make session keys, wrapped, signed and stored", ArgsUsage: "NAME…",
		Flags: append(append([]cli.Flag{
			&cli.StringFlag{Name: "algorithm", Value: "aes256", Usage: "aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512"},
			&cli.BoolFlag{Name: "from-password", Usage: "derive the key from a password: nothing secret is stored, and no backup authority can help"},
			&cli.StringFlag{Name: "kdf", Value: "scrypt", Usage: "with --from-password: scrypt or pbkdf2"},
			&cli.StringFlag{Name: "purpose", Usage: "wrap, for files; encrypt or mac, for other applications (hsmkeys load)", DefaultText: "wrap, or mac for hmac"},
			&cli.StringFlag{Name: "description", Usage: "what the key is for, in a few `WORDS`"},
		}, detailFlags()...),
			&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; hsmkeys log shows it"},
			&cli.BoolFlag{Name: "reuse-name", Usage: "make the next version of a name whose key was destroyed"},
		),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			names, err := newNames(c)
			if err != nil {
				return err
			}
			key, err := newKey(c, time.Now())
			if err != nil {
				return err
			}
			kdf, err := blob.ParseKDF(c.String("kdf"))
			if err != nil {
				return failure.Usage("--kdf: %v", err)
			}
			if c.IsSet("kdf") && !c.Bool("from-password") {
				return failure.Usage("--kdf goes with --from-password")
			}
			if c.Bool("from-password") && len(names) > 1 {
				return failure.Usage("--from-password makes one key, not %d", len(names))
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				switch {
				case c.Bool("from-password"):
					return createFromPassword(ctx, s, k, names[0], key, kdf)
				case len(names) == 1:
					return createOne(ctx, s, k, names[0], key)
				}
				return createMany(ctx, s, k, names, key)
			})
		}),
	}
}

// newNames returns the arguments, which are names for keys that do not exist yet.
func newNames(c *cli.Context) ([]string, error) {
	if c.NArg() == 0 {
		return nil, failure.Usage("create takes at least one argument, the NAME of the key")
	}
	var names []string
	for _, name := range c.Args().Slice() {
		if err := validName(c, name); err != nil {
			return nil, unquoted(c.String("description")+c.String("reason"), err)
		}
		if err := blob.ValidNewName(name); err != nil {
			return nil, err
		}
		if slices.Contains(names, name) {
			return nil, failure.Usage("%q is named twice", name)
		}
		names = append(names, name)
	}
	return names, nil
}

// newKey returns what the command line says of the key.
func newKey(c *cli.Context, now time.Time) (key hsmkeys.NewKey, err error) {
	key = hsmkeys.NewKey{Reuse: c.Bool("reuse-name")}
	if key.Algorithm, err = keyspec.ParseAlgorithm(c.String("algorithm")); err != nil {
		return key, failure.Usage("--algorithm: %v", err)
	}
	if c.IsSet("purpose") {
		if key.Purpose, err = keyspec.ParsePurpose(c.String("purpose")); err != nil {
			return key, failure.Usage("--purpose: %v", err)
		}
		if (key.Purpose == keyspec.Authenticate) != key.Algorithm.IsHMAC() {
			return key, failure.Usage("a key for %s cannot have the purpose %q", key.Algorithm, key.Purpose)
		}
	}
	key.Description = c.String("description")
	if c.IsSet("expires") {
		if key.Expires, err = parseExpiry(c.String("expires"), now); err != nil {
			return key, err
		}
	}
	if c.IsSet("rotate-every") {
		if key.RotateEvery, err = parseRotateEvery(c.String("rotate-every")); err != nil {
			return key, err
		}
	}
	if key.Reason, err = reasonOption(c, false); err != nil {
		return key, err
	}
	if err := key.Check(); err != nil {
		return key, failure.Usage("%v", err)
	}
	return key, nil
}

func createOne(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, key hsmkeys.NewKey) error {
	r, err := singleResult(k.CreateMany(ctx, []string{name}, key))
	if err != nil {
		return err
	}
	show.NoteAlone(k)
	return printMade(s, k, r.Entry)
}

func createMany(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, names []string, key hsmkeys.NewKey) error {
	show.NoteAlone(k)
	all := chosen{refs: make([]hsmkeys.Ref, len(names))}
	return manyChange{
		doing: "create", done: "created",
		do:   func(ctx context.Context) iter.Seq[hsmkeys.Result] { return k.CreateMany(ctx, names, key) },
		line: madeLine,
	}.run(ctx, s, all)
}

func createFromPassword(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, key hsmkeys.NewKey, kdf blob.KDF) error {
	if e, err := k.Show(ctx, hsmkeys.Ref{Name: name}); err == nil && (e.Status != ledger.Destroyed.String() || !key.Reuse) { // before somebody thinks up a password in vain
		_, err := k.CreateFromPassword(ctx, name, key, kdf, nil) // returns the error with its hint
		return err
	}
	password, err := session.NewPassword(ctx, s, name)
	if err != nil {
		return err
	}
	defer clear(password)
	e, err := k.CreateFromPassword(ctx, name, key, kdf, password)
	if err != nil {
		return err
	}
	notePassword()
	return printMade(s, k, e)
}

// notePassword prints what it means that nothing is stored.
func notePassword() {
	message.Note("the key depends on the password alone: no backup authority has it, and anybody with the store can try passwords")
}

func printMade(s *settings.Settings, k *hsmkeys.Keyring, e hsmkeys.Entry) error {
	until := show.Labels(k.Unproven(e))
	if s.JSON {
		return output.JSON(made{e, until})
	}
	return output.Line("%s created: %s, key id %s%s", show.Version(e), e.Algorithm, e.KeyID, show.NotProven(until))
}

// made is a new key in JSON. Its form is stable.
type made struct {
	hsmkeys.Entry
	Until []string `json:"not_proven_until,omitempty"` // holders whose tokens have not opened it yet
}
