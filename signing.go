package hsmkeys

import (
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ErrRole is for what a member may not do in its role.
var ErrRole = errors.New("not for this member")

// ErrSigningKey is for a signature with another key than the one with which the list
// of members lets the token's holder sign. To read, no signing key is needed.
var ErrSigningKey = errors.New("the keyring knows another signing key for this token")

// mustOwn refuses what only an owner may do, who can sign.
func (k *Keyring) mustOwn(doing string) error {
	if k.pair == nil {
		return errNoToken
	}
	if m := k.Self(); m.Role != blob.Owner {
		return withFacts(fmt.Errorf("%s: %q is a backup authority: %w", doing, m.Label, ErrRole), ErrAuthorityActs)
	}
	return k.maySign(doing)
}

// maySign refuses to sign on top of a state that was not accepted, or with another key
// than the list of members knows for the token: nobody would believe the signature.
func (k *Keyring) maySign(doing string) error {
	if k.pair == nil {
		return errNoToken
	}
	if err := k.trusted(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	return k.knowsSigner(doing)
}

// knowsSigner refuses another signing key than the list of members has for the token.
func (k *Keyring) knowsSigner(doing string) error {
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

// signs is how the token's pair signs, under the name by which the list in force knows it.
func (k *Keyring) signs() blob.Signer {
	m := k.Self()
	return signerOf(k.pair, m.Signing, m.Certificate)
}
