package agent

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdh"
	"crypto/rsa"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// A Pair is a key exchange pair on the agent's token.
type Pair struct {
	client  *Client
	ref     *wire.Pair
	label   string
	id      []byte
	public  crypto.PublicKey
	signing crypto.PublicKey
	scheme  keyspec.Scheme

	// Mismatches describes the objects that have the id of the pair and not its key.
	Mismatches []string
}

var (
	_ hsmkeys.Pair      = (*Pair)(nil)
	_ hsmkeys.Loader    = (*Pair)(nil)
	_ hsmkeys.Decrypter = (*Pair)(nil)
)

// FindPair finds a pair by its name: if that is empty, the pair with the usual label, or else the only
// one. Its signatures are made by the pair that signing names, or itself.
func (c *Client) FindPair(ctx context.Context, name, signing token.PairName) (*Pair, error) {
	return c.findPair(ctx, &wire.FindPairRequest{Name: wire.FromPairName(name), Signing: wire.FromPairName(signing)})
}

// FindOnlyPair is [Client.FindPair] for the only pair on the token. It returns nil if there are several.
func (c *Client) FindOnlyPair(ctx context.Context, signing token.PairName) (*Pair, error) {
	return c.findPair(ctx, &wire.FindPairRequest{Only: true, Signing: wire.FromPairName(signing)})
}

// FindAnyPair finds a pair by its name, which may be a legacy one.
func (c *Client) FindAnyPair(ctx context.Context, name token.PairName) (*Pair, error) {
	return c.findPair(ctx, &wire.FindPairRequest{Name: wire.FromPairName(name), Legacy: true})
}

// FindPairOf is [Client.FindPair] for the pair with a public key.
func (c *Client) FindPairOf(ctx context.Context, public crypto.PublicKey, signing token.PairName) (*Pair, error) {
	id, err := keyspec.SubjectKeyID(public)
	if err != nil {
		return nil, err
	}
	return c.findPair(ctx, &wire.FindPairRequest{KeyId: id, Signing: wire.FromPairName(signing)})
}

func (c *Client) findPair(ctx context.Context, request *wire.FindPairRequest) (*Pair, error) {
	reply, err := call(ctx, c, func(n *conn) (*wire.PairReply, error) { return n.agent().FindPair(ctx, request) })
	if err != nil || reply.GetSeveral() {
		return nil, err
	}
	p := &Pair{client: c, ref: reply.GetPair(), label: string(reply.GetLabel()), id: reply.GetId(), scheme: keyspec.Scheme(reply.GetScheme())}
	for _, what := range reply.GetMismatches() {
		p.Mismatches = append(p.Mismatches, string(what))
	}
	if p.public, err = wire.Public(reply.GetSpki()); err != nil {
		return nil, err
	}
	p.signing, err = wire.Public(reply.GetSigningSpki())
	return p, err
}

// StatedPairs returns the public keys of the pairs on the token, as it states them without a proof.
func (c *Client) StatedPairs(ctx context.Context) ([]crypto.PublicKey, error) {
	reply, err := call(ctx, c, func(n *conn) (*wire.PublicKeys, error) { return n.agent().StatedPairs(ctx, &wire.Empty{}) })
	if err != nil {
		return nil, err
	}
	var all []crypto.PublicKey
	for _, spki := range reply.GetSpki() {
		public, err := wire.Public(spki)
		if err != nil {
			return nil, err
		}
		all = append(all, public)
	}
	return all, nil
}

// Label returns the pair's CKA_LABEL. It may be empty.
func (p *Pair) Label() string { return p.label }

// ID returns the pair's CKA_ID.
func (p *Pair) ID() []byte { return bytes.Clone(p.id) }

// Public returns the *rsa.PublicKey or *ecdsa.PublicKey that the agent has proven to be the pair's.
func (p *Pair) Public() crypto.PublicKey { return p.public }

// Signer returns the key that signs for the pair, and the scheme of its signatures.
func (p *Pair) Signer() (crypto.Signer, keyspec.Scheme) { return signer{p}, p.scheme }

type signer struct{ pair *Pair }

func (s signer) Public() crypto.PublicKey { return s.pair.signing }

