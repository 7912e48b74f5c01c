package main

import (
	"encoding/pem"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/token"
)

func certificateCommand() *cli.Command {
	return &cli.Command{
		Name: "certificate", Usage: "print the key exchange certificate in PEM",
		Action: func(c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return withPair(c, func(t *token.Token, pair *token.KeyPair) error {
				certificate, err := pair.Certificate(c.Context)
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
