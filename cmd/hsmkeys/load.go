package main

import (
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

func loadCommand() *cli.Command {
	return &cli.Command{
		Name: "load", Usage: "put a session key onto the token for other applications", ArgsUsage: "NAME[@VERSION]",
		Description: "The key becomes a token object, sensitive and not extractable, that may do what its purpose says.",
		Flags:       []cli.Flag{&cli.StringFlag{Name: "label", Usage: "`LABEL` of the object"}},
		Action: func(c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			label := c.String("label")
			if label == "" {
				return usage("load needs --label LABEL")
			}
			if err := validLabel(c); err != nil {
				return err
			}
			return withKeyring(c, func(k *hsmkeys.Keyring) error {
				e, err := k.Load(c.Context, ref, label)
				if err != nil {
					return err
				}
				if c.Bool("json") {
					return printJSON(e)
				}
				return printLine("%s loaded as %s, id %s", versionOf(e), printable(label), e.KeyID)
			})
		},
	}
}
