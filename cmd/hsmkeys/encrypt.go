package main

import (
	"context"
	"errors"
	"io"

	"filippo.io/age/armor"
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

func encryptCommand() *cli.Command {
	return &cli.Command{
		Name: "encrypt", Usage: "encrypt a file under a session key", ArgsUsage: "[IN]",
		Description: "The result is an age file, binary or with --armor as text. - or nothing is stdin or stdout.",
		Flags: []cli.Flag{
			&cli.StringSliceFlag{Name: "key", Aliases: []string{"k"}, Usage: "`NAME[@VERSION]` of the session key; several may be given, each opens the file", Required: false},
			&cli.BoolFlag{Name: "armor", Aliases: []string{"a"}, Usage: "write age's ASCII armor, which is text"},
			outputFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			var refs []hsmkeys.Ref
			for _, name := range c.StringSlice("key") {
				ref, err := hsmkeys.ParseRef(name)
				if err != nil {
					return err
				}
				if hsmkeys.IsCanary(ref.Name) {
					return failure.UsageHint("choose another key, or hsmkeys create NAME", "the key %q is for rehearsals alone (drill --rehearse), whose copies leave the keyring", ref.Name)
				}
				refs = append(refs, ref)
			}
			if len(refs) == 0 {
				return failure.Usage("encrypt needs --key NAME")
			}
			files, err := filesOf(c)
			if err != nil {
				return err
			}
			if datafile.ToTerminal(files.out) && !c.Bool("armor") {
				return failure.Usage("an encrypted file is binary; it does not go to a terminal, use -o FILE or --armor")
			}
			return filter(ctx, s, session.WithFileKeys, files, func(k session.FileKeys, out io.Writer, in io.Reader) error {
				closeArmor := func() error { return nil }
				if c.Bool("armor") {
					text := armor.NewWriter(out)
					out, closeArmor = text, text.Close
				}
				w, err := k.Encrypt(ctx, out, refs)
				if err != nil {
					return err
				}
				if k, ok := k.(*hsmkeys.Keyring); ok {
					for _, ref := range refs {
						show.WarnFormer(ctx, k, ref)
					}
				}
				if err := datafile.Copy(ctx, w, in); err != nil {
					return err // without Close the file stays recognisably unfinished
				}
				if err := w.Close(); err != nil {
					return err
				}
				return closeArmor()
			})
		}),
	}
}

// inAndOut names the files that a command reads and writes; "" and "-" are stdin and stdout.
type inAndOut struct{ in, out string }

func filesOf(c *cli.Context) (inAndOut, error) {
	if c.NArg() > 1 {
		return inAndOut{}, failure.Usage("%s takes one file, not %d", c.Command.Name, c.NArg())
	}
	return inAndOut{c.Args().First(), c.String("output")}, nil
}

// filter opens input and output and calls f with them, and with what encrypts or decrypts: a
// keyring or a pair.
func filter[K any](ctx context.Context, s *settings.Settings, with func(context.Context, *settings.Settings, func(K) error) error, files inAndOut, f func(K, io.Writer, io.Reader) error) error {
	in, err := datafile.Open(files.in)
	if err != nil {
		return err
	}
	return errors.Join(with(ctx, s, func(k K) error {
		shown, done := terminal.Progress(in, datafile.Size(in), datafile.ToTerminal(files.out))
		defer done()
		return datafile.Write(ctx, files.out, func(out io.Writer) error { return f(k, out, shown) })
	}), in.Close())
}
