package hsmkeys

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Errors of opening a keyring. Those of package ledger come as they are: an old state is
// a [ledger.ErrRollback], two copies that were written to are a [ledger.ErrFork].
var (
	// ErrNotJoined is for a keyring that the token has neither founded nor joined. It
	// comes with a [blob.ErrIntegrity]: it may be somebody else's, put into the storage.
	ErrNotJoined = errors.New("this token has not joined the keyring")

	// ErrOtherKeyring, a kind of [blob.ErrIntegrity], is for another keyring than the
	// caller knows for the store.
	ErrOtherKeyring = fmt.Errorf("another keyring: %w", blob.ErrIntegrity)

	// ErrStale is for a state under which nothing is encrypted or signed: an older one
	// that was asked for, one that no pin vouches for, or one that is too old.
	ErrStale = errors.New("the state of the keyring is not known to be the newest")
)

// Options are how a keyring is opened.
type Options struct {
	Store blob.Store
	Pair  Pair  // the member's; nil for [OpenWithCertificate] and [OpenVouched]
	Pins  *Pins // nil: in the records of the pair alone

	// Keyring is the identifier that the keyring must have; the zero value means any.
	Keyring blob.ID
	// Checkpoint is believed beside the pin, or in place of one that is missing.
	Checkpoint *ledger.Point
	// Voucher is the certificate of a member who has signed a checkpoint, for those who have
	// not joined. It must not come from the storage.
	Voucher *x509.Certificate

	// OlderState allows to decrypt with what is there if the newest state is missing, or no
	// longer has the pair as a member.
	OlderState bool
	// MaxAge is the age of the newest checkpoint above which nothing is encrypted; 0 means any.
	MaxAge time.Duration

	// Password returns the passwords of keys that come from one; nil: they cannot be opened.
	Password PasswordFunc
	// Warn is told of what is wrong and does not stop the work, such as a revision of a key that
	// cannot be opened, in whose place the one before it is used. Many goroutines may call it;
	// it may be nil.
	Warn func(error)
	// NoReadBack leaves out what is done before a key is stored: to unwrap again what the token
	// has wrapped to its own pair, and to compare it. That costs one private key operation for
	// each key.
	NoReadBack bool
}

// State is what opening a keyring has found out.
type State struct {
	At     ledger.Point // the head: the newest checkpoint
	Signed time.Time    // when it was signed
	List   int          // number of the list of members in force

	Before     ledger.Point // what was accepted before; zero where there was no pin
	BeforeList int          // the list then in force; 0 where that is not known any more

	Unpinned   bool                   // no pin was found: nothing is encrypted or signed
	Recoveries []ledger.RecoveryEvent // that were not accepted yet: nothing is encrypted or signed
	Older      error                  // the newest state is missing: nothing is encrypted or signed
}

// Open opens a keyring, with the token of a member.
//
// Trust starts at the pin: which checkpoint this pair has accepted last. A storage that
// shows an older one, or another one in its place, is refused with [ledger.ErrRollback] or
// [ledger.ErrFork]; a newer one is accepted when it is signed by an owner and descends from
// the pin, and is pinned in its place. Where there is no pin, trust starts at the newest
// checkpoint that the pair itself has signed; nothing is encrypted or signed then before
// the token has joined anew. A pair that has signed none must [Join].
func Open(ctx context.Context, o Options) (*Keyring, error) {
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	return k, k.accept(ctx, inFile)
}

// OpenWithCertificate opens a keyring without a token, to list and verify it. Trust starts
// at the public key of the Voucher, which must not come from the storage and must be that
// of an owner in force. With Pins, the head is pinned in their directory, and an older one is
// noticed from then on.
func OpenWithCertificate(ctx context.Context, o Options) (*Keyring, error) {
	o.Pair = nil
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if m, _ := k.members().Signer(string(k.self)); m.Role != blob.Owner {
		return nil, withFacts(fmt.Errorf("the certificate's key %x is not that of an owner in force: %w", k.self, blob.ErrUntrusted), ErrNotOwner)
	}
	return k, k.accept(ctx, inFile)
}

// OpenVouched opens a keyring without a token, to look at it before it is joined: at its
// head, believed because of somebody who has signed a checkpoint, or of a checkpoint that
// another member has shown. Nothing is pinned.
func OpenVouched(ctx context.Context, o Options) (*Keyring, error) {
	o.Pair, o.Pins = nil, nil
	return open(ctx, o, false)
}

