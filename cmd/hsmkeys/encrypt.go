package main

import (
	"errors"
	"io"

	"filippo.io/age/armor"
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/terminal"
	"github.com/hsmkeys/hsmkeys/token"
)

func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`", DefaultText: "stdout"}
}

func encryptCommand() *cli.Command {
	return &cli.Command{
		Name: "encrypt", Usage: "encrypt a file under a session key", ArgsUsage: "[IN]",
		Description: "The result is an age file, binary or with --armor as text. - or nothing is stdin or stdout.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Aliases: []string{"k"}, Usage: "`NAME[@VERSION]` of the session key; several may be given, each opens the file", Required: false},
			&cli.BoolFlag{Name: "armor", Aliases: []string{"a"}, Usage: "write age's ASCII armor, which is text"},
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
				return failure.Usage("encrypt needs --key NAME")
			}
			if datafile.ToTerminal(c.String("output")) && !c.Bool("armor") {
				return failure.Usage("an encrypted file is binary; it does not go to a terminal, use -o FILE or --armor")
			}
			return filter(c, withKeyring, func(k *hsmkeys.Keyring, out io.Writer, in io.Reader) error {
				closeArmor := func() error { return nil }
				if c.Bool("armor") {
					text := armor.NewWriter(out)
					out, closeArmor = text, text.Close
				}
				w, err := k.Encrypt(c.Context, out, refs)
				if err != nil {
					return err
				}
				for _, ref := range refs {
					warnFormer(c, k, ref)
				}
				if err := datafile.Copy(c.Context, w, in); err != nil {
					return err // without Close the file stays recognisably unfinished
				}
				if err := w.Close(); err != nil {
					return err
				}
				return closeArmor()
			})
		},
	}
}

func decryptCommand() *cli.Command {
	return &cli.Command{
		Name: "decrypt", Usage: "decrypt a file", ArgsUsage: "[IN]",
		Description: "The file, an age file in binary or in ASCII armor, names its key. A FILE of -o appears when all of the input has proved authentic;\n" +
			"to stdout goes what is authentic so far, and a failure after that is in the exit status.\n" +
			"A binary file is decrypted on every processor, armor and a pipe on one.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "pair", Usage: "a file to the key exchange pair itself (age recipient --pair), which anybody can have made"},
			outputFlag(),
		},
		Action: func(c *cli.Context) error {
			if c.Bool("pair") {
				return filter(c, withPairAlone, func(pair *token.KeyPair, out io.Writer, in io.Reader) error {
					if f, size := datafile.ReaderAt(in); f != nil {
						return hsmkeys.DecryptFileWithPair(c.Context, pair, out, f, size)
					}
					plain, err := hsmkeys.DecryptWithPair(c.Context, pair, hsmkeys.Dearmor(in))
					if err != nil {
						return err
					}
					return datafile.Copy(c.Context, out, plain)
				})
			}
			return filter(c, withKeyring, func(k *hsmkeys.Keyring, out io.Writer, in io.Reader) error {
				if f, size := datafile.ReaderAt(in); f != nil {
					return k.DecryptFile(c.Context, out, f, size)
				}
				plain, err := k.Decrypt(c.Context, hsmkeys.Dearmor(in))
				if err != nil {
					return err
				}
				return datafile.Copy(c.Context, out, plain)
			})
		},
	}
}

func withPairAlone(c *cli.Context, f func(*token.KeyPair) error) error {
	return withPair(c, func(_ *token.Token, pair *token.KeyPair) error { return f(pair) })
}

// filter joins input, output and what decrypts or encrypts: a keyring, or a pair.
func filter[K any](c *cli.Context, with func(*cli.Context, func(K) error) error, f func(K, io.Writer, io.Reader) error) error {
	if c.NArg() > 1 {
		return failure.Usage("%s takes one file, not %d", c.Command.Name, c.NArg())
	}
	in, err := datafile.Open(c.Args().First())
	if err != nil {
		return err
	}
	return errors.Join(with(c, func(k K) error {
		shown, done := terminal.Progress(in, datafile.Size(in), datafile.ToTerminal(c.String("output")))
		defer done()
		return datafile.Write(c.Context, c.String("output"), func(out io.Writer) error { return f(k, out, shown) })
	}), in.Close())
}
