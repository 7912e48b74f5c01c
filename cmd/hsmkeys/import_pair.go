package main

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/audit"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token"
)

func importPairCommand() *cli.Command {
	return &cli.Command{
		Name: "import-pair", Usage: "import a pair from a file onto the token", ArgsUsage: "FILE",
		Description: "FILE is PKCS #8 (PEM or DER, encrypted or not), PKCS #1, SEC 1, PKCS #12 or a PRIVATEKEYBLOB of CryptoAPI, with an RSA\n" +
			"or EC key. PEM may have certificates beside the key. The password of a file is asked for, or comes from\n" +
			"--password-source; a file with an empty password needs none.\n" +
			"A key that has been in a file is less secure than one made on the token.\n" +
			"With --legacy it is an RSA key with 512 to 2047 bits, as they were usual once: hsmkeys import --pair opens\n" +
			"SIMPLEBLOBs with it, and nothing else does anything with it.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "label", Usage: "`LABEL` of the pair", DefaultText: session.DefaultLabel + ", or legacy with --legacy"},
			&cli.BoolFlag{Name: "legacy", Usage: "import RSA with 512 to 2047 bits, to open SIMPLEBLOBs and for nothing else"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			path, err := oneArgument(c, "the FILE of the pair")
			if err != nil {
				return err
			}
			if err := validLabel(c); err != nil {
				return err
			}
			data, err := keyfile.Read(path)
			if err != nil {
				return err
			}
			defer clear(data)
			key, err := keyfile.Parse(ctx, path, data, func() ([]byte, error) {
				return s.ReadPassword(ctx, fmt.Sprintf("password of %q", path), secret.Ask)
			})
			if err != nil {
				return err
			}
			return session.WithToken(ctx, s, func(t *token.Token, _ token.Selector) error {
				var pair *token.KeyPair
				err := session.Changing(ctx, s, hsmkeys.Use{Operation: audit.OpImportPair, To: c.String("label")}, func(ctx context.Context) (err error) {
					pair, err = importPair(ctx, t, key, c.String("label"), c.Bool("legacy"))
					return err
				})
				if err != nil {
					return err
				}
				return printImported(s, pair)
			})
		}),
	}
}

func importPair(ctx context.Context, t *token.Token, key crypto.Signer, label string, legacy bool) (*token.KeyPair, error) {
	if legacy {
		if label == "" {
			label = "legacy"
		}
		return t.ImportLegacyPair(ctx, label, key)
	}
	if label == "" {
		label = session.DefaultLabel
	}
	return t.ImportPair(ctx, label, key)
}

func printImported(s *settings.Settings, pair *token.KeyPair) error {
	if pair.Legacy() {
		message.Note("with a copy of the file anybody can open what the token opens, and RSA keys this short can be broken: destroy all copies, and import the keys that are to be kept")
	} else {
		message.Note("this key has been in a file, so it is less secure than one made on the token: with a copy anybody can unwrap and sign like the token. Destroy all copies")
	}
	id, label := hex.EncodeToString(pair.ID()), text.Printable(pair.Label())
	switch {
	case s.JSON:
		return output.JSON(struct {
			Label  string `json:"label"`
			ID     string `json:"id"`
			Legacy bool   `json:"legacy"`
		}{pair.Label(), id, pair.Legacy()})
	case pair.Legacy():
		return output.Line("legacy pair %s imported, id %s; hsmkeys import NAME --capi FILE --pair %s opens a SIMPLEBLOB with it", label, id, label)
	default:
		return output.Line("pair %s imported, id %s; hsmkeys init --adopt %s founds a keyring with it", label, id, label)
	}
}
