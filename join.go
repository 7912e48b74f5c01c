package hsmkeys

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/subtle"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// ErrNotJoined is for a keyring that the token has neither founded nor joined. It
// comes with a [blob.ErrIntegrity]: it may be somebody else's, put into the storage.
var ErrNotJoined = errors.New("this token has not joined the keyring")

// State is what opening a keyring has found out about its list of members.
type State struct {
	Number int    // of the newest list
	Before int    // of the list that was pinned before, 0 when there was none
	Where  string // the pin is now; empty without a token
}

// OpenKeyring opens a keyring with the token of a member.
//
// Trust starts at the pin: which list of members this pair has accepted last. A
// storage that shows an older list, or another one in its place, is refused with
// [ErrRollback]; a newer one is accepted when each list on the way is signed by
// who may sign it, and is pinned. Where there is no pin yet, trust starts at the
// lists that the pair itself has signed. A pair that has signed none must [Join].
//
// Without pins they are kept on the token alone, see [PinsOn].
func OpenKeyring(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins) (*Keyring, error) {
	return open(ctx, t, pair, store, pins, nil)
}

// Join opens a keyring for the first time with the token of somebody whom its
// list of members names: a further owner, the new owner after a recovery, a backup
// authority. An owner or authority who has signed a list vouches for it with
// a certificate that did not come from the storage: of its signing key, where it has
// one. The newest list is pinned, and [OpenKeyring] will do from then on.
//
// A pair that opens nothing is refused, see [token.KeyPair.CheckOpens].
func Join(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins, voucher *x509.Certificate) (*Keyring, error) {
	if err := pair.CheckOpens(ctx); err != nil {
		return nil, err
	}
	return open(ctx, t, pair, store, pins, voucher.PublicKey)
}

func open(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins, voucher crypto.PublicKey) (*Keyring, error) {
	if pins == nil {
		pins = PinsOn(t, "")
	}
	self, err := blob.SubjectKeyID(pair.Public())
	if err != nil {
		return nil, err
	}
	signer, err := blob.SubjectKeyID(pair.Signing().Public())
	if err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	k := &Keyring{store: store, token: t, pair: pair, pins: pins, self: self, signer: signer}
	lists, err := readLists(ctx, store)
	if err != nil {
		return nil, err
	}
	pin, err := k.findPin(ctx, lists)
	if err != nil {
		return nil, err
	}
	first := pin.First
	if voucher != nil || pin.Number == 0 {
		if first, err = k.vouched(lists, voucher); err != nil {
			return nil, err
		}
	}
	if k.chain, err = verifyChain(store, lists, first); err != nil {
		return nil, err
	}
	if _, ok := k.chain.members[string(self)]; !ok {
		return nil, k.notNamed(self)
	}
	return k, k.pin(ctx, pin)
}

// vouched gives the digest of the first list, as the voucher's signature has it,
// or the pair's own where there is no voucher.
func (k *Keyring) vouched(lists []storedList, voucher crypto.PublicKey) ([sha256.Size]byte, error) {
	if voucher != nil {
		first, err := firstFrom(lists, voucher)
		if errors.Is(err, blob.ErrUntrusted) && signsWithAnother(lists, voucher) {
			err = hint(err, useSigningCertificate)
		} else if errors.Is(err, blob.ErrUntrusted) {
			err = hint(err, "the voucher must have signed a list of members; is this the right certificate, and the right --store?")
		}
		return first, err
	}
	signing := k.pair.Signing().Public()
	first, err := firstFrom(lists, signing)
	if errors.Is(err, blob.ErrUntrusted) {
		what := "hsmkeys join --vouched-by CERTIFICATE, of an owner or backup authority who has signed a list of members; or somebody put another keyring into the storage"
		if signsWithAnother(lists, signing) {
			what = "the lists name another key that signs for this token: name it with --signing-key"
		}
		err = hint(fmt.Errorf("%w: %w", ErrNotJoined, err), what)
	}
	return first, err
}

// useSigningCertificate is for a certificate of somebody who signs with another key.
const useSigningCertificate = "the lists name another key that signs for the holder of this certificate: take the certificate of that key"

