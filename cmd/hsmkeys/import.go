package main

import (
	"context"
	"encoding/hex"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/stdio"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func importCommand() *cli.Command {
	return &cli.Command{
		Name: "import", Usage: "import a session key that CryptoAPI has exported", ArgsUsage: "NAME",
		Description: "FILE is a SIMPLEBLOB, encrypted to an RSA pair that is on the token. The token decrypts it, and the\n" +
			"key is wrapped, signed and stored like any other. AES keys can then be used like any other; RC2, RC4,\n" +
			"DES and 3DES are legacy: such a key can be loaded and revealed, and never encrypts anything new.\n" +
			"A SIMPLEBLOB is not signed, and does not say how long an rc2 or rc4 key is, what effective length an\n" +
			"rc2 key was used with (40 in Windows 2000 and before, where nothing was set; its own length later), or\n" +
			"what salt (Windows gave 40-bit keys 11 zero bytes, unless CRYPT_NO_SALT was set).\n" +
			"A script that imports what others send it should require --check-value: otherwise it reveals, by what it\n" +
			"accepts, what was encrypted to the pair.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "capi", Usage: "the SIMPLEBLOB is in this `FILE`"},
			&cli.StringFlag{Name: "pair", Usage: "the pair that it is encrypted to, which may be a legacy one: a label, or a `URI` with object or id", DefaultText: "the token's pair of the keyring"},
			&cli.BoolFlag{Name: "oaep", Usage: "it is encrypted with OAEP (CRYPT_OAEP), not PKCS #1 v1.5"},
			&cli.IntFlag{Name: "bits", Usage: "the `LENGTH` of an rc2 or rc4 key: 40 to 128"},
			&cli.IntFlag{Name: "effective-bits", Usage: "the effective `LENGTH` of an rc2 key: 1 to 1024"},
			&cli.StringFlag{Name: "salt", Usage: "the salt of an rc2 or rc4 key, in `HEX`; key and salt have at most 16 bytes"},
			&cli.StringFlag{Name: "purpose", Usage: "of an AES key: wrap, for files, or encrypt, for other applications", DefaultText: "wrap"},
			&cli.StringFlag{Name: "check-value", Usage: "refuse another key than the one with this check value, 3 bytes in `HEX`: the start of a zero block encrypted with AES-ECB, or of a legacy key's SHA-1"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			name, err := newNameArgument(c)
			if err != nil {
				return err
			}
			simple, err := simpleKey(c)
			if err != nil {
				return err
			}
			return session.WithStorePair(ctx, s, func(t session.Token, pair session.Pair, store place.Store) error {
				other, err := t.PairNamed(ctx, "pair", c.String("pair"))
				if err != nil {
					return err
				}
				if other != nil {
					simple.Pair = other
				}
				k, err := session.OpenKeyring(ctx, s, pair, store)
				if err != nil {
					return err
				}
				return importSimple(ctx, s, k, name, simple)
			})
		}),
	}
}

// simpleKey reads the file and the options about it. All their errors are reported before anybody
// is asked for a PIN.
func simpleKey(c *cli.Context) (s hsmkeys.Simple, err error) {
	path := c.String("capi")
	if path == "" {
		return s, failure.Usage("import needs --capi FILE")
	}
	if c.Int("bits")%8 != 0 || c.Int("bits") < 0 {
		return s, failure.Usage("--bits is a multiple of 8")
	}
	s.Size, s.EffectiveBits, s.How = c.Int("bits")/8, c.Int("effective-bits"), keyspec.RSAESPKCS1v15
	if c.Bool("oaep") {
		s.How = keyspec.RSAESOAEPSHA1
	}
	for option, value := range map[string]*[]byte{"salt": &s.Salt, "check-value": &s.CheckValue} {
		if c.IsSet(option) {
			if *value, err = hex.DecodeString(c.String(option)); err != nil || len(*value) == 0 {
				return s, failure.Usage("--%s is not in hexadecimal digits", option)
			}
		}
	}
	if c.IsSet("purpose") {
		if s.Purpose, err = keyspec.ParsePurpose(c.String("purpose")); err != nil {
			return s, failure.Usage("--purpose: %v", err)
		}
	}
	data, err := keyfile.Read(path)
	if err != nil {
		return s, err
	}
	if s.Blob, err = capi.ParseSimpleBlob(data); err != nil {
		return s, failure.Usage("%q: %v", path, err)
	}
	switch algorithm := s.Blob.Algorithm; {
	case s.Size == 0 && (algorithm == capi.RC2 || algorithm == capi.RC4):
		return s, failure.Usage("%q has an %v key, and does not say how long it is: --bits, 40 or 128 in most", path, algorithm)
	case s.EffectiveBits == 0 && algorithm == capi.RC2:
		return s, failure.Usage("%q has an rc2 key, and does not say its effective length: --effective-bits, 40 or that of the key in most", path)
	}
	if err := s.Check(); err != nil {
		return s, failure.Usage("%q: %v", path, err)
	}
	return s, nil
}

func importSimple(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, name string, simple hsmkeys.Simple) error {
	var e hsmkeys.Entry
	err := stdio.MuteModule(func() (err error) {
		e, err = k.ImportSimple(ctx, name, simple)
		return err
	})
	if err != nil {
		return err
	}
	message.Note("a SIMPLEBLOB is not signed: anybody who could write it may have put their own key into it; and its maker has the key too")
	if e.Legacy {
		message.Note("legacy: open old data with it, and encrypt nothing new")
	}
	if e.Legacy && e.Bits == 40 && e.Salt == "" {
		message.Note("Windows gave keys of 40 bits 11 zero bytes of salt unless CRYPT_NO_SALT was set; where the data does not open, import it under another name with --salt 0000000000000000000000")
	}
	for _, h := range e.Unable {
		message.Note("%s does not get the key: one that is so short cannot be wrapped to its EC pair", text.Printable(h.Label))
	}
	show.NoteAlone(k)
	until := show.Labels(k.Unproven(e))
	if s.JSON {
		return output.JSON(made{e, until})
	}
	return output.Line("%s imported: %s, check value %s, key id %s%s", show.Version(e), e.Kind(), e.CheckValue, e.KeyID, show.NotProven(until))
}
