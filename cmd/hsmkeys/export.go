package main

import (
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

func exportCommand() *cli.Command {
	return &cli.Command{
		Name: "export", Usage: "a key for other software, still wrapped", ArgsUsage: "NAME[@VERSION]",
		Description: "--cms: the key blob with its signer's certificate put in, DER, for tools that read CMS.\n" +
			"No token is needed for it with --certificate.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "cms", Usage: "the key blob itself, CMS"},
			outputFlag(), certificateFlag(),
		},
		Action: func(c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			if !c.Bool("cms") {
				return usage("export needs --cms")
			}
			if toTerminal(c) {
				return usage("a key blob is binary; it does not go to a terminal, use -o FILE")
			}
			return withReading(c, func(k *hsmkeys.Keyring) error {
				der, err := k.ExportCMS(c.Context, ref)
				if err != nil {
					return err
				}
				return writeOutput(c.Context, c.String("output"), func(out io.Writer) error {
					_, err := out.Write(der)
					return err
				})
			})
		},
	}
}