// Sign is [token.KeyPair.Sign].
func (s signer) Sign(_ io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	request := &wire.SignRequest{Pair: s.pair.ref, Digest: digest}
	if opts != nil {
		request.Hash = int32(opts.HashFunc())
	}
	if pss, ok := opts.(*rsa.PSSOptions); ok {
		request.PssSaltLength = int32(pss.SaltLength)
	}
	// crypto.Signer has no context.
	return s.pair.data(context.Background(), func(ctx context.Context, n *conn) (*wire.Data, error) { return n.agent().Sign(ctx, request) })
}

// data makes a call that returns data.
func (p *Pair) data(ctx context.Context, f func(context.Context, *conn) (*wire.Data, error)) ([]byte, error) {
	reply, err := call(ctx, p.client, func(n *conn) (*wire.Data, error) { return f(ctx, n) })
	return reply.GetData(), err
}

// secret makes a call that returns a secret, which the caller must overwrite.
func (p *Pair) secret(ctx context.Context, f func(*conn) (*wire.Sealed, error)) ([]byte, error) {
	return call(ctx, p.client, func(n *conn) ([]byte, error) {
		sealed, err := f(n)
		if err != nil {
			return nil, err
		}
		return n.sealer.Open(sealed)
	})
}

// empty makes a call that returns nothing.
func (p *Pair) empty(ctx context.Context, f func(*conn) (*wire.Empty, error)) error {
	_, err := call(ctx, p.client, f)
	return err
}

// Random returns the agent's random number generator, [token.Token.Random].
func (p *Pair) Random() (io.Reader, error) { return random{p}, nil }

type random struct{ pair *Pair }

func (r random) Read(b []byte) (int, error) {
	ctx := context.Background()
	size := min(len(b), maxRandom)
	got, err := r.pair.secret(ctx, func(n *conn) (*wire.Sealed, error) {
		return n.agent().Random(ctx, &wire.RandomRequest{Pair: r.pair.ref, Size: int32(size)})
	})
	defer clear(got)
	if err == nil && len(got) != size {
		err = fmt.Errorf("get random bytes from the agent: %d came back for %d", len(got), size)
	}
	if err != nil {
		return 0, err
	}
	return copy(b, got), nil
}

// maxRandom is how many random bytes the agent returns at a time.
const maxRandom = 1024

// Records returns the records on the agent's token.
func (p *Pair) Records() keyspec.Records { return p.client }

// Residence returns where the session keys of the pair live: on the token, or in the memory of the
// agent.
func (p *Pair) Residence(ctx context.Context) (keyspec.Residence, error) {
	reply, err := call(ctx, p.client, func(n *conn) (*wire.ResidenceReply, error) {
		return n.agent().Residence(ctx, &wire.PairRequest{Pair: p.ref})
	})
	return keyspec.Residence(reply.GetResidence()), err
}

// Check returns an error if the pair cannot be used at the moment.
func (p *Pair) Check(ctx context.Context) error {
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().Check(ctx, &wire.PairRequest{Pair: p.ref})
	})
}

// CheckOpens returns an error if the pair opens nothing that is wrapped to it.
func (p *Pair) CheckOpens(ctx context.Context) error {
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().CheckOpens(ctx, &wire.PairRequest{Pair: p.ref})
	})
}

// CheckComputed returns an error if the agent does not take session keys that were computed elsewhere.
func (p *Pair) CheckComputed() error {
	ctx := context.Background()
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().CheckComputed(ctx, &wire.PairRequest{Pair: p.ref})
	})
}

// Reveal unwraps a session key and returns its value, which the caller must overwrite. The error is
// [ErrNotAllowed] unless the agent was allowed to reveal keys.
func (p *Pair) Reveal(ctx context.Context, wrapped keyspec.WrappedKey) ([]byte, error) {
	request, err := p.unwrapRequest(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	return p.secret(ctx, func(n *conn) (*wire.Sealed, error) { return n.agent().Reveal(ctx, request) })
}

// Rehearse does with a wrapped session key what a recovery does, and keeps nothing.
func (p *Pair) Rehearse(ctx context.Context, wrapped keyspec.WrappedKey) error {
	request, err := p.unwrapRequest(ctx, wrapped)
	if err != nil {
		return err
	}
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) { return n.agent().Rehearse(ctx, request) })
}

func (p *Pair) unwrapRequest(ctx context.Context, wrapped keyspec.WrappedKey) (*wire.UnwrapRequest, error) {
	m, err := wire.FromWrapped(wrapped)
	return &wire.UnwrapRequest{Pair: p.ref, Wrapped: m, Use: wire.FromUse(ctx)}, err
}

