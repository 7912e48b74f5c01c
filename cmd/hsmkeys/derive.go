package main

import (
	"context"
	"fmt"
	"os"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

func deriveCommand() *cli.Command {
	return &cli.Command{
		Name: "derive", Usage: "derive the key that CryptoAPI's CryptDeriveKey makes from a password, to open old data",
		Description: "Legacy: such a key has no salt and is cheap to guess, so it is never one for new data; for that,\n" +
			"hsmkeys create --from-password. No token is needed. The raw key goes to stdout.\n" +
			"The password is one line, typed or from --password-source, or with --password-file every byte of a file: a\n" +
			"program may have hashed a final zero or the end of a line too. Many programs hashed UTF-16: --encoding utf16le.\n" +
			"The parity bits of DES and 3DES keys are as they come out of the hash; with --blob they are set, as Windows\n" +
			"exports them.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "capi", Usage: "as CryptoAPI does"},
			&cli.StringFlag{Name: "hash", Usage: "md4, md5, sha1, sha256, sha384 or sha512"},
			&cli.StringFlag{Name: "algorithm", Usage: "rc2, rc4, des, 3des, 3des-112, aes128, aes192 or aes256"},
			&cli.IntFlag{Name: "bits", Usage: "the `LENGTH` of an rc2 or rc4 key: 40 to 128"},
			&cli.StringFlag{Name: "encoding", Value: "utf8", Usage: "how the program hashed the password: utf8, or utf16le as Unicode programs did"},
			&cli.StringFlag{Name: "password-file", Usage: "the password is every byte of this `FILE`, the end of its last line too; goes before --password-source"},
			&cli.BoolFlag{Name: "blob", Usage: "print a PLAINTEXTKEYBLOB in place of the raw key"},
			&cli.BoolFlag{Name: "force", Usage: "print the key even to a terminal"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if !c.Bool("capi") || c.String("hash") == "" || c.String("algorithm") == "" {
				return failure.Usage("derive needs --capi, --hash and --algorithm")
			}
			hash, err := capi.ParseHash(c.String("hash"))
			if err != nil {
				return failure.Usage("--hash: %v", err)
			}
			algorithm, err := capi.ParseCipher(c.String("algorithm"))
			if err != nil {
				return failure.Usage("--algorithm: %v", err)
			}
			encoding := c.String("encoding")
			if encoding != "utf8" && encoding != "utf16le" {
				return failure.Usage("--encoding is utf8 or utf16le")
			}
			if c.Int("bits")%8 != 0 {
				return failure.Usage("--bits is a multiple of 8")
			}
			// Report what is impossible before somebody types a password.
			switch smallest, largest := algorithm.KeySizes(); {
			case smallest != largest && c.Int("bits") == 0:
				return failure.Usage("an %v key needs its length, --bits %d to %d", algorithm, smallest*8, largest*8)
			case c.Int("bits") != 0 && (c.Int("bits") < smallest*8 || c.Int("bits") > largest*8):
				return failure.Usage("an %v key has %d to %d bits, not %d", algorithm, smallest*8, largest*8, c.Int("bits"))
			}
			if _, err := capi.DeriveKey(hash, algorithm, c.Int("bits")/8, nil); err != nil {
				return failure.Usage("%v", err)
			}
			if terminal.Is(os.Stdout) && !c.Bool("force") {
				return failure.Usage("a raw key does not go to a terminal; pipe it into the program that needs it, or use --force")
			}
			return deriveCAPI(ctx, s, derivation{hash, algorithm, c.Int("bits") / 8, encoding == "utf16le", c.Bool("blob"), c.String("password-file")})
		}),
	}
}

// A derivation is what the command line asks for.
type derivation struct {
	hash, algorithm capi.AlgID
	size            int // of an RC2 or RC4 key, in bytes
	utf16           bool
	blob            bool   // print a PLAINTEXTKEYBLOB
	passwordFile    string // every byte of this file; "" for --password-source
}

func deriveCAPI(ctx context.Context, s *settings.Settings, d derivation) error {
	secret, err := d.password(ctx, s)
	if err != nil {
		return err
	}
	defer clear(secret)
	if d.utf16 {
		wide, err := utf16LE(secret)
		if err != nil {
			return err
		}
		clear(secret)
		secret = wide
	}
	key, err := capi.DeriveKey(d.hash, d.algorithm, d.size, secret)
	clear(secret)
	if err != nil {
		return err
	}
	defer clear(key)
	if d.blob {
		capi.SetParity(d.algorithm, key)
		blob, err := capi.PlaintextKey{Algorithm: d.algorithm, Key: key}.Marshal()
		if err != nil {
			return err
		}
		defer clear(blob)
		key = blob
	}
	message.Note("legacy: %s of the password with no salt; open old data with it, and encrypt nothing new", d.hash)
	_, err = os.Stdout.Write(key)
	return err
}

// password reads the password, before it is encoded.
func (d derivation) password(ctx context.Context, s *settings.Settings) ([]byte, error) {
	path := d.passwordFile
	if path == "" {
		return s.ReadPassword(ctx, "password", secret.Ask)
	}
	if info, err := os.Stat(path); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		message.Warn(fmt.Errorf("others can read the password in %q; chmod 600 it", path))
	}
	secret, err := keyfile.Read(path)
	if err != nil {
		return nil, failure.Secret(err)
	}
	return secret, nil
}

// utf16LE returns a password in the form of Unicode programs on Windows, without a final zero.
func utf16LE(secret []byte) ([]byte, error) {
	if !utf8.Valid(secret) {
		return nil, failure.Usage("the password is not UTF-8: without --encoding its bytes are taken as they are")
	}
	out := make([]byte, 0, 2*len(secret)) // large enough that append makes no copy
	for len(secret) > 0 {
		r, n := utf8.DecodeRune(secret)
		secret = secret[n:]
		for _, unit := range utf16.AppendRune(nil, r) {
			out = append(out, byte(unit), byte(unit>>8))
		}
	}
	return out, nil
}
