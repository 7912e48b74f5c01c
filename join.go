package hsmkeys

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Join opens a keyring for the first time with the token of somebody whom its list of
// members names: a further owner, the new owner after a recovery, a backup authority.
// Somebody who has signed a checkpoint vouches for it with a certificate that did not come
// from the storage, of the signing key where there is one; or a person with a checkpoint
// that another member has shown. The head is pinned, and [Open] will do from then on.
// To join for the first time accepts all recoveries there have been; and joining again,
// for the new owner, the one that made it that and those before.
//
// A pair that opens nothing is refused, see [Pair.CheckOpens].
func Join(ctx context.Context, o Options) (*Keyring, error) {
	if err := o.Pair.CheckOpens(ctx); err != nil {
		return nil, err
	}
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if k.state.Older != nil {
		return nil, k.trusted()
	}
	if o.Voucher != nil {
		if err := k.knows(o.Voucher); err != nil {
			return nil, err
		}
	}
	if k.state.Before.Number > 0 { // or else joining accepts all of it
		k.state.Recoveries = k.afterOwn(k.state.Recoveries)
	} else {
		k.state.Recoveries = nil
	}
	k.state.Unpinned = false
	if len(k.state.Recoveries) > 0 {
		return k, nil
	}
	k.acceptRecoveries()
	return k, k.keepPin(ctx, onToken)
}

// afterOwn returns the recoveries after the last one that made this pair an owner.
func (k *Keyring) afterOwn(all []ledger.RecoveryEvent) []ledger.RecoveryEvent {
	for i, r := range slices.Backward(all) {
		if keyID(r.To) == string(k.self) {
			return all[i+1:]
		}
	}
	return all
}

// knows refuses a voucher who has never signed for the keyring.
func (k *Keyring) knows(voucher *x509.Certificate) error {
	id, err := blob.PublicKeyID(voucher.PublicKey)
	if err != nil {
		return err
	}
	if _, ok := k.members().Signed(string(id)); !ok {
		return fmt.Errorf("the voucher's key %x is that of no member who has ever signed: %w", id, blob.ErrUntrusted)
	}
	return nil
}

// ReplacePin opens a keyring anew at a checkpoint that another member has shown, whatever
// was pinned before, and pins it. An owner's token records it in a checkpoint of its own.
// Where recoveries have followed the checkpoint that was shown, that one is pinned and nothing
// is recorded: [State] has them, to be accepted.
func ReplacePin(ctx context.Context, o Options) (*Keyring, error) {
	if o.Checkpoint == nil {
		return nil, fmt.Errorf("replace the pin: no checkpoint of another member: %w", ErrStale)
	}
	before := o.Pins
	if before == nil {
		before = NewPins(o.Pair.Records(), "")
	}
	o.Pins = &Pins{} // what is pinned is what went wrong
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if k.state.Older != nil {
		return nil, k.trusted()
	}
	was, err := before.load(ctx, hex.EncodeToString(k.self))
	if err != nil {
		return nil, err
	}
	k.pins = before
	pin := k.pinned()
	if k.state.Recoveries = k.afterOwn(k.state.Recoveries); len(k.state.Recoveries) > 0 {
		pin.At = *o.Checkpoint
		return k, k.pins.keep(ctx, pin, onToken, nil)
	}
	k.acceptRecoveries()
	if err := k.pins.keep(ctx, pin, onToken, nil); err != nil {
		return nil, err
	}
	if k.Self().Role != blob.Owner || k.knowsSigner("") != nil {
		return k, nil // an authority signs nothing but recoveries
	}
	reason := fmt.Sprintf("pin of %s replaced by checkpoint %d", k.Self().Label, k.state.At.Number)
	for _, p := range was {
		if p.of(k.pinned()) {
			reason = fmt.Sprintf("pin of %s at checkpoint %d:%x replaced by checkpoint %d", k.Self().Label, p.At.Number, p.At.Digest[:4], k.state.At.Number)
		}
	}
	return k, k.recordOther(ctx, ledger.Proposal{Notes: []ledger.Change{{Op: ledger.ReplacePin, Reason: reason}}}, onToken)
}

// MemberOf returns the member whose pair it is, by the list in force, or the error with
// which [Join] would refuse the pair. It is for a keyring that was opened without a token.
func (k *Keyring) MemberOf(pair Pair) (blob.Member, error) {
	id, err := blob.PublicKeyID(pair.Public())
	if err != nil {
		return blob.Member{}, err
	}
	m, ok := k.members().Member(string(id))
	if !ok {
		return m, k.notNamed(id)
	}
	return m, nil
}

// notNamed is for a pair that the list in force does not name.
func (k *Keyring) notNamed(pair []byte) error {
	all := k.members()
	inList := func(format string, args ...any) error {
		return fmt.Errorf("list of members %d: "+format+": %w", append(append([]any{all.List().Number}, args...), blob.ErrUntrusted)...)
	}
	if left := all.LeftAt(string(pair), ledger.KeyID); left > 0 {
		if r := all.ListNumber(left).Recovery; r != nil && string(r.From) == string(pair) {
			return withFacts(inList("a recovery has put %q in its place, by list %d (%s)", all.RecoveredTo(left).Label, left, r.Reason), &NotMember{Role: blob.Owner, Recovered: true})
		}
		was, _ := all.Known(string(pair))
		return withFacts(inList("this token's pair is no member since list %d", left), &NotMember{Role: was.Role})
	}
	if m, ok := all.Signer(string(pair)); ok {
		return withFacts(inList("this token's pair is named as the signing key of %q", m.Label), ErrIsSigningKey)
	}
	return withFacts(inList("this token's pair is not named"), ErrNeverNamed)
}
