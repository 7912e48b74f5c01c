package hsmkeys

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"syscall"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// Errors of opening a keyring. Those of package ledger come as they are: an old state is
// a [ledger.ErrRollback], two copies that were written to are a [ledger.ErrFork].
var (
	// ErrNotJoined is for a keyring that the token has neither founded nor joined. It
	// comes with a [blob.ErrIntegrity]: it may be somebody else's, put into the storage.
	ErrNotJoined = errors.New("this token has not joined the keyring")

	// ErrOtherKeyring, a kind of [blob.ErrIntegrity], is for another keyring than the
	// caller knows for the store.
	ErrOtherKeyring = fmt.Errorf("another keyring than the one of this store: %w", blob.ErrIntegrity)

	// ErrStale is for a state under which nothing is encrypted or signed: an older one
	// that was asked for, one that no pin vouches for, or one that is too old.
	ErrStale = errors.New("the state of the keyring is not known to be the newest")
)

// Options say how a keyring is opened. Token and Pair go together; without them the
// Voucher's certificate is what is trusted.
type Options struct {
	Store blob.Store
	Token *token.Token
	Pair  *token.KeyPair
	Pins  *Pins // nil: on the token alone, see [PinsOn]

	Keyring    blob.ID           // which keyring it must be; zero: any
	Checkpoint *ledger.Point     // believed beside the pin, or in its place where there is none
	Voucher    *x509.Certificate // of somebody who has signed a checkpoint; for who has not joined
	OlderState bool              // to decrypt with what is there, where the newest state is not
	MaxAge     time.Duration     // of a state that is encrypted under; 0: any
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

// OpenKeyring is [Open] with a token, and nothing else chosen.
func OpenKeyring(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins) (*Keyring, error) {
	return Open(ctx, Options{Store: store, Token: t, Pair: pair, Pins: pins})
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

// Join opens a keyring for the first time with the token of somebody whom its list of
// members names: a further owner, the new owner after a recovery, a backup authority.
// Somebody who has signed a checkpoint vouches for it with a certificate that did not come
// from the storage, of the signing key where there is one; or a person with a checkpoint
// that another member has shown. The head is pinned, and [Open] will do from then on.
// To join for the first time accepts all recoveries there have been; and joining again,
// for the new owner, the one that made it that and those before.
//
// A pair that opens nothing is refused, see [token.KeyPair.CheckOpens].
func Join(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins, voucher *x509.Certificate) (*Keyring, error) {
	return JoinWith(ctx, Options{Store: store, Token: t, Pair: pair, Pins: pins, Voucher: voucher})
}

// JoinWith is Join with options.
func JoinWith(ctx context.Context, o Options) (*Keyring, error) {
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
	id, err := blob.SubjectKeyID(voucher.PublicKey)
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
func ReplacePin(ctx context.Context, o Options) (*Keyring, error) {
	if o.Checkpoint == nil {
		return nil, fmt.Errorf("replace the pin: no checkpoint of another member: %w", ErrStale)
	}
	before := o.Pins
	if before == nil {
		before = PinsOn(o.Token, "")
	}
	o.Pins = &Pins{} // what is pinned is what went wrong
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	was, err := before.load(ctx, hex.EncodeToString(k.self))
	if err != nil {
		return nil, err
	}
	k.acceptRecoveries()
	k.pins = before
	if err := k.pins.keep(ctx, k.pinned(), onToken, true); err != nil {
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

// OpenWithCertificate opens a keyring without a token, to list and verify it. Trust starts
// at the public key of the Voucher, which must not come from the storage and must be that
// of an owner in force. With Pins, the head is pinned in their directory, and an older one is
// noticed from then on.
func OpenWithCertificate(ctx context.Context, o Options) (*Keyring, error) {
	o.Token, o.Pair = nil, nil
	k, err := open(ctx, o, false)
	if err != nil {
		return nil, err
	}
	if m, _ := k.members().Signer(string(k.self)); m.Role != blob.Owner {
		return nil, hint(fmt.Errorf("the certificate's key %x is not that of an owner in force: %w", k.self, blob.ErrUntrusted), "use the certificate of an owner of today")
	}
	return k, k.accept(ctx, inFile)
}

// OpenVouched opens a keyring without a token, to look at it before it is joined: at its
// head, believed because of somebody who has signed a checkpoint, or of a checkpoint that
// another member has shown. Nothing is pinned.
func OpenVouched(ctx context.Context, o Options) (*Keyring, error) {
	o.Token, o.Pair, o.Pins = nil, nil, nil
	return open(ctx, o, false)
}

// open opens a keyring at its head and pins nothing. With founding a head that only the
// pair's own signature vouches for is as good as one that is pinned.
func open(ctx context.Context, o Options, founding bool) (*Keyring, error) {
	k := &Keyring{store: o.Store, token: o.Token, pair: o.Pair, pins: o.Pins, maxAge: o.MaxAge}
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
		trust.Voucher = k.pair.Signing().Public()
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
	if _, ok := k.members().Member(string(k.self)); !ok {
		return nil, k.notNamed(k.self)
	}
	return k, nil
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
			k.self, err = blob.SubjectKeyID(o.Voucher.PublicKey)
		}
		return err
	}
	if k.pins == nil {
		k.pins = PinsOn(k.token, "")
	}
	if k.self, err = blob.SubjectKeyID(k.pair.Public()); err != nil {
		return err
	}
	if k.signer, err = blob.SubjectKeyID(k.pair.Signing().Public()); err != nil {
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
		return hint(err, "hsmkeys init founds one; is this the right --store?")
	case errors.Is(err, ledger.ErrUnpinned) && own:
		return hint(fmt.Errorf("%w: %w", ErrNotJoined, err),
			"hsmkeys join --vouched-by CERTIFICATE, of an owner or backup authority who has signed a checkpoint; or the lists name another key that signs for this token (--signing-key); or somebody put another keyring into the storage")
	case errors.Is(err, ledger.ErrUnpinned):
		return hint(err, "use the certificate of the signing key of an owner who has signed a checkpoint")
	}
	return err
}

// accept pins the head, unless a person has to accept it first.
func (k *Keyring) accept(ctx context.Context, where place) error {
	if s := k.known(); s.Unpinned || s.Older != nil || len(s.Recoveries) > 0 {
		return nil
	}
	return k.keepPin(ctx, where)
}

// Accept accepts the recoveries up to a checkpoint, and pins the head where none is left.
// The point must be that of the last recovery in [State].
func (k *Keyring) Accept(ctx context.Context, at ledger.Point) error {
	recoveries := k.known().Recoveries
	n := len(recoveries)
	if n == 0 {
		return fmt.Errorf("accept checkpoint %v: no recovery waits to be accepted there: %w", at, blob.ErrNotFound)
	}
	if recoveries[n-1].At != at {
		return fmt.Errorf("accept checkpoint %v: the recovery is checkpoint %v: %w", at, recoveries[n-1].At, blob.ErrMisplaced)
	}
	k.acceptRecoveries()
	return k.keepPin(ctx, onToken)
}

// acceptRecoveries accepts all recoveries that were found.
func (k *Keyring) acceptRecoveries() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.head, k.state.Recoveries = k.head.Accept(k.head.At()), nil
}

// pinned is the head as a pin of this pair.
func (k *Keyring) pinned() Pin { return Pin{hex.EncodeToString(k.self), k.view().Pin()} }

// keepPin pins the head. What is pinned must be durable, whoever has stored it.
func (k *Keyring) keepPin(ctx context.Context, where place) error {
	if k.pins == nil {
		return nil
	}
	pin := k.pinned()
	if pin.At != k.state.Before {
		err := k.view().Sync(ctx)
		if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) {
			return err
		}
	}
	return k.pins.keep(ctx, pin, where, false)
}

// Trusted returns why the state is not known to be the newest and accepted, so that nothing
// is encrypted or signed; or nil.
func (k *Keyring) Trusted() error { return k.trusted() }

// trusted refuses to build upon a state that is not known to be the newest, or that a
// recovery has led to which was not accepted.
func (k *Keyring) trusted() error {
	switch s := k.known(); {
	case s.Older != nil:
		return fmt.Errorf("%w: %w", ErrStale, s.Older)
	case s.Unpinned:
		return hint(fmt.Errorf("%w: no pin of it is on the token or in a file", ErrStale), "hsmkeys join, or --checkpoint with the checkpoint that another member shows")
	case len(s.Recoveries) > 0:
		last := s.Recoveries[len(s.Recoveries)-1]
		return hint(fmt.Errorf("checkpoint %d puts %q in the place of %q: %w", last.At.Number, last.To.Label, last.From.Label, ledger.ErrUnaccepted),
			fmt.Sprintf("hsmkeys accept %v shows it and asks", last.At))
	}
	return nil
}

// mayEncrypt refuses to encrypt under a state that is not known to be the newest, or that
// is older than the caller has set.
func (k *Keyring) mayEncrypt() error {
	if err := k.trusted(); err != nil || k.maxAge == 0 {
		return err
	}
	created := k.view().Head().Checkpoint().Created
	age := time.Since(created)
	switch {
	case age > k.maxAge:
		return hint(fmt.Errorf("%w: checkpoint %d is of %s, older than %v", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339), k.maxAge), "an owner's hsmkeys checkpoint --fresh makes a new one")
	case -age > clockSkew:
		return fmt.Errorf("%w: checkpoint %d is of %s, ahead of this clock", ErrStale, k.view().At().Number, created.UTC().Format(time.RFC3339))
	}
	return nil
}

