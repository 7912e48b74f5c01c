package main

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func joinCommand() *cli.Command {
	return &cli.Command{
		Name: "join", Usage: "accept a keyring whose list of members names this token's pair, and pin it",
		Description: "For a further owner, the new owner after a recovery, and a backup authority that wants to keep\n" +
			"an eye on the keyring. Compare the fingerprint with what the voucher tells you, not with the storage.",
		Flags: []cli.Flag{
			voucherFlag(), yesFlag(),
			&cli.BoolFlag{Name: "replace-pin", Usage: "forget what this token has accepted, and continue from --checkpoint: after a fork, or if the newest state is lost"},
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			voucher, err := joinVoucher(c.String("vouched-by"), s.Checkpoint, c.Bool("replace-pin"))
			if err != nil {
				return err
			}
			if _, err := session.Options(s, nil); err != nil { // before anybody is asked
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithStorePair(ctx, s, func(_ session.Token, pair session.Pair, store place.Store) error {
				o, err := session.Options(s, store)
				if err != nil {
					return err
				}
				if s.Keyring == "" {
					o.Keyring = blob.ID{} // joining chooses the keyring
				}
				o.Pair, o.Pins, o.Voucher = pair, session.Pins(pair.Records()), voucher
				shown, err := confirmJoin(ctx, o, c.Bool("yes"), c.Bool("replace-pin"))
				if err != nil {
					return err
				}
				join := hsmkeys.Join
				if c.Bool("replace-pin") {
					join = hsmkeys.ReplacePin
				} else if shown != nil { // do not accept a later recovery, which was not shown
					o.Checkpoint = shown
				}
				before, err := o.Pins.Of(ctx, pair)
				if err != nil {
					return err
				}
				k, err := join(ctx, o)
				if err != nil {
					return session.ExplainCheckpoint(o, err)
				}
				if c.Bool("yes") && voucher != nil {
					show.WarnFormerVoucher(k, voucher)
				}
				if was, err := binding.Of(store.String()); err == nil && was != k.ID() && was != (blob.ID{}) {
					message.Note("so far keyring %s belonged in %s", was, text.Printable(store.String()))
				}
				if err := binding.Set(store.String(), k.ID()); err != nil {
					return fmt.Errorf("remember which keyring belongs to the store: %w", err)
				}
				session.Announce(k)
				if err := k.Trusted(); err != nil { // a former member's voucher may be from before a recovery
					return err
				}
				if c.Bool("yes") {
					warnAccepted(ctx, o, k.State().Before)
				}
				already := slices.ContainsFunc(before, func(p hsmkeys.Pin) bool { return p.At == k.State().At })
				return printJoined(s, k, already)
			})
		}),
	}
}

// joinVoucher reads the voucher's certificate, if the keyring is trusted because of one.
func joinVoucher(path, at string, replacePin bool) (*x509.Certificate, error) {
	switch {
	case replacePin && (at == "" || path != ""):
		return nil, failure.Usage("join --replace-pin continues from --checkpoint N:DIGEST, which another member's hsmkeys checkpoint prints")
	case path == "" && at == "":
		return nil, failure.Usage("join needs --vouched-by CERTIFICATE, of an owner or backup authority who has signed a checkpoint; or --checkpoint N:DIGEST, which another member's hsmkeys checkpoint prints")
	case path == "":
		return nil, nil
	}
	return keyfile.ReadCertificate(path)
}

// confirmJoin shows why the keyring is trusted, and its members. It returns the checkpoint that was
// shown, or nil if nobody is asked.
func confirmJoin(ctx context.Context, o hsmkeys.Options, yes, replacePin bool) (*ledger.Point, error) {
	if yes {
		return nil, nil
	}
	k, err := hsmkeys.OpenVouched(ctx, o)
	if err != nil {
		return nil, session.ExplainCheckpoint(o, err)
	}
	var shown [][]string
	question := "Did another member show you this checkpoint?"
	if o.Voucher != nil {
		if shown, err = show.VoucherRows(k, o.Voucher); err != nil {
			return nil, err
		}
		question = "Did the holder of the voucher's certificate tell you its fingerprint?"
	}
	state := k.State()
	shown = append(shown, []string{fmt.Sprintf("keyring %s, list of members %d", k.ID(), state.List)}, []string{"  checkpoint", state.At.String() + ", " + text.Time(state.Signed)})
	shown = append(shown, show.KeyringRows(k)...)
	for _, r := range state.Recoveries { // which joining accepts
		shown = append(shown, show.RecoveryRows(r)...)
	}
	if replacePin {
		if shown, err = replacedRows(ctx, o, shown); err != nil {
			return nil, err
		}
		question = "Forget what this token has accepted, and continue from this checkpoint?"
	}
	return &state.At, confirm.Ask(ctx, yes, shown, question)
}

// replacedRows adds what the token has accepted so far.
func replacedRows(ctx context.Context, o hsmkeys.Options, shown [][]string) ([][]string, error) {
	pinned, err := o.Pins.Of(ctx, o.Pair)
	if err != nil {
		return nil, err
	}
	for _, p := range pinned { // the pins on the token and in the file are mostly the same
		row := []string{"accepted so far", fmt.Sprintf("keyring %s, checkpoint %v", p.Keyring, p.At)}
		if !slices.ContainsFunc(shown, func(r []string) bool { return slices.Equal(r, row) }) {
			shown = append(shown, row)
		}
	}
	return shown, nil
}

// warnAccepted warns of recoveries that joining accepts, when nobody is asked to confirm: those
// since the keyring was vouched for and since it was last accepted.
func warnAccepted(ctx context.Context, o hsmkeys.Options, before ledger.Point) {
	k, err := hsmkeys.OpenVouched(ctx, o)
	if err != nil {
		return // the keyring was joined without a voucher
	}
	for _, r := range k.State().Recoveries {
		if r.At.Number > before.Number {
			message.Warn(errors.New(session.RecoveryText(r) + "; accepted by joining"))
		}
	}
}

// voucherFlag names a certificate from outside the storage.
func voucherFlag() cli.Flag {
	return &cli.StringFlag{Name: "vouched-by", Usage: "`CERTIFICATE` of an owner or authority who has signed a checkpoint"}
}

func printJoined(s *settings.Settings, k *hsmkeys.Keyring, already bool) error {
	state, self := k.State(), k.Self()
	if s.JSON {
		return output.JSON(map[string]any{
			"keyring": k.ID().String(), "list": state.List, "checkpoint": state.At.String(), "label": self.Label, "role": self.Role.String(),
			"members": show.Members(k), "time": time.Now().UTC().Truncate(time.Second),
		})
	}
	if already {
		return output.Line("joined already: keyring %s, list of members %d, as %s %s", k.ID(), state.List, self.Role, text.Printable(self.Label))
	}
	return output.Line("joined keyring %s as %s %s: list of members %d, checkpoint %d is pinned", k.ID(), self.Role, text.Printable(self.Label), state.List, state.At.Number)
}
