package main

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "bring keys to a new owner after the loss of a token, with the token of a backup authority", ArgsUsage: "[NAME…]",
		Description: "Puts the new owner in the place of the old one in the list of members, and wraps all versions of the\n" +
			"named keys, or of all keys, to it. It can be interrupted and started again. The new owner then joins\n" +
			"(hsmkeys join) and puts its own signature on everything (hsmkeys rewrap).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`CERTIFICATE` of the owner whose token was lost, from outside the storage; or the owner's label, when this token has joined the keyring"},
			&cli.StringFlag{Name: "to", Usage: "`CERTIFICATE` of the new owner"},
			&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; it is signed with every key"},
			&cli.BoolFlag{Name: "damaged", Usage: "recover again what this recovery has made and the new owner has not proven to open (drill --prove)"},
			voucherFlag(), memberLabelFlag(), signingFlag(), yesFlag(),
		},
		Action: func(c *cli.Context) error {
			for _, name := range []string{"from", "to", "reason"} {
				if c.String(name) == "" {
					return usage("recover needs --from CERTIFICATE, --to CERTIFICATE and --reason WORDS")
				}
			}
			if err := blob.ValidReason(c.String("reason")); err != nil {
				return usage("--reason %v", err)
			}
			if err := validNames(c); err != nil {
				return err
			}
			to, err := memberFrom(c, c.String("to"), blob.Owner)
			if err != nil {
				return err
			}
			from, err := certificateOrLabel(c.String("from"))
			if err != nil {
				return err
			}
			if err := mayConfirm(c); err != nil {
				return err
			}
			return withStorePair(c, func(t *token.Token, pair *token.KeyPair, store *blob.Dir) error {
				k, err := openForRecovery(c, t, pair, store, from)
				if err != nil {
					return err
				}
				settle(c, k)
				return recoverKeys(c, k, from, to)
			})
		},
	}
}

// certificateOrLabel reads a certificate, or gives nil when there is no such file.
func certificateOrLabel(s string) (*x509.Certificate, error) {
	certificate, err := readCertificate(s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return certificate, err
}

// openForRecovery opens the keyring as this token knows it, or as the old owner's
// certificate, or another from outside the storage, vouches for it.
func openForRecovery(c *cli.Context, t *token.Token, pair *token.KeyPair, store *blob.Dir, from *x509.Certificate) (*hsmkeys.Keyring, error) {
	voucher := from
	if path := c.String("vouched-by"); path != "" {
		var err error
		if voucher, err = readCertificate(path); err != nil {
			return nil, err
		}
		return hsmkeys.Join(c.Context, t, pair, store, pins(t), voucher)
	}
	k, err := hsmkeys.OpenKeyring(c.Context, t, pair, store, pins(t))
	if errors.Is(err, hsmkeys.ErrNotJoined) && voucher != nil {
		return hsmkeys.Join(c.Context, t, pair, store, pins(t), voucher)
	}
	if errors.Is(err, hsmkeys.ErrNotJoined) {
		return nil, usage("%q is no file; a label will do only when this token has joined the keyring (hsmkeys join)", c.String("from"))
	}
	return k, err
}

func recoverKeys(c *cli.Context, k *hsmkeys.Keyring, from *x509.Certificate, to blob.Member) error {
	if from == nil {
		old, err := k.Member(blob.Owner, c.String("from"))
		if err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		from = old.Certificate
	}
	refs, err := k.Versions(c.Context, c.Args().Slice()...)
	if err != nil {
		return err
	}
	if err := confirmRecovery(c, k, from, to, len(refs)); err != nil {
		return err
	}
	r, err := k.BeginRecovery(c.Context, from, to, c.String("reason"), warn)
	if err != nil {
		return err
	}
	if !c.Bool("json") {
		if err := printLine("list of members %d: owner %s in the place of key %s", r.Number(), printable(to.Label), r.From()); err != nil {
			return err
		}
	}
	recoverThem := r.Keys
	if c.Bool("damaged") {
		recoverThem = r.DamagedKeys
	}
	t, err := runMany(recoverThem(c.Context, refs), len(refs), "recover")
	return errors.Join(t.print(c, "recovered", "done before"), err)
}

// confirmRecovery shows whose keys go to whom. The new owner's certificate decides who
// opens everything from now on.
func confirmRecovery(c *cli.Context, k *hsmkeys.Keyring, from *x509.Certificate, to blob.Member, versions int) error {
	old, err := k.MemberWith(from.PublicKey)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	shown := slices.Concat(party("from", old), party("to", to), [][]string{
		{"keyring", fmt.Sprintf("%s, list of members %d", k.ID(), k.State().Number)},
		{"by", fmt.Sprintf("%s %s", k.Self().Role, printable(k.Self().Label))},
		{"keys", plural(versions, "version", "versions")},
		{"reason", printable(c.String("reason"))},
	})
	return confirm(c, shown, "Put the new owner in the place of the old one, and bring it these keys?")
}
