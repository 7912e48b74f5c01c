package session

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/token"
)

// A Token is one that is logged in: by this process, or by the agent.
type Token interface {
	// Info returns what the token states about itself.
	Info() token.Info
	// PairNamed finds another pair by the value of an option, as [PairNamed].
	PairNamed(ctx context.Context, option, named string) (Pair, error)

	// pair finds the key exchange pair, as [FindPair], and warns of what does not belong to it.
	pair(ctx context.Context, s *settings.Settings, store blob.Store, name token.PairName) (Pair, error)
}

// A Pair is a key exchange pair on a token.
type Pair interface {
	hsmkeys.Pair
	hsmkeys.Loader
	hsmkeys.Decrypter

	// Label returns the pair's CKA_LABEL. It may be empty.
	Label() string
	// Certificate returns the certificate that the pair has signed itself, or nil.
	Certificate(context.Context) (*x509.Certificate, error)
	// IssuedCertificate returns a certificate that others have issued for the pair, or nil.
	IssuedCertificate(context.Context) (*x509.Certificate, error)
	// SigningCertificate returns the certificate of the pair that signs, or nil for a pair that signs
	// itself.
	SigningCertificate(context.Context) (*x509.Certificate, error)
}

// WithPair calls f with the token and its key exchange pair: through the agent if it has the token,
// otherwise it logs in.
func WithPair(ctx context.Context, s *settings.Settings, f func(Token, Pair) error) error {
	if _, err := AuditLog(s); err != nil {
		return err
	}
	client, err := dialAgent(ctx, s)
	if err != nil {
		return err
	}
	if client != nil {
		defer client.Close()
	}
	return withPair(ctx, s, client, nil, f)
}

// withPair is [WithPair] with an agent, or without one if client is nil.
func withPair(ctx context.Context, s *settings.Settings, client *agent.Client, store blob.Store, f func(Token, Pair) error) error {
	on := func(t Token, sel token.Selector) error {
		pair, err := t.pair(ctx, s, store, token.PairName{Label: sel.Object, ID: sel.ID})
		if err != nil {
			return err
		}
		return f(t, pair)
	}
	if client == nil {
		return WithToken(ctx, s, func(t *token.Token, sel token.Selector) error { return on(ownToken{t}, sel) })
	}
	sel, _, err := s.Selector()
	clear(sel.PINValue)
	if err != nil {
		return err
	}
	return on(agentToken{client}, sel)
}

// An ownToken is one that this process is logged in to.
type ownToken struct{ *token.Token }

func (t ownToken) PairNamed(ctx context.Context, option, named string) (Pair, error) {
	pair, err := PairNamed(ctx, t.Token, option, named)
	if pair == nil {
		return nil, err // no interface with a nil pointer in it
	}
	return pair, err
}

func (t ownToken) pair(ctx context.Context, s *settings.Settings, store blob.Store, name token.PairName) (Pair, error) {
	pair, err := FindPair(ctx, s, t.Token, store, name)
	if err != nil {
		return nil, err
	}
	strays, err := pair.Mismatches(ctx)
	for _, stray := range strays {
		warnStray(pair, stray.What)
	}
	return pair, err
}

// warnStray warns of an object on the token that has the id of a pair and does not belong to it.
func warnStray(pair Pair, what string) {
	message.Warn(fmt.Errorf("skipped, as it has the id of the pair %q and not its key: %s", pair.Label(), what))
}

// An agentToken is one that the agent is logged in to.
type agentToken struct{ client *agent.Client }

func (t agentToken) Info() token.Info { return t.client.Info }

func (t agentToken) PairNamed(ctx context.Context, option, named string) (Pair, error) {
	name, err := pairName(t.client.Info, option, named)
	if err != nil || named == "" {
		return nil, err
	}
	pair, err := t.client.FindAnyPair(ctx, name)
	if err != nil {
		return nil, err
	}
	return pair, nil
}

func (t agentToken) pair(ctx context.Context, s *settings.Settings, store blob.Store, name token.PairName) (Pair, error) {
	signing, err := pairName(t.client.Info, "signing-key", s.SigningKey)
	if err != nil {
		return nil, err
	}
	pair, err := t.find(ctx, s, store, name, signing)
	if err != nil {
		return nil, err
	}
	for _, what := range pair.Mismatches {
		warnStray(pair, what)
	}
	return pair, nil
}

// find is [FindPair] in the agent.
func (t agentToken) find(ctx context.Context, s *settings.Settings, store blob.Store, name, signing token.PairName) (*agent.Pair, error) {
	if name.Label == "" && len(name.ID) == 0 {
		pair, err := t.client.FindOnlyPair(ctx, signing)
		if err != nil || pair != nil {
			return pair, err
		}
		pair, err = pairOfStore(ctx, s, &agentFinder{client: t.client, signing: signing}, t.client, store)
		if err != nil || pair != nil {
			return pair, err
		}
	}
	return t.client.FindPair(ctx, name, signing)
}

// An agentFinder finds pairs on the agent's token.
type agentFinder struct {
	client  *agent.Client
	signing token.PairName
	stated  []crypto.PublicKey
}

func (f *agentFinder) statedPairs(ctx context.Context) (_ []crypto.PublicKey, err error) {
	if f.stated == nil {
		f.stated, err = f.client.StatedPairs(ctx)
	}
	return f.stated, err
}

func (f *agentFinder) SeveralPairs(ctx context.Context) (bool, error) {
	stated, err := f.statedPairs(ctx)
	return len(stated) > 1, err
}

func (f *agentFinder) KeyPairs(ctx context.Context, wanted func(crypto.PublicKey) bool) ([]*agent.Pair, error) {
	stated, err := f.statedPairs(ctx)
	if err != nil {
		return nil, err
	}
	var all []*agent.Pair
	for _, public := range stated {
		if !wanted(public) {
			continue
		}
		pair, err := f.client.FindPairOf(ctx, public, f.signing)
		switch {
		case errors.Is(err, token.ErrUnsafe), errors.Is(err, errors.ErrUnsupported), errors.Is(err, token.ErrNoPair):
		case err != nil:
			return nil, err
		default:
			all = append(all, pair)
		}
	}
	return all, nil
}
