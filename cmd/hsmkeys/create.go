package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
)

func createCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a session key, wrapped, signed and stored", ArgsUsage: "NAME",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "algorithm", Value: "aes256", Usage: "aes128, aes192, aes256, hmac-sha256, hmac-sha384 or hmac-sha512"},
			&cli.StringFlag{Name: "purpose", Usage: "wrap, for files; encrypt or mac, for other applications (hsmkeys load)", DefaultText: "wrap, or mac for hmac"},
		},
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			algorithm, err := blob.ParseAlgorithm(c.String("algorithm"))
			if err != nil {
				return usage("--algorithm: %v", err)
			}
			var purpose blob.Purpose
			if c.IsSet("purpose") {
				if purpose, err = blob.ParsePurpose(c.String("purpose")); err != nil {
					return usage("--purpose: %v", err)
				}
				if (purpose == blob.Authenticate) != algorithm.IsHMAC() {
					return usage("a key for %s cannot have the purpose %q", algorithm, purpose)
				}
			}
			return withKeyring(c, func(k *hsmkeys.Keyring) error {
				e, err := k.Create(c.Context, name, algorithm, purpose)
				if err != nil {
					return err
				}
				noteAlone(k)
				return printMade(c, e)
			})
		},
	}
}

// noteAlone says what it means that there is no backup authority.
func noteAlone(k *hsmkeys.Keyring) {
	owners := 0
	for _, m := range k.Members() {
		if m.Role == blob.BackupAuthority {
			return
		}
		owners++
	}
	if owners == 1 {
		note("there is no backup authority: when this token is lost, the key and all data under it are lost (hsmkeys authority add)")
	} else {
		note("there is no backup authority: only the tokens of the %d owners open the key (hsmkeys authority add)", owners)
	}
}

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "make a new version of a session key", ArgsUsage: "NAME",
		Action: func(c *cli.Context) error {
			name, err := nameArgument(c)
			if err != nil {
				return err
			}
			return withKeyring(c, func(k *hsmkeys.Keyring) error {
				e, err := k.Rotate(c.Context, name)
				if err != nil {
					return err
				}
				noteAlone(k)
				return printMade(c, e)
			})
		},
	}
}

func printMade(c *cli.Context, e hsmkeys.Entry) error {
	if c.Bool("json") {
		return printJSON(e)
	}
	return printLine("%s created: %s, key id %s", versionOf(e), e.Algorithm, e.KeyID)
}
