// Package hsmkeys stores session keys safely outside the hardware.
//
// A key exchange pair lives on a PKCS #11 token and never leaves it. A session
// key is made on the token, wrapped to the pair's public key and signed by the
// pair, both inside the token; what comes out is a key blob, and it may lie on
// storage that nobody needs to trust. Reading it back means: verify the
// signature, then unwrap in the token, then use the key. It is the procedure
// "Storing Session Keys" of Microsoft's CryptoAPI, done with PKCS #11 and CMS.
// Where the pair must not sign, another one on the token does, and the list of
// members knows both.
//
// The signature is what it is all about. Wrapping needs only the public key, so
// without a signature somebody with access to the storage could put a session
// key of their own in the place of ours, and read everything that we encrypt
// from then on.
//
// [Found] starts a keyring, [OpenKeyring] opens it with its token, and
// [OpenWithCertificate] opens it for verification where there is no token. A
// [Keyring] makes keys ([Keyring.Create]), opens them ([Keyring.Open]), and
// encrypts and decrypts files under them ([Keyring.Encrypt], [Keyring.Decrypt]).
// The files are age v1 files. [NewPairRecipient] and [PairIdentity] are for age files to
// the pair itself, which anybody can make.
//
// Errors keep what packages token, blob and ledger say. [errors.Is] tells them apart:
// [blob.ErrIntegrity] when a signature, a digest or a name did not hold, and its kinds such as
// [ledger.ErrRollback] and [ledger.ErrFork]; [blob.ErrNotFound], [blob.ErrExists],
// [blob.ErrName], and those of package token.
//
// Trust starts at the pin on the operator's own token: which checkpoint of the keyring was
// accepted last. A checkpoint signs for the whole keyring, see package ledger, so nothing
// that was accepted once can be put back, taken away or exchanged unnoticed.
//
// A Keyring is safe for concurrent use, by many goroutines and many processes.
package hsmkeys

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// Keyring is the keys of a store, the members who hold them, and the token of one
// of these members.
type Keyring struct {
	store  blob.Store
	token  *token.Token   // nil without a token
	pair   *token.KeyPair // nil without a token
	pins   *Pins          // nil where nothing is pinned
	self   []byte         // the pair's subject key identifier, nil without a token
	signer []byte         // that of the key that signs for the pair

	settings settings
	maxAge   time.Duration // of a head that is encrypted under; 0: any

	mu    sync.Mutex
	head  *ledger.Ledger // the newest that is known
	state State          // what opening has found
	kept  ledger.Point   // what this process has pinned last

	recording recording
	storing   storing
	opened    opened
}

// settings are what the user of a Keyring has chosen.
type settings struct {
	ask      PasswordFunc // nil where nobody can be asked
	warn     func(error)  // nil where nobody is told
	believes bool         // what the token makes is not read back, see ReadBack
}

// Found starts a keyring in a store that has none: it makes the pair's
// certificate where the token has none yet, and signs the first checkpoint, which
// introduces a list of members with the pair as the only owner, and its signing key where
// it has one. It refuses with [blob.ErrExists] when the store has a keyring.
func Found(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins, label string) (*Keyring, error) {
	taken := hint(fmt.Errorf("found a keyring: %w", blob.ErrExists), "the store has a keyring; choose another --store")
	switch there, err := founded(ctx, store, 1); { // before a certificate is made
	case err != nil:
		return nil, err
	case there:
		return nil, taken
	}
	certificate, err := CertificateOf(ctx, pair, label)
	if err != nil {
		return nil, err
	}
	signing, err := signingCertificateOf(ctx, pair)
	if err != nil {
		return nil, fmt.Errorf("found a keyring: %w", err)
	}
	id, err := randomID(t)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	l, err := ledger.Found(ctx, store, blob.MemberList{
		KeyringID: id, Created: now,
		Members: []blob.Member{{Role: blob.Owner, Label: label, Certificate: certificate, Signing: signing}},
	}, signerAs(pair, signing, certificate), now, nonce(t))
	if errors.Is(err, blob.ErrExists) {
		return nil, taken
	}
	if err != nil {
		return nil, fmt.Errorf("found a keyring: %w", err)
	}
	k, err := open(ctx, Options{Token: t, Pair: pair, Store: store, Pins: pins}, true)
	if err == nil && k.view().Pin().First != l.Pin().First { // the storage shows one that the pair has founded before
		err = ErrOtherKeyring
	}
	if err != nil {
		return nil, fmt.Errorf("found a keyring: %w", err)
	}
	return k, k.keepPin(ctx, onToken)
}

