package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func recoverCommand() *cli.Command {
	return &cli.Command{
		Name: "recover", Usage: "wrap keys to a new owner after the loss of a token, with the token of a backup authority", ArgsUsage: "[NAME…]",
		Description: "Replaces the old owner with the new one in the list of members, and wraps all versions of the\n" +
			"named keys, or of all keys, to it. It can be interrupted and started again. The new owner then joins\n" +
			"(hsmkeys join) and takes the keys over (hsmkeys rewrap).",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`CERTIFICATE` of the owner whose token was lost, from outside the storage; or the owner's label, when this token has joined the keyring"},
			&cli.StringFlag{Name: "to", Usage: "`CERTIFICATE` of the new owner"},
			&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; it is signed with every key"},
			&cli.BoolFlag{Name: "damaged", Usage: "recover again what this recovery has wrapped and the new owner has not proven to open (drill --prove)"},
			&cli.StringFlag{Name: "quorum", Usage: "`LABEL` of the quorum that recovers, in place of the token of a single authority"},
			&cli.StringSliceFlag{Name: "custodian", Usage: "`TOKEN` of a custodian who is here, once for each; they are asked for if there is a terminal"},
			&cli.StringFlag{Name: "request", Usage: "`FILE` that quorum request has written, which custodians have approved"},
			&cli.StringSliceFlag{Name: "approval", Usage: "`FILE` that quorum approve has written, once for each custodian"},
			voucherFlag(), memberLabelFlag(), signingFlag(), yesFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := validNames(c); err != nil {
				return unquoted(c.String("reason"), err)
			}
			switch {
			case c.IsSet("request"):
				return recoverRequested(ctx, s, c)
			case c.IsSet("approval"):
				return failure.Usage("--approval goes with --request")
			case c.IsSet("custodian") && !c.IsSet("quorum"):
				return failure.Usage("--custodian goes with --quorum or --request")
			}
			for _, name := range []string{"from", "to", "reason"} {
				if c.String(name) == "" {
					return failure.Usage("recover needs --from CERTIFICATE, --to CERTIFICATE and --reason WORDS")
				}
			}
			if err := blob.ValidReason(c.String("reason")); err != nil {
				return failure.Usage("--reason %v", err)
			}
			if c.IsSet("quorum") {
				if c.Bool("damaged") {
					return failure.Usage("--damaged is for a single authority")
				}
				return recoverInPerson(ctx, s, c)
			}
			to, err := memberFrom(c.String("to"), memberOptionsOf(c), blob.Owner)
			if err != nil {
				return err
			}
			from, err := certificateOrLabel(c.String("from"))
			if err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithStorePair(ctx, s, func(_ session.Token, pair session.Pair, store place.Store) error {
				r := recovery{options: recoverOptions{c.String("from"), c.String("to"), c.String("reason"), c.String("vouched-by"), c.Bool("damaged"), c.Bool("yes"), c.Args().Slice()}, s: s, from: from, to: to}
				if err := r.open(ctx, pair, store); err != nil {
					return err
				}
				if err := r.confirm(ctx, pair); err != nil {
					return err
				}
				if err := r.join(ctx, pair, store); err != nil {
					return err
				}
				return r.run(ctx)
			})
		}),
	}
}

// recoverOptions are what the command line asks for.
type recoverOptions struct {
	from, to     string // files, or the label of the old owner
	reason       string
	vouchedBy    string // file
	damaged, yes bool
	names        []string // of keys; none for all
}

// A recovery is what the command line asks for, and the keyring that it was found to be about.
type recovery struct {
	options recoverOptions
	s       *settings.Settings
	from    *x509.Certificate // of the old owner; nil until its label was looked up
	to      blob.Member
	voucher *x509.Certificate // from outside the storage; nil if this token has joined the keyring
	k       *hsmkeys.Keyring  // with a voucher, opened without the token until join
	refs    []hsmkeys.Ref
}

// certificateOrLabel reads a certificate, or returns nil if there is no such file.
func certificateOrLabel(s string) (*x509.Certificate, error) {
	certificate, err := keyfile.ReadCertificate(s)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return certificate, err
}

// open opens the keyring as this token knows it, or as the old owner's certificate or another one
// from outside the storage vouches for it. With a voucher nothing is pinned yet.
func (r *recovery) open(ctx context.Context, pair session.Pair, store place.Store) (err error) {
	if path := r.options.vouchedBy; path != "" {
		if r.voucher, err = keyfile.ReadCertificate(path); err != nil {
			return err
		}
	} else {
		r.k, err = session.OpenKeyring(ctx, r.s, pair, store)
		switch notJoined := errors.Is(err, hsmkeys.ErrNotJoined); {
		case notJoined && r.from == nil:
			return failure.Usage("%q is no file; a label will do only when this token has joined the keyring (hsmkeys join)", r.options.from)
		case notJoined:
			r.voucher = r.from
		case err != nil:
			return err
		}
	}
	if r.voucher != nil {
		o, err := session.Options(r.s, store)
		if err != nil {
			return err
		}
		o.Voucher = r.voucher
		if r.k, err = hsmkeys.OpenVouched(ctx, o); err != nil {
			return session.Explain(err)
		}
	}
	if err := r.findOld(); err != nil {
		return err
	}
	r.refs, err = r.k.Versions(ctx, r.options.names...)
	return unquoted(r.options.reason, err)
}

