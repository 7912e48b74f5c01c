package hsmkeys

import (
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// verifyBlob parses a blob and verifies that somebody who is or was a member has signed it for the
// place where it was found. It can be believed if the state of the keyring names its digest:
// whoever signed the state has checked that the signer was entitled to it.
func (k *Keyring) verifyBlob(der []byte, at blob.Place) (*blob.Blob, error) {
	unverified, err := blob.Parse(der)
	if err != nil {
		return nil, err
	}
	all := k.members()
	trusted, name := all.Owners(), unverified.SignerIdentifier()
	if m, ok := all.EverSigner(string(all.Key(name))); ok {
		trusted = []blob.Party{{Key: m.Signer(), ID: name}}
	}
	b, err := unverified.Verify(trusted, at)
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, withFacts(all.ExplainUntrusted(err, name), ErrStranger)
	}
	if err != nil {
		return nil, err
	}
	return b, k.checkSigner(b)
}

// checkSigner refuses what a backup authority has signed outside a recovery.
func (k *Keyring) checkSigner(b *blob.Blob) error {
	all := k.members()
	signer, _ := all.EverSigner(string(b.SignerKeyID()))
	r := b.Descriptor().Recovery
	switch {
	case signer.Role == blob.Owner && r == nil:
		return nil
	case r == nil:
		return withFacts(fmt.Errorf("signed by the backup authority %q outside a recovery: %w", signer.Label, blob.ErrUntrusted), ErrAuthoritySigned)
	case r.List > all.List().Number || all.ListNumber(r.List).Recovery == nil || string(all.ListNumber(r.List).Recovery.From) != string(r.From):
		return notARecovery("list of members %d is no recovery from %x", r.List, r.From)
	}
	return nil
}

func notARecovery(format string, args ...any) error {
	return withFacts(fmt.Errorf("not a recovery of this keyring: "+format+": %w", append(args, blob.ErrUntrusted)...), ErrAuthoritySigned)
}

// sameKey reports whether two blobs say that they hold the same key.
func sameKey(a, b *blob.Blob) bool {
	d, e := a.Descriptor(), b.Descriptor()
	madeA, _ := a.Derivation()
	madeB, _ := b.Derivation()
	return d.KeyID == e.KeyID && d.Created.Equal(e.Created) && d.Purpose == e.Purpose &&
		a.Algorithm() == b.Algorithm() && isDerived(a) == isDerived(b) && madeA == madeB && d.Legacy.Equal(e.Legacy) && d.Imported == e.Imported &&
		slices.Equal(d.CheckValue, e.CheckValue) && slices.Equal(d.Confirmation, e.Confirmation)
}