// FinishFounding opens the keyring of a [Found] that may have been interrupted after the
// first checkpoint was stored, and pins it. The pair has signed that checkpoint, and it is
// the only one. Any other keyring is a [blob.ErrExists].
func FinishFounding(ctx context.Context, t *token.Token, pair *token.KeyPair, store blob.Store, pins *Pins) (*Keyring, error) {
	k, err := open(ctx, Options{Token: t, Pair: pair, Store: store, Pins: pins}, true)
	if errors.Is(err, ErrNotJoined) || err == nil && k.view().At().Number > 1 && k.state.Before.Number == 0 {
		return nil, fmt.Errorf("found a keyring: the store has one: %w", blob.ErrExists)
	}
	if err != nil {
		return nil, err
	}
	return k, k.keepPin(ctx, onToken)
}

// BarelyFounded reports whether a store has a first checkpoint, no second one, and no key.
func BarelyFounded(ctx context.Context, store blob.Store) (bool, error) {
	first, err := founded(ctx, store, 1)
	if err != nil || !first {
		return false, err
	}
	second, err := founded(ctx, store, 2)
	if err != nil || second {
		return false, err
	}
	for _, err := range store.List(ctx, blob.KeysPrefix) {
		return false, err
	}
	return true, nil
}

// founded reports whether a store has the checkpoint with a number.
func founded(ctx context.Context, store blob.Store, number int) (bool, error) {
	_, err := store.Get(ctx, blob.SlotPath(number))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}

// CertificateOf gives the pair's certificate: its own, or one that somebody has issued
// for it and that session keys can be wrapped to, or a new one. A label is the common
// name of a new one. A pair that opens nothing is refused, see [token.KeyPair.CheckOpens]:
// what is wrapped to it would be lost.
func CertificateOf(ctx context.Context, pair *token.KeyPair, label string) (*x509.Certificate, error) {
	if err := pair.CheckOpens(ctx); err != nil {
		return nil, err
	}
	if c, err := pair.Certificate(ctx); err != nil || c != nil {
		return c, err
	}
	issued, err := pair.IssuedCertificate(ctx)
	if err != nil {
		return nil, err
	}
	if issued != nil && CheckRecipient(issued, time.Now()) == nil {
		// Anybody can have written it to the token: with a false OAEP hash in it
		// nobody could open what is wrapped to it.
		takes, err := pair.TakesOAEP(ctx, token.CertifiedOAEPHash(issued))
		if err != nil {
			return nil, err
		}
		if takes {
			return issued, nil
		}
	}
	return pair.Certify(ctx, label)
}

// signingCertificateOf gives the certificate of the key that signs for the pair, or nil
// for a pair that signs itself.
func signingCertificateOf(ctx context.Context, pair *token.KeyPair) (*x509.Certificate, error) {
	signing := pair.Signing().Public().(interface{ Equal(crypto.PublicKey) bool })
	if signing.Equal(pair.Public()) {
		return nil, nil
	}
	c, err := pair.SigningCertificate(ctx)
	switch {
	case err != nil:
		return nil, err
	case c == nil || !signing.Equal(c.PublicKey): // or nobody would know the key that signs
		return nil, fmt.Errorf("%w: the token has none for its signing key", ErrCertificate)
	}
	if err := CheckSigner(c, time.Now()); err != nil {
		return nil, fmt.Errorf("signing key: %w", err)
	}
	return c, nil
}

