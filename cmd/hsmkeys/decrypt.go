package main

import (
	"context"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func decryptCommand() *cli.Command {
	return &cli.Command{
		Name: "decrypt", Usage: "decrypt a file", ArgsUsage: "[IN]",
		Description: "The file, an age file in binary or in ASCII armor, names its key. A FILE of -o appears when all of the input has proved authentic;\n" +
			"to stdout goes what is authentic so far, and a failure after that is in the exit status.\n" +
			"A binary file is decrypted on every processor, armor and a pipe on one.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "pair", Usage: "decrypt a file to the key exchange pair itself (age recipient --pair), which anybody may have made"},
			outputFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			files, err := filesOf(c)
			if err != nil {
				return err
			}
			if c.Bool("pair") {
				return filter(ctx, s, withPairAlone, files, func(pair hsmkeys.RecordedPair, out io.Writer, in io.Reader) error {
					if f, size := datafile.ReaderAt(in); f != nil {
						return hsmkeys.DecryptFileWithPair(ctx, pair, out, f, size)
					}
					plain, err := hsmkeys.DecryptWithPair(ctx, pair, hsmkeys.Dearmor(in))
					if err != nil {
						return err
					}
					return datafile.Copy(ctx, out, plain)
				})
			}
			return filter(ctx, s, session.WithFileKeys, files, func(k session.FileKeys, out io.Writer, in io.Reader) error {
				if f, size := datafile.ReaderAt(in); f != nil {
					return k.DecryptFile(ctx, out, f, size)
				}
				plain, err := k.Decrypt(ctx, hsmkeys.Dearmor(in))
				if err != nil {
					return err
				}
				return datafile.Copy(ctx, out, plain)
			})
		}),
	}
}

func withPairAlone(ctx context.Context, s *settings.Settings, f func(hsmkeys.RecordedPair) error) error {
	return session.WithPair(ctx, s, func(_ session.Token, pair session.Pair) error {
		record, err := session.Record(s)
		if err != nil {
			return err
		}
		return f(hsmkeys.RecordedPair{Decrypter: pair, Record: record})
	})
}
