package main

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/token"
)

func certificateCommand() *cli.Command {
	return &cli.Command{
		Name: "certificate", Usage: "print the key exchange certificate in PEM",
		Flags: []cli.Flag{&cli.BoolFlag{Name: "signing", Usage: "print the certificate of the pair that --signing-key names"}},
		Action: func(c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if c.Bool("signing") && c.String("signing-key") == "" {
				return usage("certificate --signing needs --signing-key")
			}
			return withPair(c, func(t *token.Token, pair *token.KeyPair) error {
				if c.Bool("signing") {
					pair = pair.Signing()
				}
				certificate, err := certificateOn(c.Context, pair)
				if err != nil {
					return err
				}
				if certificate == nil {
					return notFound("token %q has no certificate for the pair %q; hsmkeys init makes one", t.Info().Label, pair.Label())
				}
				return pem.Encode(os.Stdout, &pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})
			})
		},
	}
}

// certificateOn gives the pair's certificate from its token, its own or one that
// somebody has issued for it.
func certificateOn(ctx context.Context, pair *token.KeyPair) (*x509.Certificate, error) {
	if own, err := pair.Certificate(ctx); err != nil || own != nil {
		return own, err
	}
	return pair.IssuedCertificate(ctx)
}
