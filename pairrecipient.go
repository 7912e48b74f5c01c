package hsmkeys

import (
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/hpke"
	"crypto/rsa"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"slices"

	"filippo.io/age"
	"filippo.io/age/tag"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Files to the key exchange pair itself: anybody with the public key makes them, with no token and
// no keyring, and the token opens them. So opening one says nothing about who has made it, whereas
// a file under a key of a keyring comes from somebody with a token and its PIN.
//
// An RSA pair has a stanza of its own, see [RSARecipient]. A P-256 pair has age's
// (age-encryption.org/p256tag: HPKE with DHKEM(P-256, HKDF-SHA256), HKDF-SHA256 and
// ChaCha20-Poly1305), which age encrypts to by itself.
const (
	p256Stanza = "p256tag"
	p256Info   = "age-encryption.org/p256tag"
)

// PairRecipient is the recipient of a key exchange pair.
type PairRecipient interface {
	age.Recipient
	fmt.Stringer // for age -r
}

// NewPairRecipient returns the recipient of a pair with a public key: an [*rsa.PublicKey], or an
// [*ecdsa.PublicKey] on P-256. The error is an [ErrNoRecipient] for others, for which age has no
// recipient.
func NewPairRecipient(public crypto.PublicKey) (PairRecipient, error) {
	switch public := public.(type) {
	case *rsa.PublicKey:
		return NewRSARecipient(public)
	case *ecdsa.PublicKey:
		if public.Curve != elliptic.P256() {
			return nil, withFacts(fmt.Errorf("%w on %s: it has them for P-256 and RSA", ErrNoRecipient, public.Params().Name), ErrNoPairCurve)
		}
		point, err := compressed(public)
		if err != nil {
			return nil, err
		}
		return tag.NewClassicRecipient(point)
	}
	return nil, fmt.Errorf("%w of another kind than RSA and EC", ErrNoRecipient)
}

// ErrNoRecipient is the error for a pair that age cannot encrypt to.
var ErrNoRecipient = errors.New("age has no recipient for a pair")

func compressed(public *ecdsa.PublicKey) ([]byte, error) {
	point, err := public.Bytes() // 0x04, x, y (SEC 1 §2.3.3)
	if err != nil {
		return nil, err
	}
	size := (len(point) - 1) / 2
	return append([]byte{2 + point[len(point)-1]&1}, point[1:1+size]...), nil
}

// A PairTag recognizes the stanzas for one pair without its token. It is the subject key
// identifier, 20 bytes, of an RSA pair, the compressed public key, 33 bytes, of a P-256 pair, and
// empty for other pairs.
type PairTag []byte

const (
	rsaTagBytes  = 20
	p256TagBytes = 33
)

// PairTagOf returns the tag of the pair with a public key.
func PairTagOf(public crypto.PublicKey) (PairTag, error) {
	r, err := NewPairRecipient(public)
	if errors.Is(err, ErrNoRecipient) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	switch r := r.(type) {
	case *RSARecipient:
		return r.id, nil
	case *tag.Recipient:
		return r.Bytes(), nil
	}
	return nil, fmt.Errorf("no tag is known for a %T", r)
}

// Valid reports whether t can be the tag of a pair.
func (t PairTag) Valid() bool {
	if len(t) == p256TagBytes {
		_, err := tag.NewClassicRecipient(t)
		return err == nil
	}
	return len(t) == 0 || len(t) == rsaTagBytes
}

// Matches reports whether a stanza is for the pair. It is wrong once in 2³² times. A malformed
// stanza matches nothing.
func (t PairTag) Matches(s *age.Stanza) bool {
	if !IsPairStanza(s) {
		return false
	}
	has, enc, err := parsePairStanza(s)
	if err != nil {
		return false
	}
	var want []byte
	switch {
	case s.Type == rsaStanza && len(t) == rsaTagBytes:
		want, err = rsaTag(enc, t)
	case s.Type == p256Stanza && len(t) == p256TagBytes:
		var r *tag.Recipient
		if r, err = tag.NewClassicRecipient(t); err == nil {
			want, err = r.Tag(enc)
		}
	}
	return err == nil && subtle.ConstantTimeCompare(has, want) == 1
}

// IsPairStanza reports whether a stanza is for some key exchange pair.
func IsPairStanza(s *age.Stanza) bool { return s.Type == rsaStanza || s.Type == p256Stanza }

// PairIdentity lets age decrypt with a key exchange pair on its token. For a file to others the
// error is an [age.ErrIncorrectIdentity], without asking the token; for one to the pair that does
// not open it is a [blob.ErrIntegrity].
func PairIdentity(ctx context.Context, pair Decrypter) age.Identity {
	return &pairIdentity{ctx, pair}
}

type pairIdentity struct {
	ctx  context.Context
	pair Decrypter
}

func (i *pairIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	return newFilePairIdentity(i.ctx, i.pair).Unwrap(stanzas)
}

// A RecordedPair is a pair for [PairIdentity], [DecryptWithPair] and [DecryptFileWithPair], which record
// what they open with it as a Keyring does, see [Options.Record].
type RecordedPair struct {
	Decrypter
	Record RecordFunc
}

// A filePairIdentity is a pairIdentity for one file.
type filePairIdentity struct {
	*fileUse
	pair Decrypter
}

func newFilePairIdentity(ctx context.Context, pair Decrypter) *filePairIdentity {
	var r recorder
	if recorded, ok := pair.(RecordedPair); ok {
		r = newRecorder(recorded.Record, pair)
	}
	return &filePairIdentity{newFileUse(ctx, r), pair}
}

func (i *filePairIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := i.unwrapOne(stanzas)
	return i.opened(fileKey, err)
}

func (i *filePairIdentity) unwrapOne(stanzas []*age.Stanza) ([]byte, error) {
	own, err := PairTagOf(i.pair.Public())
	if err != nil {
		return nil, err
	}
	failed := age.ErrIncorrectIdentity
	tried := 0
	for _, s := range stanzas {
		if !own.Matches(s) {
			continue
		}
		if tried++; tried > maxStanzas {
			return nil, fmt.Errorf("more than %d stanzas for the pair: %w", maxStanzas, blob.ErrIntegrity)
		}
		var fileKey []byte
		if s.Type == rsaStanza {
			fileKey, err = unwrapRSA(i.ctx, i.pair, own, s)
		} else {
			fileKey, err = unwrapP256(i.ctx, i.pair, s)
		}
		if errors.Is(err, blob.ErrIntegrity) {
			failed = err // its tag may be that of another pair by chance; the next one may be ours
			continue
		}
		return fileKey, err
	}
	return nil, failed
}

var errDamagedStanza = fmt.Errorf("the stanza for the key exchange pair does not open: %w", blob.ErrIntegrity)

// unwrapP256 opens one of age's own stanzas; the token does the key agreement.
func unwrapP256(ctx context.Context, pair Decrypter, s *age.Stanza) ([]byte, error) {
	_, enc, err := parsePairStanza(s)
	if err != nil {
		return nil, err
	}
	if _, err := ecdh.P256().NewPublicKey(enc); err != nil { // before the token sees it
		return nil, errDamagedStanza
	}
	public, err := pair.Public().(*ecdsa.PublicKey).ECDH()
	if err != nil {
		return nil, err
	}
	private, err := hpke.NewDHKEMPrivateKey(&exchanger{ctx, pair, public})
	if err != nil {
		return nil, err
	}
	r, err := hpke.NewRecipient(enc, private, hpke.HKDFSHA256(), hpke.ChaCha20Poly1305(), []byte(p256Info))
	if err != nil {
		return nil, err // the token's
	}
	fileKey, err := r.Open(nil, s.Body)
	if err != nil {
		return nil, errDamagedStanza
	}
	return fileKey, nil
}

// DecryptWithPair is [Keyring.Decrypt] for a file to the key exchange pair itself. It needs no
// keyring. Success says nothing about who has made the file.
func DecryptWithPair(ctx context.Context, pair Decrypter, src io.Reader) (io.Reader, error) {
	i := newFilePairIdentity(ctx, pair)
	return decrypt(src, onlyPair{i}, i.fileUse)
}

// An onlyPair is the only identity that is tried for a file.
type onlyPair struct{ age.Identity }

func (o onlyPair) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	fileKey, err := o.Identity.Unwrap(stanzas)
	if !errors.Is(err, age.ErrIncorrectIdentity) {
		return fileKey, err
	}
	err = fmt.Errorf("the file has no stanza for this key exchange pair: %w", blob.ErrNotFound)
	if slices.ContainsFunc(stanzas, func(s *age.Stanza) bool { return s.Type == stanzaType }) {
		err = withFacts(err, ErrFileUnderKey)
	}
	return nil, err
}