// open opens a keyring at its head and pins nothing. With founding a head that only the
// pair's own signature vouches for is as good as one that is pinned.
func open(ctx context.Context, o Options, founding bool) (*Keyring, error) {
	k := &Keyring{options: o, store: o.Store, pair: o.Pair, pins: o.Pins}
	if err := k.identify(o); err != nil {
		return nil, err
	}
	if err := checkBound(ctx, o); err != nil {
		return nil, err
	}
	trust := ledger.Trust{Checkpoint: o.Checkpoint, OlderState: o.OlderState}
	if k.pins != nil {
		pins, err := k.pins.load(ctx, hex.EncodeToString(k.self))
		if err != nil {
			return nil, err
		}
		for _, p := range pins {
			trust.Pins = append(trust.Pins, p.Pin)
		}
	}
	own := k.pair != nil && o.Voucher == nil
	if own {
		signer, _ := k.pair.Signer()
		trust.Voucher = signer.Public()
	} else if o.Voucher != nil {
		trust.Voucher = o.Voucher.PublicKey
	}
	head, report, err := ledger.Open(ctx, o.Store, trust)
	if err != nil {
		return nil, openError(err, own)
	}
	k.head = head
	k.found(ctx, report, own && !founding)
	if k.pair == nil {
		return k, nil
	}
	if _, ok := k.members().Member(string(k.self)); ok {
		return k, nil
	}
	removed := k.notNamed(k.self)
	if o.OlderState && k.stay(ctx, trust, removed) {
		return k, nil
	}
	return nil, removed
}

// stay goes back to what was accepted last, where this pair was still a member, and reports
// whether there is such a state: what it could decrypt then, it still can.
func (k *Keyring) stay(ctx context.Context, trust ledger.Trust, removed error) bool {
	trust.Stay = true
	head, report, err := ledger.Open(ctx, k.store, trust)
	if err != nil {
		return false
	}
	k.head = head
	k.found(ctx, report, false)
	k.state.Older = removed
	_, ok := k.members().Member(string(k.self))
	return ok
}

// checkBound refuses a store that holds another keyring than the caller knows for it, or
// none any more. Nobody has verified which one it says that it holds: that it is the right
// one, its signatures will have to show.
func checkBound(ctx context.Context, o Options) error {
	if o.Keyring == (blob.ID{}) {
		return nil
	}
	switch id, _, err := ledger.Peek(ctx, o.Store); {
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		return fmt.Errorf("the store has no keyring, and keyring %s belongs there: %w", o.Keyring, ErrOtherKeyring)
	case err == nil && id != o.Keyring:
		return fmt.Errorf("the store has keyring %s, not %s: %w", id, o.Keyring, ErrOtherKeyring)
	}
	return nil // what else is wrong, opening it says
}

// identify sets whose keyring it is: that of the pair, or of the certificate that is
// trusted in its place.
func (k *Keyring) identify(o Options) (err error) {
	if k.pair == nil {
		if o.Voucher != nil {
			k.self, err = blob.PublicKeyID(o.Voucher.PublicKey)
		}
		return err
	}
	if k.pins == nil {
		k.pins = NewPins(k.pair.Records(), "")
	}
	if k.self, err = blob.PublicKeyID(k.pair.Public()); err != nil {
		return err
	}
	signer, _ := k.pair.Signer()
	if k.signer, err = blob.PublicKeyID(signer.Public()); err != nil {
		return fmt.Errorf("signing key: %w", err)
	}
	return nil
}

// found keeps what opening has found. own says that the pair's own signature counts in the
// place of a pin, for reading.
func (k *Keyring) found(ctx context.Context, r ledger.Report, own bool) {
	k.state = State{
		At: k.head.At(), Signed: k.head.Head().SigningTime(), List: k.ListNumber(),
		Before: r.Before, Unpinned: r.Unpinned && own, Older: r.Older,
	}
	if r.Unpinned {
		k.state.Before = ledger.Point{}
	}
	k.state.BeforeList = k.listAt(ctx, k.state.Before)
	// A recovery that this pair has signed, and was kept from pinning, needs nobody to accept it.
	k.state.Recoveries = slices.DeleteFunc(slices.Clone(r.Recoveries), func(e ledger.RecoveryEvent) bool {
		return len(k.signer) > 0 && ledger.SignerID(e.Authority) == string(k.signer)
	})
	if len(k.state.Recoveries) == 0 {
		k.head = k.head.Accept(k.head.At())
	}
}

// listAt returns the number of the list of members in force at a point that was accepted,
// or 0 where the checkpoint is not there.
func (k *Keyring) listAt(ctx context.Context, at ledger.Point) int {
	if at == k.head.At() {
		return k.ListNumber()
	}
	der, err := k.store.Get(ctx, blob.CheckpointPath(at.Digest))
	if err != nil {
		return 0
	}
	u, err := blob.ParseCheckpoint(der)
	if err != nil {
		return 0
	}
	v, err := u.VerifyDigest(at.Digest)
	if err != nil {
		return 0
	}
	return v.Checkpoint().List.Number
}

// openError says more about a keyring that was not opened. own says that the pair's own
// signature was looked for.
func openError(err error, own bool) error {
	switch {
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		return withFacts(err, ErrNoKeyring)
	case errors.Is(err, ledger.ErrUnpinned) && own:
		return fmt.Errorf("%w: %w", ErrNotJoined, err)
	case errors.Is(err, ledger.ErrUnpinned):
		return err
	}
	return err
}

// State returns what opening the keyring has found, and the head of now.
func (k *Keyring) State() State {
	s := k.known()
	s.At, s.Signed, s.List = k.view().At(), k.view().Head().SigningTime(), k.ListNumber()
	return s
}
