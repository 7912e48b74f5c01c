package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/hex"
	"io"
	"os"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func revealCommand() *cli.Command {
	return &cli.Command{
		Name: "reveal", Usage: "print the raw value of a session key", ArgsUsage: "NAME[@VERSION]",
		Description: "For a program that must have the key itself, through a pipe or in a file of mode 0600. From\n" +
			"then on the key is only as safe as whoever has read it. The salt of a legacy key is not included; hsmkeys\n" +
			"show prints it.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "hex", Usage: "in hexadecimal, one line"},
			&cli.BoolFlag{Name: "base64", Usage: "in base64 (RFC 4648, section 4), one line"},
			outputFlag(),
			&cli.BoolFlag{Name: "force", Usage: "print the key even to a terminal"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			ref, err := keyArgument(c)
			if err != nil {
				return err
			}
			if c.Bool("hex") && c.Bool("base64") {
				return failure.Usage("--hex and --base64 do not go together")
			}
			if datafile.ToTerminal(c.String("output")) && !c.Bool("force") {
				return failure.Usage("a raw key does not go to a terminal; pipe it into the program that needs it, use -o FILE, or --force")
			}
			encode := raw
			if c.Bool("hex") {
				encode = inHex
			} else if c.Bool("base64") {
				encode = inBase64
			}
			s.NeedsAllowed = "reveal"
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				key, err := k.Reveal(ctx, ref)
				if err != nil {
					return err
				}
				defer clear(key)
				return writeKey(ctx, c.String("output"), encode, key)
			})
		}),
	}
}

// An encoding is how a raw key is written.
type encoding int

const (
	raw encoding = iota
	inHex
	inBase64
)

// writeKey writes a key in an encoding, and clears every copy that it makes.
func writeKey(ctx context.Context, path string, e encoding, key []byte) error {
	text := key
	switch e {
	case inHex:
		text = append(hex.AppendEncode(make([]byte, 0, hex.EncodedLen(len(key))+1), key), '\n')
	case inBase64:
		text = append(base64.StdEncoding.AppendEncode(make([]byte, 0, base64.StdEncoding.EncodedLen(len(key))+1), key), '\n')
	}
	defer clear(text)
	if path == "" || path == "-" {
		_, err := os.Stdout.Write(text)
		return err
	}
	return datafile.Write(ctx, path, func(out io.Writer) error {
		_, err := out.Write(text)
		if w, ok := out.(*bufio.Writer); ok && err == nil {
			err = w.Flush()
			buffer := w.AvailableBuffer()
			clear(buffer[:cap(buffer)])
		}
		return err
	})
}