// ID returns the keyring's identifier, 16 random bytes. It is in every signature.
func (k *Keyring) ID() blob.ID { return k.view().ID() }

// view returns the keyring as of the newest head that is known.
func (k *Keyring) view() *ledger.Ledger {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.head
}

func (k *Keyring) members() *ledger.Members { return k.view().Members() }

// Members returns the holders of the keys: owners and backup authorities.
func (k *Keyring) Members() []blob.Member { return k.members().List().Members }

// ListNumber returns the number of the list of members in force.
func (k *Keyring) ListNumber() int { return k.members().List().Number }

// Certificate returns the certificate by which the list of members knows the token's
// own pair.
func (k *Keyring) Certificate() (*x509.Certificate, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	return k.Self().Certificate, nil // opening insisted that it is there
}

// Self returns the member whose token this is.
func (k *Keyring) Self() blob.Member {
	m, _ := k.members().Member(string(k.self))
	return m
}

// mustOwn refuses what only an owner may do, who can sign.
func (k *Keyring) mustOwn(doing string) error {
	if k.pair == nil {
		return errNoToken
	}
	if m := k.Self(); m.Role != blob.Owner {
		return hint(fmt.Errorf("%s: %q is a backup authority: %w", doing, m.Label, ErrRole), "an owner's token can; the signature of an authority counts only in a recovery")
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
		return hint(err, "it is the key exchange pair itself: leave --signing-key out; or another owner removes this member and adds it with its signing certificate")
	}
	return hint(err, "name it with --signing-key")
}

// Member finds the member with a label, or who was last known by it.
func (k *Keyring) Member(role blob.Role, label string) (blob.Member, error) {
	all := k.members()
	for number := all.List().Number; number >= 1; number-- {
		for _, m := range all.ListNumber(number).Members {
			if m.Role == role && m.Label == label {
				return m, nil
			}
		}
	}
	return blob.Member{}, fmt.Errorf("no %s has ever had the label %q: %w", role, label, blob.ErrNotFound)
}

// ErrRole is for what a member may not do in its role.
var ErrRole = errors.New("not for this member")

// ErrSigningKey is for a signature with another key than the one with which the list
// of members lets the token's holder sign. To read, no signing key is needed.
var ErrSigningKey = errors.New("the keyring knows another signing key for this token")

// errNoToken is for a keyring that was opened with a certificate.
var errNoToken = errors.New("the keyring was opened without a token")

// signs is how the token's pair signs, under the name by which the list in force knows it.
func (k *Keyring) signs() blob.Signer {
	m := k.Self()
	return signerAs(k.pair, m.Signing, m.Certificate)
}

// signerAs is how a pair signs, under the name that the first certificate there is gives
// its signing key.
func signerAs(pair *token.KeyPair, certificates ...*x509.Certificate) blob.Signer {
	s := blob.Signer{Key: pair.Signing(), Scheme: pair.Signing().Scheme()}
	for _, c := range certificates {
		if c != nil {
			s.ID, _ = blob.Identifier(c) // or its key's
			break
		}
	}
	return s
}

// nonce returns 16 random bytes from the token at each call.
func nonce(t *token.Token) ledger.Nonce {
	return func() ([16]byte, error) {
		id, err := randomID(t)
		return id, err
	}
}

// randomID takes 16 bytes from the token's random number generator.
func randomID(t *token.Token) (blob.ID, error) {
	var id blob.ID
	random, err := t.Random()
	if err != nil {
		return id, err
	}
	if _, err := io.ReadFull(random, id[:]); err != nil {
		return id, fmt.Errorf("get random bytes from the token: %w", err)
	}
	return id, nil
}