// MemberOf returns the member whose pair it is, by the newest list, or the error with
// which [Join] would refuse the pair. It is for a keyring that was opened without a token.
func (k *Keyring) MemberOf(pair *token.KeyPair) (blob.Member, error) {
	id, err := blob.SubjectKeyID(pair.Public())
	if err != nil {
		return blob.Member{}, err
	}
	m, ok := k.chain.members[string(id)]
	if !ok {
		return m, k.notNamed(id)
	}
	return m, nil
}

// notNamed is for a pair that the newest list does not name.
func (k *Keyring) notNamed(pair []byte) error {
	number := k.chain.newest.Number
	if left := k.chain.leftAt(pair, keyID); left > 0 {
		add := "hsmkeys owner add"
		if k.chain.known[string(pair)].Role == blob.BackupAuthority {
			add = "hsmkeys authority add"
		}
		return hint(inList(number, fmt.Errorf("this token's pair is no member since list %d: %w", left, blob.ErrUntrusted)),
			"an owner can add it again ("+add+")")
	}
	if m, ok := k.chain.signers[string(pair)]; ok {
		return hint(inList(number, fmt.Errorf("this token's pair is named as the signing key of %q: %w", m.Label, blob.ErrUntrusted)),
			"name its key exchange pair, and this one with --signing-key")
	}
	return hint(inList(number, fmt.Errorf("this token's pair is not named: %w", blob.ErrUntrusted)),
		"an owner adds it (hsmkeys owner add or hsmkeys authority add), a recovery names it (hsmkeys recover --to)")
}

// OpenWithCertificate opens a keyring without a token, to list and verify it.
// Trust starts at the public key of the certificate, which must have signed one of
// the lists of members, and must not come from the storage. Without a token there
// is no pin: an old state of the storage is not noticed.
func OpenWithCertificate(ctx context.Context, certificate *x509.Certificate, store blob.Store) (*Keyring, error) {
	lists, err := readLists(ctx, store)
	if err != nil {
		return nil, err
	}
	first, err := firstFrom(lists, certificate.PublicKey)
	if errors.Is(err, blob.ErrUntrusted) && signsWithAnother(lists, certificate.PublicKey) {
		return nil, hint(err, useSigningCertificate)
	}
	if errors.Is(err, blob.ErrUntrusted) {
		return nil, hint(err, "use the certificate of an owner who has signed a list of members; the one who founded the keyring has")
	}
	if err != nil {
		return nil, err
	}
	c, err := verifyChain(store, lists, first)
	if err != nil {
		return nil, err
	}
	return &Keyring{store: store, chain: c, state: State{Number: c.newest.Number}}, nil
}

// findPin finds the pin of the keyring that is in the store, by the digest of its
// first list, and holds the lists against it. Without one it gives number 0.
func (k *Keyring) findPin(ctx context.Context, lists []storedList) (Pin, error) {
	pins, err := k.pins.load(ctx, hex.EncodeToString(k.self))
	if err != nil {
		return Pin{}, err
	}
	var pin Pin
	for _, p := range pins {
		if p.First == lists[0].digest && p.Number > pin.Number {
			pin = p
		}
	}
	const found = "somebody has put an old state of the storage back, or deleted a list; take the store from a backup that is newer"
	switch {
	case pin.Number > len(lists):
		return Pin{}, hint(fmt.Errorf("the newest list of members in the store has number %d, this token has accepted number %d: %w", len(lists), pin.Number, ErrRollback), found)
	case pin.Number > 0 && subtle.ConstantTimeCompare(lists[pin.Number-1].digest[:], pin.Digest[:]) != 1:
		return Pin{}, hint(fmt.Errorf("list of members %d is another one than this token has accepted under number %d (the newest in the store has number %d): %w", pin.Number, pin.Number, len(lists), ErrRollback), found)
	}
	return pin, nil
}

// pin keeps the newest list, when it is not the one that is pinned already.
func (k *Keyring) pin(ctx context.Context, before Pin) error {
	k.state = State{Number: k.chain.newest.Number, Before: before.Number}
	newest := Pin{
		Pair: hex.EncodeToString(k.self), Keyring: k.ID(), First: k.chain.lists[0].Digest(),
		Number: k.state.Number, Digest: k.chain.lists[k.state.Number-1].Digest(),
	}
	if newest == before {
		return nil
	}
	var err error
	k.state.Where, err = k.pins.keep(ctx, newest)
	return err
}

// State tells which list of members is the newest, and what was pinned.
func (k *Keyring) State() State { return k.state }
