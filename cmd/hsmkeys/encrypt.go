package main

import (
	"errors"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`", DefaultText: "stdout"}
}

func encryptCommand() *cli.Command {
	return &cli.Command{
		Name: "encrypt", Usage: "encrypt a file under a session key", ArgsUsage: "[IN]",
		Description: "The result is an age file. - or nothing is stdin or stdout.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Aliases: []string{"k"}, Usage: "`NAME[@VERSION]` of the session key; several may be given, each opens the file", Required: false},
			outputFlag(),
		},
		Action: func(c *cli.Context) error {
			var refs []hsmkeys.Ref
			for _, name := range c.StringSlice("key") {
				ref, err := hsmkeys.ParseRef(name)
				if err != nil {
					return err
				}
				refs = append(refs, ref)
			}
			if len(refs) == 0 {
				return usage("encrypt needs --key NAME")
			}
			if toTerminal(c) {
				return usage("an encrypted file is binary; it does not go to a terminal, use -o FILE")
			}
			return filter(c, func(k *hsmkeys.Keyring, out io.Writer, in io.Reader) error {
				w, err := k.Encrypt(c.Context, out, refs)
				if err != nil {
					return err
				}
				if err := copyAll(c.Context, w, in); err != nil {
					return err // without Close the file stays recognisably unfinished
				}
				return w.Close()
			})
		},
	}
}

func decryptCommand() *cli.Command {
	return &cli.Command{
		Name: "decrypt", Usage: "decrypt a file", ArgsUsage: "[IN]",
		Description: "The file names its key. A FILE of -o appears when all of the input has proved authentic;\n" +
			"to stdout goes what is authentic so far, and a failure after that is in the exit status.",
		Flags: []cli.Flag{outputFlag()},
		Action: func(c *cli.Context) error {
			return filter(c, func(k *hsmkeys.Keyring, out io.Writer, in io.Reader) error {
				plain, err := k.Decrypt(c.Context, in)
				if err != nil {
					return err
				}
				return copyAll(c.Context, out, plain)
			})
		},
	}
}

// filter joins input, keyring and output.
func filter(c *cli.Context, f func(*hsmkeys.Keyring, io.Writer, io.Reader) error) error {
	if c.NArg() > 1 {
		return usage("%s takes one file, not %d", c.Command.Name, c.NArg())
	}
	in, err := openInput(c.Args().First())
	if err != nil {
		return err
	}
	return errors.Join(withKeyring(c, func(k *hsmkeys.Keyring) error {
		shown, done := progress(in, inputSize(in))
		defer done()
		return writeOutput(c.Context, c.String("output"), func(out io.Writer) error { return f(k, out, shown) })
	}), in.Close())
}

func toTerminal(c *cli.Context) bool {
	out := c.String("output")
	return (out == "" || out == "-") && isTerminal(os.Stdout)
}
