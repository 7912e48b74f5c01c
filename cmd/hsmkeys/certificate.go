package main

import (
	"context"
	"crypto/rsa"
	"crypto/x509"
	"encoding/pem"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func certificateCommand() *cli.Command {
	return &cli.Command{
		Name: "certificate", Usage: "print the key exchange certificate in PEM",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "signing", Usage: "print the certificate of the pair that --signing-key names"},
			&cli.BoolFlag{Name: "capi", Usage: "print the public key alone, as a PUBLICKEYBLOB for CryptoAPI"},
			outputFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if c.Bool("signing") && s.SigningKey == "" {
				return failure.Usage("certificate --signing needs --signing-key")
			}
			if c.Bool("capi") && datafile.ToTerminal(c.String("output")) {
				return failure.Usage("a PUBLICKEYBLOB is binary; it does not go to a terminal, use -o FILE")
			}
			return session.WithPair(ctx, s, func(t session.Token, pair session.Pair) error {
				if c.Bool("signing") {
					var err error
					if pair, err = t.PairNamed(ctx, "signing-key", s.SigningKey); err != nil {
						return err
					}
				}
				if c.Bool("capi") {
					return writePublicKeyBlob(ctx, c.String("output"), pair)
				}
				certificate, err := certificateOn(ctx, pair)
				if err != nil {
					return err
				}
				if certificate == nil {
					return failure.NotFound("token %q has no certificate for the pair %q; hsmkeys init makes one", t.Info().Label, pair.Label())
				}
				return datafile.Write(ctx, c.String("output"), func(out io.Writer) error {
					return pem.Encode(out, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
				})
			})
		}),
	}
}

// writePublicKeyBlob writes the pair's public key, which was taken from the private key
// object, so that a CryptoAPI peer can encrypt session keys to it.
func writePublicKeyBlob(ctx context.Context, path string, pair session.Pair) error {
	public, ok := pair.Public().(*rsa.PublicKey)
	if !ok {
		return failure.Usage("the pair %q is an EC pair; CryptoAPI's BLOBs are for RSA", pair.Label())
	}
	data, err := capi.MarshalPublicKeyBlob(public)
	if err != nil {
		return err
	}
	return datafile.WriteBytes(ctx, path, data)
}

// certificateOn returns the pair's certificate on its token: its own, or else one that was issued for
// it, or nil.
func certificateOn(ctx context.Context, pair session.Pair) (*x509.Certificate, error) {
	if own, err := pair.Certificate(ctx); err != nil || own != nil {
		return own, err
	}
	return pair.IssuedCertificate(ctx)
}