// An exchanger is a pair as an [ecdh.KeyExchanger], which carries no context.
type exchanger struct {
	ctx    context.Context
	pair   Decrypter
	public *ecdh.PublicKey
}

func (e *exchanger) PublicKey() *ecdh.PublicKey { return e.public }

func (e *exchanger) Curve() ecdh.Curve { return e.public.Curve() }

func (e *exchanger) ECDH(peer *ecdh.PublicKey) ([]byte, error) { return e.pair.ECDH(e.ctx, peer) }

// parsePairStanza reads what both kinds of stanza have: a tag, an encapsulated secret, and a file
// key of 16 bytes under ChaCha20-Poly1305.
func parsePairStanza(s *age.Stanza) (tag, enc []byte, err error) {
	malformed := func(what string) ([]byte, []byte, error) {
		return nil, nil, fmt.Errorf("%s stanza: %s: %w", s.Type, what, blob.ErrMalformed)
	}
	if len(s.Args) != 2 || len(s.Body) != 16+16 {
		return malformed("it does not have two arguments and a body of 32 bytes")
	}
	if tag, err = decode64(s.Args[0]); err != nil || len(tag) != tagSize {
		return malformed("its tag is not 4 bytes in base64")
	}
	least, most := 65, 65 // a point, not compressed
	if s.Type == rsaStanza {
		least, most = keyspec.MinRSABits/8, keyspec.MaxRSABits/8
	}
	if enc, err = decode64(s.Args[1]); err != nil || len(enc) < least || len(enc) > most {
		return malformed("its encapsulated secret is not in base64 and as long as it should be")
	}
	return tag, enc, nil
}

func encode64(data []byte) string { return base64.RawStdEncoding.EncodeToString(data) }

func decode64(text string) ([]byte, error) {
	data, err := base64.RawStdEncoding.Strict().DecodeString(text)
	if err == nil && encode64(data) != text { // it skips line ends
		err = errors.New("line ends in base64")
	}
	return data, err
}