// Certificate returns the certificate that the pair has signed itself, or nil.
func (p *Pair) Certificate(ctx context.Context) (*x509.Certificate, error) {
	return p.certificate(ctx, func(n *conn, r *wire.PairRequest) (*wire.Data, error) { return n.agent().Certificate(ctx, r) })
}

// IssuedCertificate returns a certificate that others have issued for the pair, or nil.
func (p *Pair) IssuedCertificate(ctx context.Context) (*x509.Certificate, error) {
	return p.certificate(ctx, func(n *conn, r *wire.PairRequest) (*wire.Data, error) { return n.agent().IssuedCertificate(ctx, r) })
}

// SigningCertificate returns the certificate of the key that signs for the pair, or nil for a pair that
// signs itself.
func (p *Pair) SigningCertificate(ctx context.Context) (*x509.Certificate, error) {
	return p.certificate(ctx, func(n *conn, r *wire.PairRequest) (*wire.Data, error) { return n.agent().SigningCertificate(ctx, r) })
}

func (p *Pair) certificate(ctx context.Context, f func(*conn, *wire.PairRequest) (*wire.Data, error)) (*x509.Certificate, error) {
	der, err := p.data(ctx, func(_ context.Context, n *conn) (*wire.Data, error) { return f(n, &wire.PairRequest{Pair: p.ref}) })
	if err != nil || len(der) == 0 {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Decrypt decrypts RSAES-OAEP with an empty label. The caller must overwrite the result.
func (p *Pair) Decrypt(ctx context.Context, ciphertext []byte, hash crypto.Hash) ([]byte, error) {
	return p.secret(ctx, func(n *conn) (*wire.Sealed, error) {
		return n.agent().Decrypt(ctx, &wire.HashRequest{Pair: p.ref, Hash: int32(hash), Data: ciphertext, Use: wire.FromUse(ctx)})
	})
}

// ECDH agrees with a public key on the pair's curve. The caller must overwrite the secret.
func (p *Pair) ECDH(ctx context.Context, peer *ecdh.PublicKey) ([]byte, error) {
	spki, err := wire.FromPublic(peer)
	if err != nil {
		return nil, err
	}
	return p.secret(ctx, func(n *conn) (*wire.Sealed, error) {
		return n.agent().ECDH(ctx, &wire.DataRequest{Pair: p.ref, Data: spki, Use: wire.FromUse(ctx)})
	})
}

// Load unwraps a session key into an object for other applications, see [token.KeyPair.Load]. The
// error is [ErrNotAllowed] unless the agent was allowed to load keys.
func (p *Pair) Load(ctx context.Context, wrapped keyspec.WrappedKey, label string, id []byte, beside ...[]byte) error {
	m, err := wire.FromWrapped(wrapped)
	if err != nil {
		return err
	}
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().Load(ctx, &wire.LoadRequest{Pair: p.ref, Wrapped: m, Label: []byte(label), Id: id, Beside: beside, Use: wire.FromUse(ctx)})
	})
}

// LoadValue is Load for a session key with a value that was computed elsewhere.
func (p *Pair) LoadValue(ctx context.Context, key keyspec.Key, value []byte, label string, id []byte, beside ...[]byte) error {
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().LoadValue(ctx, &wire.LoadRequest{Pair: p.ref, Key: wire.FromKey(key), Value: n.sealer.Seal(value), Label: []byte(label), Id: id, Beside: beside, Use: wire.FromUse(ctx)})
	})
}

// Loaded returns the secret keys that other applications can use.
func (p *Pair) Loaded(ctx context.Context) ([]token.Loaded, error) {
	reply, err := call(ctx, p.client, func(n *conn) (*wire.LoadedReply, error) {
		return n.agent().Loaded(ctx, &wire.PairRequest{Pair: p.ref})
	})
	var all []token.Loaded
	for _, m := range reply.GetKeys() {
		all = append(all, m.Spec())
	}
	return all, err
}

// Unload deletes one of them. The error is [ErrNotAllowed] unless the agent was allowed to load keys.
func (p *Pair) Unload(ctx context.Context, key token.Loaded) error {
	return p.empty(ctx, func(n *conn) (*wire.Empty, error) {
		return n.agent().Unload(ctx, &wire.UnloadRequest{Pair: p.ref, Use: wire.FromUse(ctx), Key: wire.FromLoaded(key)})
	})
}

var errNotOpened = errors.New("the session key was not opened by this agent")
