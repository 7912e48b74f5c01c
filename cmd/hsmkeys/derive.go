package main

import (
	"fmt"
	"os"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/blob/capi"
)

func deriveCommand() *cli.Command {
	return &cli.Command{
		Name: "derive", Usage: "the key that CryptoAPI's CryptDeriveKey makes from a password, to open old data",
		Description: "Legacy: such a key has no salt and is cheap to guess, so it is never one for new data; for that,\n" +
			"hsmkeys create --from-password. No token is needed. The raw key goes to stdout.",
		Flags: []cli.Flag{
			&cli.BoolFlag{Name: "capi", Usage: "as CryptoAPI does"},
			&cli.StringFlag{Name: "hash", Usage: "md5, sha1 or sha256"},
			&cli.StringFlag{Name: "algorithm", Usage: "rc2, rc4, des, 3des, 3des-112, aes128, aes192 or aes256"},
			&cli.IntFlag{Name: "bits", Usage: "the `LENGTH` of an rc2 or rc4 key: 40 to 128"},
			&cli.StringFlag{Name: "encoding", Value: "utf8", Usage: "how the program hashed the password: utf8, or utf16le as Unicode programs did"},
			&cli.BoolFlag{Name: "blob", Usage: "print a PLAINTEXTKEYBLOB in place of the raw key"},
			&cli.BoolFlag{Name: "force", Usage: "print it even to a terminal"},
		},
		Action: func(c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if !c.Bool("capi") || c.String("hash") == "" || c.String("algorithm") == "" {
				return usage("derive needs --capi, --hash and --algorithm")
			}
			hash, err := capi.ParseAlgID(c.String("hash"))
			if err != nil {
				return usage("--hash: %v", err)
			}
			algorithm, err := capi.ParseAlgID(c.String("algorithm"))
			if err != nil {
				return usage("--algorithm: %v", err)
			}
			encoding := c.String("encoding")
			if encoding != "utf8" && encoding != "utf16le" {
				return usage("--encoding is utf8 or utf16le")
			}
			if c.Int("bits")%8 != 0 {
				return usage("--bits is a multiple of 8")
			}
			// What cannot be is told before somebody types a password.
			switch smallest, largest := algorithm.KeySizes(); {
			case largest == 0:
				return usage("--algorithm: %v is a hash", algorithm)
			case smallest != largest && c.Int("bits") == 0:
				return usage("an %v key needs its length, --bits %d to %d", algorithm, smallest*8, largest*8)
			case c.Int("bits") != 0 && (c.Int("bits") < smallest*8 || c.Int("bits") > largest*8):
				return usage("an %v key has %d to %d bits, not %d", algorithm, smallest*8, largest*8, c.Int("bits"))
			}
			if _, err := capi.DeriveKey(hash, algorithm, c.Int("bits")/8, nil); err != nil {
				return usage("%v", err)
			}
			if isTerminal(os.Stdout) && !c.Bool("force") {
				return usage("a raw key does not go to a terminal; pipe it into the program that needs it, or use --force")
			}
			return deriveCAPI(c, hash, algorithm)
		},
	}
}

func deriveCAPI(c *cli.Context, hash, algorithm capi.AlgID) error {
	secret, err := readSecret(c.Context, passwordOption, c.String(passwordOption), "password", askSecret)
	if err != nil {
		return err
	}
	defer clear(secret)
	if c.String("encoding") == "utf16le" {
		wide, err := utf16LE(secret)
		if err != nil {
			return err
		}
		clear(secret)
		secret = wide
	}
	key, err := capi.DeriveKey(hash, algorithm, c.Int("bits")/8, secret)
	clear(secret)
	if err != nil {
		return err
	}
	defer clear(key)
	if c.Bool("blob") {
		blob, err := capi.PlaintextKey{Algorithm: algorithm, Key: key}.Marshal()
		if err != nil {
			return err
		}
		defer clear(blob)
		key = blob
	}
	note("legacy: %s of the password with no salt; open old data with it, and encrypt nothing new", hash)
	_, err = os.Stdout.Write(key)
	return err
}

// utf16LE gives a password as programs for Unicode on Windows held it, without a final
// zero.
func utf16LE(secret []byte) ([]byte, error) {
	if !utf8.Valid(secret) {
		return nil, fmt.Errorf("the password is not UTF-8")
	}
	var out []byte
	for len(secret) > 0 {
		r, n := utf8.DecodeRune(secret)
		secret = secret[n:]
		for _, unit := range utf16.AppendRune(nil, r) {
			out = append(out, byte(unit), byte(unit>>8))
		}
	}
	return out, nil
}
