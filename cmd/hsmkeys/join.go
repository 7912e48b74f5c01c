package main

import (
	"crypto/x509"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

func joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "accept a keyring whose list of members names this token's pair, and pin it",
		Description: "For a further owner, the new owner after a recovery, and a backup authority that wants to keep\n" +
			"an eye on the keyring. Compare the fingerprint with what the voucher tells you, not with the storage.",
		Flags: []cli.Flag{voucherFlag(), yesFlag()},
		Action: func(c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			path := c.String("vouched-by")
			if path == "" {
				return usage("join needs --vouched-by CERTIFICATE, of an owner or backup authority who has signed a list of members")
			}
			voucher, err := readCertificate(path)
			if err != nil {
				return err
			}
			if err := confirmJoin(c, voucher); err != nil {
				return err
			}
			return withStorePair(c, func(t *token.Token, pair *token.KeyPair, store *blob.Dir) error {
				k, err := hsmkeys.Join(c.Context, t, pair, store, pins(t), voucher)
				if err != nil {
					return err
				}
				if c.Bool("yes") {
					warnFormerVoucher(k, voucher)
				}
				return printJoined(c, k)
			})
		},
	}
}

// confirmJoin shows who vouches for the keyring, and who is in it.
func confirmJoin(c *cli.Context, voucher *x509.Certificate) error {
	if c.Bool("yes") {
		return nil
	}
	if err := mayConfirm(c); err != nil {
		return err
	}
	store, err := openStore(c)
	if err != nil {
		return err
	}
	defer store.Close()
	k, err := hsmkeys.OpenWithCertificate(c.Context, voucher, store)
	if err != nil {
		return err
	}
	shown, err := voucherRows(k, voucher)
	if err != nil {
		return err
	}
	shown = append(shown, []string{fmt.Sprintf("keyring %s, list of members %d", k.ID(), k.State().Number)})
	shown = append(shown, memberRows(k)...)
	return confirm(c, shown, "Did the holder of the voucher's certificate tell you its fingerprint?")
}

// voucherRows shows who vouches for a keyring. One who was removed may have kept the
// certificate's key, and with it makes any continuation of the lists that it still knew.
func voucherRows(k *hsmkeys.Keyring, voucher *x509.Certificate) ([][]string, error) {
	by, err := k.MemberWith(voucher.PublicKey)
	if err != nil {
		return nil, err
	}
	rows := party("vouched for by", by)
	if left := k.LeftAt(by); left > 0 {
		rows[1][1] = fmt.Sprintf("FORMER %s, removed with list of members %d", by.Role, left)
	}
	if !by.Certificate.Equal(voucher) { // that of the key that signs, or one that was made anew
		rows = append(rows, []string{"  in the file", "SHA-256 " + fingerprint(voucher)})
	}
	return rows, nil
}

// warnFormerVoucher is for those who are not asked.
func warnFormerVoucher(k *hsmkeys.Keyring, voucher *x509.Certificate) {
	by, err := k.MemberWith(voucher.PublicKey)
	if err != nil {
		return // and it did not vouch for it
	}
	if left := k.LeftAt(by); left > 0 {
		warn(fmt.Errorf("the voucher %q is a former %s, removed with list of members %d; take the certificate of a member of today", by.Label, by.Role, left))
	}
}

// memberRows shows who is in a keyring.
func memberRows(k *hsmkeys.Keyring) [][]string {
	var rows [][]string
	for _, m := range membersOf(k) {
		rows = append(rows, []string{"  " + m.Role, printable(m.Label) + ", SHA-256 " + m.Fingerprint})
	}
	return rows
}

// voucherFlag names a certificate from outside the storage.
func voucherFlag() cli.Flag {
	return &cli.StringFlag{Name: "vouched-by", Usage: "`CERTIFICATE` of an owner or authority who has signed a list of members"}
}

func printJoined(c *cli.Context, k *hsmkeys.Keyring) error {
	s, self := k.State(), k.Self()
	if c.Bool("json") {
		return printJSON(map[string]any{
			"keyring": k.ID().String(), "list": s.Number, "pinned": s.Where, "label": self.Label, "role": self.Role.String(),
			"members": membersOf(k), "time": time.Now().UTC().Truncate(time.Second),
		})
	}
	if s.Where == "" {
		return printLine("joined already: keyring %s, list of members %d, as %s %s", k.ID(), s.Number, self.Role, printable(self.Label))
	}
	return printLine("joined keyring %s as %s %s: list of members %d, pinned on %s", k.ID(), self.Role, printable(self.Label), s.Number, s.Where)
}
