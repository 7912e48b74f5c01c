package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/ageplugin"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func ageCommand() *cli.Command {
	return &cli.Command{
		Name: "age", Usage: "recipients and identities for age, and for what is built on it",
		Description: "age finds this program as its plugin under the name age-plugin-hsmkeys, a link to it on the path.",
		Subcommands: []*cli.Command{ageRecipientCommand(), ageIdentityCommand()},
	}
}

func ageRecipientCommand() *cli.Command {
	return &cli.Command{
		Name: "recipient", Usage: "print what age -r takes, to encrypt under a key or to the key exchange pair", ArgsUsage: "[NAME]",
		Description: "To a key of the keyring, age encrypts with the token: the recipient only names the key, and module,\n" +
			"token, store and PIN come from the environment and the configuration file, in absolute paths.\n" +
			"With --pair it is the public key alone: to encrypt to it takes no token and no keyring. For a P-256\n" +
			"pair age needs no plugin either; for an RSA pair it needs this one. For P-384 and P-521 there is none.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "pair", Usage: "of the key exchange pair itself"},
			certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.Bool("pair") {
				if err := noArgument(c); err != nil {
					return err
				}
				if c.IsSet("certificate") {
					return failure.Usage("age recipient --pair takes the public key from the token, not from a certificate")
				}
				return session.WithPair(ctx, s, func(_ session.Token, pair session.Pair) error {
					r, err := hsmkeys.NewPairRecipient(pair.Public())
					if err != nil {
						return err
					}
					return printRecipient(s, r.String())
				})
			}
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				r, err := keyRecipient(ctx, k, name)
				if err != nil {
					return err
				}
				return printRecipient(s, r)
			})
		}),
	}
}

func printRecipient(s *settings.Settings, r string) error {
	if s.JSON {
		return output.JSON(map[string]string{"recipient": r})
	}
	return output.Line("%s", r)
}

// keyRecipient returns the recipient for a key that exists and can encrypt files.
func keyRecipient(ctx context.Context, k *hsmkeys.Keyring, name string) (string, error) {
	e, err := k.Show(ctx, hsmkeys.Ref{Name: name})
	if err != nil {
		return "", err
	}
	if err := e.WrapsKeys(); err != nil {
		return "", err
	}
	return hsmkeys.KeyRecipient{Keyring: k.ID(), Name: name}.String(), nil
}

func ageIdentityCommand() *cli.Command {
	return &cli.Command{
		Name: "identity", Usage: "print what age -i takes, in a file, to decrypt with the token", ArgsUsage: "[NAME]",
		Description: "It contains module, token and store, and no secret. With NAME it opens what is under this key, without\n" +
			"NAME what is under any key of the keyring, and what is to the key exchange pair.\n" +
			"It names a library that is loaded: accept one only from people who may run programs as you.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() > 1 {
				return failure.Usage("age identity takes at most one argument, the NAME of a key")
			}
			sel, _, err := s.Selector()
			clear(sel.PINValue)
			if err != nil {
				return err
			}
			if sel.PINSource != "" || sel.PINValue != nil {
				return failure.Usage("the token's URI says what the PIN is or where it comes from, and an identity holds neither; use --pin-source")
			}
			if c.NArg() == 0 {
				return session.WithPair(ctx, s, func(t session.Token, pair session.Pair) error { return printPairIdentity(ctx, s, t, pair) })
			}
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return session.WithStorePair(ctx, s, func(t session.Token, pair session.Pair, store place.Store) error {
				return printKeyIdentity(ctx, s, t, pair, store, name)
			})
		}),
	}
}

func printPairIdentity(ctx context.Context, s *settings.Settings, t session.Token, pair session.Pair) error {
	tag, err := hsmkeys.PairTagOf(pair.Public())
	if err != nil {
		return err
	}
	i, err := identityOf(s, t)
	if err != nil {
		return err
	}
	i.Pair = tag
	r := ""
	if len(tag) > 0 {
		to, err := hsmkeys.NewPairRecipient(pair.Public())
		if err != nil {
			return err
		}
		r = to.String()
	}
	return printIdentity(ctx, s, i, "every key, and the pair", r)
}

func printKeyIdentity(ctx context.Context, s *settings.Settings, t session.Token, pair session.Pair, store place.Store, name string) error {
	i, err := identityOf(s, t)
	if err != nil {
		return err
	}
	i.Key = name
	k, err := session.OpenKeyring(ctx, s, pair, store)
	if err != nil {
		return err
	}
	r, err := keyRecipient(ctx, k, name)
	if err != nil {
		return err
	}
	return printIdentity(ctx, s, i, "key "+name, r)
}

// identityOf returns an identity with the current token and store. Paths are absolute, since age
// runs plugins in another directory.
func identityOf(s *settings.Settings, t session.Token) (ageplugin.Identity, error) {
	i := ageplugin.Identity{Module: t.Info().Module, Token: s.Token}
	if i.Token == "" {
		i.Token = t.Info().Label
	}
	var err error
	if !filepath.IsAbs(i.Module) { // a bare name, which the dynamic loader looks up
		return i, failure.Usage("an identity names its module by an absolute path; use --module /path/to/%s", i.Module)
	}
	path, err := s.NamedStore()
	if err != nil {
		return i, err
	}
	i.Store, err = place.Absolute(path)
	return i, err
}

// printIdentity prints a file for age -i.
func printIdentity(ctx context.Context, s *settings.Settings, i ageplugin.Identity, opens, recipient string) error {
	line, err := i.Encode()
	if err != nil {
		return err
	}
	if s.JSON {
		document := map[string]string{"identity": line}
		if recipient != "" {
			document["recipient"] = recipient
		}
		return output.JSON(document)
	}
	var out bytes.Buffer
	fmt.Fprintf(&out, "# hsmkeys: opens %s; token %s, store %s\n", opens, text.Printable(i.Token), text.Printable(i.Store))
	if recipient != "" {
		fmt.Fprintf(&out, "# recipient: %s\n", recipient)
	}
	fmt.Fprintln(&out, line)
	return datafile.Write(ctx, "", func(w io.Writer) error {
		_, err := w.Write(out.Bytes())
		return err
	})
}
