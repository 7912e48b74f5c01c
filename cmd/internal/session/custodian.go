package session

import (
	"context"
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// An AsCustodian is how a keyring is opened with the token of a custodian.
type AsCustodian struct {
	Quorum    hsmkeys.QuorumName
	VouchedBy string        // file of a certificate from outside the storage; "" once the keyring is pinned
	Trusted   *ledger.Point // checkpoint that this machine trusts, for a token that has pinned none; may be nil
	Yes       bool          // accept recoveries without a question

	// Recoveries returns what a person sees of the recoveries that wait to be accepted.
	Recoveries func(*hsmkeys.Keyring) [][]string
}

// WithCustodian logs in to the token of a custodian, without an agent, and calls f.
func WithCustodian(ctx context.Context, s *settings.Settings, as AsCustodian, f func(*hsmkeys.Custodian) error) error {
	o := hsmkeys.Options{}
	if as.VouchedBy != "" {
		voucher, err := keyfile.ReadCertificate(as.VouchedBy)
		if err != nil {
			return err
		}
		o.Voucher = voucher
	}
	if err := checkSelector(s); err != nil {
		return err
	}
	return withStorePair(ctx, s, nil, func(_ Token, pair Pair, store place.Store) error {
		voucher := o.Voucher
		o, err := Options(s, store)
		if err != nil {
			return err
		}
		o.Pair, o.Pins, o.Voucher = pair, Pins(pair.Records()), voucher
		if as.Trusted != nil {
			o.Checkpoint = as.Trusted
		}
		c, err := hsmkeys.OpenCustodian(ctx, o, as.Quorum)
		if err != nil {
			return ExplainCheckpoint(o, err)
		}
		if err := acceptAsCustodian(ctx, c, as); err != nil {
			return err
		}
		return f(c)
	})
}

// acceptAsCustodian has a person accept the recoveries since this token last looked: the one that the
// custodian has approved too.
func acceptAsCustodian(ctx context.Context, c *hsmkeys.Custodian, as AsCustodian) error {
	if len(c.Keyring().State().Recoveries) == 0 {
		return nil
	}
	for _, r := range c.Keyring().State().Recoveries {
		message.Warn(errors.New(RecoveryText(r)))
	}
	if err := confirm.Possible(as.Yes); err != nil {
		return failure.WithHint(c.Keyring().Trusted(), "if it is as it was told to this custodian, add --yes, or run it at a terminal")
	}
	if err := confirm.Ask(ctx, as.Yes, as.Recoveries(c.Keyring()), "Accept this, and trust what the new owner signs?"); err != nil {
		return errors.Join(c.Keyring().Trusted(), err)
	}
	return c.Accept(ctx)
}
