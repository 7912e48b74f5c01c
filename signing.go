package hsmkeys

import (
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrRole is the error for what a member may not do in its role.
var ErrRole = errors.New("not for this member")

// ErrSigningKey is the error for signing with another key than the list of members has for the
// member. Reading needs no signing key.
var ErrSigningKey = errors.New("the keyring knows another signing key for this token")

// mustOwn returns an error unless the pair is an owner's and may sign. doing is for the error.
func (k *Keyring) mustOwn(doing string) error {
	if k.pair == nil {
		return errNoToken
	}
	if m := k.Self(); m.Role != blob.Owner {
		return withFacts(fmt.Errorf("%s: %q is a backup authority: %w", doing, m.Label, ErrRole), ErrAuthorityActs)
	}
	return k.maySign(doing)
}

// maySign returns an error if the state was not accepted, or if the list of members has another
// signing key for the member, so that nobody would accept the signature.
func (k *Keyring) maySign(doing string) error {
	if k.pair == nil {
		return errNoToken
	}
	if err := k.Trusted(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return k.checkOwnSigner(doing)
}

// checkOwnSigner returns an error if the list of members has another signing key for the member.
func (k *Keyring) checkOwnSigner(doing string) error {
	m := k.Self()
	known := ledger.SignerID(m)
	if known == string(k.signer) {
		return nil
	}
	err := fmt.Errorf("%s: %w: %x, and not %x", doing, ErrSigningKey, known, k.signer)
	if m.Signing == nil {
		return withFacts(err, ErrSignsItself)
	}
	return err
}

// signs returns how the token's pair signs, under its identifier in the list in force.
func (k *Keyring) signs() blob.Signer {
	m := k.Self()
	return signerOf(k.pair, m.Signing, m.Certificate)
}
