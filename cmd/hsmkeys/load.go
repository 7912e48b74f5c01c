package main

import (
	"os"

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

func revealCommand() *cli.Command {
	return &cli.Command{
		Name: "reveal", Usage: "print the raw value of a session key", ArgsUsage: "NAME[@VERSION]",
		Description: "For a program that must have the key itself, through a pipe. After this the key is only as\nsafe as whoever has read it. The salt of a legacy key is not in it; hsmkeys show tells it.",
		Flags:       []cli.Flag{&cli.BoolFlag{Name: "force", Usage: "print it even to a terminal"}},
		Action: func(c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			if isTerminal(os.Stdout) && !c.Bool("force") {
				return usage("a raw key does not go to a terminal; pipe it into the program that needs it, or use --force")
			}
			return withKeyring(c, func(k *hsmkeys.Keyring) error {
				key, err := k.Reveal(c.Context, ref)
				if err != nil {
					return err
				}
				defer clear(key)
				_, err = os.Stdout.Write(key)
				return err
			})
		},
	}
}