// clockSkew is how far ahead of this clock a checkpoint may be.
const clockSkew = 10 * time.Minute

// MemberOf returns the member whose pair it is, by the list in force, or the error with
// which [Join] would refuse the pair. It is for a keyring that was opened without a token.
func (k *Keyring) MemberOf(pair *token.KeyPair) (blob.Member, error) {
	id, err := blob.SubjectKeyID(pair.Public())
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
			return hint(inList("a recovery has put %q in its place, by list %d (%s)", all.RecoveredTo(left).Label, left, r.Reason),
				"hsmkeys log of another member shows which backup authority did it; where this token is not lost, another owner removes the new one and adds this one again")
		}
		add := "hsmkeys owner add"
		if was, _ := all.Known(string(pair)); was.Role == blob.BackupAuthority {
			add = "hsmkeys authority add"
		}
		return hint(inList("this token's pair is no member since list %d", left), "an owner can add it again ("+add+")")
	}
	if m, ok := all.Signer(string(pair)); ok {
		return hint(inList("this token's pair is named as the signing key of %q", m.Label), "name its key exchange pair, and this one with --signing-key")
	}
	return hint(inList("this token's pair is not named"),
		"an owner adds it (hsmkeys owner add or hsmkeys authority add), a recovery names it (hsmkeys recover --to)")
}

// State returns what opening the keyring has found, and the head of now.
func (k *Keyring) State() State {
	s := k.known()
	s.At, s.Signed, s.List = k.view().At(), k.view().Head().SigningTime(), k.ListNumber()
	return s
}
