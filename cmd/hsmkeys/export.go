package main

import (
	"context"
	"crypto/rsa"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "export a key for other software, still wrapped", ArgsUsage: "NAME[@VERSION]",
		Description: "--cms: the key blob with its signer's certificate put in, DER, for tools that read CMS.\n" +
			"No token is needed for it with --certificate.\n" +
			"--capi: a SIMPLEBLOB for a CryptoAPI peer, wrapped in the token. Nothing signs it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "cms", Usage: "the key blob itself, CMS"},
			&cli.BoolFlag{Name: "capi", Usage: "a SIMPLEBLOB, with --to"},
			&cli.StringFlag{Name: "to", Usage: "the peer's certificate or PUBLICKEYBLOB in this `FILE`, RSA"},
			&cli.BoolFlag{Name: "oaep", Usage: "encrypt the SIMPLEBLOB with OAEP (CRYPT_OAEP), not PKCS #1 v1.5"},
			outputFlag(), certificateFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			switch {
			case c.Bool("cms") == c.Bool("capi"):
				return failure.Usage("export needs one of --cms and --capi")
			case c.Bool("capi") && c.String("to") == "":
				return failure.Usage("export --capi needs --to FILE, the peer's certificate or PUBLICKEYBLOB")
			case c.Bool("cms") && c.String("to") != "", c.Bool("oaep") && c.Bool("cms"):
				return failure.Usage("--to and --oaep go with --capi")
			case c.Bool("capi") && c.String("certificate") != "":
				return failure.Usage("--capi needs the token, and --certificate goes without")
			}
			if datafile.ToTerminal(c.String("output")) {
				return failure.Usage("a key blob is binary; it does not go to a terminal, use -o FILE")
			}
			if c.Bool("capi") {
				return exportSimple(ctx, s, ref, simpleExport{c.String("to"), c.Bool("oaep"), c.String("output")})
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error {
				der, err := k.ExportCMS(ctx, ref)
				if err != nil {
					return err
				}
				return datafile.WriteBytes(ctx, c.String("output"), der)
			})
		}),
	}
}

type simpleExport struct {
	to   string // file of the peer's key
	oaep bool
	out  string
}

func exportSimple(ctx context.Context, s *settings.Settings, ref hsmkeys.Ref, o simpleExport) error {
	to, err := readPeer(o.to)
	if err != nil {
		return err
	}
	how := keyspec.RSAESPKCS1v15
	if o.oaep {
		how = keyspec.RSAESOAEPSHA1
	}
	s.NeedsAllowed = "export"
	return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
		data, err := k.ExportSimple(ctx, ref, to, how)
		if err != nil {
			return err
		}
		message.Note("a SIMPLEBLOB is not signed: anybody on its way can replace it; and the peer has the key from now on")
		return datafile.WriteBytes(ctx, o.out, data)
	})
}

// readPeer reads an RSA public key from a PUBLICKEYBLOB or a certificate.
func readPeer(path string) (*rsa.PublicKey, error) {
	data, err := keyfile.Read(path)
	if err != nil {
		return nil, err
	}
	if key, err := capi.ParsePublicKeyBlob(data); err == nil {
		return key, nil
	} else if len(data) > 0 && data[0] == 6 { // a certificate begins with 0x30
		return nil, failure.Usage("%q: %v", path, err)
	}
	certificate, err := keyfile.ReadCertificate(path)
	if err != nil {
		return nil, err
	}
	key, ok := certificate.PublicKey.(*rsa.PublicKey)
	if !ok {
		return nil, failure.Usage("%q is the certificate of another key, %s, and CryptoAPI's BLOBs are for RSA", path, show.KeyType(certificate))
	}
	return key, nil
}