// findOld finds the old owner's certificate. A file in the current directory may be anybody's, so
// it does not silently replace the owner with that label.
func (r *recovery) findOld() error {
	name := r.options.from
	old, err := r.k.Member(blob.Owner, name)
	switch {
	case r.from == nil && err != nil:
		return meantMember(r.k, blob.Owner, name, fmt.Errorf("--from: %w", err))
	case r.from == nil:
		r.from = old.Certificate
	case err == nil && !strings.ContainsRune(name, filepath.Separator):
		return failure.UsageHint("write ./"+name+" for the file; for the label, run it in another directory",
			"--from %q is the label of an owner and also a file in the current directory", name)
	}
	return nil
}

// confirm shows whose keys go to whom, and why that is trusted: the new owner's certificate decides
// who can open everything from now on, and the voucher which keyring it is.
func (r *recovery) confirm(ctx context.Context, pair session.Pair) error {
	self, err := r.k.MemberOf(pair)
	if err != nil {
		return err
	}
	old, err := r.k.MemberWith(r.from.PublicKey)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	if r.to.Certificate.Equal(r.from) || r.to.Certificate.Equal(old.Certificate) {
		return failure.UsageHint("the new owner's token makes its own: hsmkeys --token NEW init --pair-only, hsmkeys --token NEW certificate -o new.pem",
			"--to %q is the certificate of the owner whose token was lost, and --to takes the new owner's", r.options.to)
	}
	vouched := [][]string{{"vouched for by", "the state that this token has accepted"}}
	if r.voucher != nil {
		if vouched, err = show.VoucherRows(r.k, r.voucher); err != nil {
			return err
		}
		if r.options.yes {
			show.WarnFormerVoucher(r.k, r.voucher)
		}
	}
	last, err := lastSignedRow(ctx, r.k, old)
	if err != nil {
		return err
	}
	shown := slices.Concat(show.Party("from", old), last, show.Party("to", r.to), vouched,
		[][]string{{"keyring", fmt.Sprintf("%s, checkpoint %d, list of members %d", r.k.ID(), r.k.State().At.Number, r.k.State().List)}}, show.KeyringRows(r.k),
		[][]string{
			{"by", fmt.Sprintf("%s %s", self.Role, text.Printable(self.Label))},
			{"keys", text.Plural(len(r.refs), "version", "versions")},
			{"reason", text.Printable(r.options.reason)},
		})
	return confirm.Ask(ctx, r.options.yes, shown, "Put the new owner in the place of the old one, and bring it these keys?")
}

// join opens the keyring with the token, once it is confirmed, and pins it, if a voucher has
// vouched for it.
func (r *recovery) join(ctx context.Context, pair session.Pair, store place.Store) error {
	if r.voucher == nil {
		return nil
	}
	shown := r.k
	o, err := session.Options(r.s, store)
	if err != nil {
		return err
	}
	o.Pair, o.Pins, o.Voucher = pair, session.Pins(pair.Records()), r.voucher
	if r.k, err = hsmkeys.Join(ctx, o); err != nil {
		return session.Explain(err)
	}
	if r.k.ID() != shown.ID() || r.k.State().At != shown.State().At {
		return hsmkeys.ErrMovedOn
	}
	return nil
}

func (r *recovery) run(ctx context.Context) error {
	begun, err := r.k.BeginRecovery(ctx, r.from, r.to, r.options.reason)
	if err != nil {
		return err
	}
	if !r.s.JSON {
		old, err := r.k.MemberWith(r.from.PublicKey) // which BeginRecovery has found as well
		if err != nil {
			return fmt.Errorf("--from: %w", err)
		}
		if err := output.Line("list of members %d: owner %s in the place of %s, key %s", begun.Number(), text.Printable(r.to.Label), text.Printable(old.Label), begun.From()); err != nil {
			return err
		}
	}
	recoverThem := begun.Keys
	if r.options.damaged {
		recoverThem = begun.DamagedKeys
	}
	t, err := tally.Run(recoverThem(ctx, r.refs), len(r.refs), "recover", nil)
	return errors.Join(t.Print(r.s, "recovered", "done before", ""), err)
}
