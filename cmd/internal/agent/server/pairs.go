package server

import (
	"bytes"
	"context"
	"crypto"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/token"
)

// StatedPairs returns the public keys of the pairs on the token. None is proven: some cards ask for the
// PIN at each use of a key.
func (c *conn) StatedPairs(ctx context.Context, _ *wire.Empty) (*wire.PublicKeys, error) {
	reply := &wire.PublicKeys{}
	err := c.withToken(func(t *token.Token) error {
		_, err := t.KeyPairs(ctx, func(public crypto.PublicKey) bool {
			if spki, err := wire.FromPublic(public); err == nil {
				reply.Spki = append(reply.Spki, spki)
			}
			return false
		})
		return err
	})
	return reply, err
}

// FindPair finds a pair. What was found is kept until the agent is locked: reading a card takes seconds.
func (c *conn) FindPair(ctx context.Context, in *wire.FindPairRequest) (*wire.PairReply, error) {
	request, err := proto.MarshalOptions{Deterministic: true}.Marshal(in)
	if err != nil {
		return nil, err
	}
	var reply *wire.PairReply
	err = c.withToken(func(t *token.Token) error {
		if in.GetOnly() { // also if one was found before: another may have been made since
			if several, err := t.SeveralPairs(ctx); err != nil || several {
				reply = &wire.PairReply{Several: several}
				return err
			}
		}
		if known, ok := c.server.login.found.Load(string(request)); ok {
			reply = known.(*wire.PairReply)
			return nil
		}
		pair, err := findPair(ctx, t, in)
		if err != nil {
			return err
		}
		if reply, err = pairReply(ctx, pair); err != nil {
			return err
		}
		c.server.login.keep(string(request), reply, pair)
		return nil
	})
	return reply, err
}

// findPair finds a pair, and the one that signs for it.
func findPair(ctx context.Context, t *token.Token, in *wire.FindPairRequest) (pair *token.KeyPair, err error) {
	switch {
	case len(in.GetKeyId()) > 0:
		pair, err = pairWith(ctx, t, in.GetKeyId())
	case in.GetLegacy():
		pair, err = t.KeyPair(ctx, in.GetName().Spec())
	default:
		pair, err = session.PairOn(ctx, &settings.Settings{}, t, in.GetName().Spec())
	}
	if err != nil {
		return nil, err
	}
	if name := in.GetSigning().Spec(); name.Label != "" || len(name.ID) > 0 {
		signing, err := t.KeyPair(ctx, name)
		if err == nil {
			err = signing.RefuseLegacy()
		}
		if err == nil {
			err = pair.SignWith(signing)
		}
		if err != nil {
			return nil, err
		}
	}
	return pair, nil
}

// pairWith finds the pair whose public key has an identifier, see [keyspec.SubjectKeyID].
func pairWith(ctx context.Context, t *token.Token, id []byte) (*token.KeyPair, error) {
	pairs, err := t.KeyPairs(ctx, func(public crypto.PublicKey) bool {
		other, err := keyspec.SubjectKeyID(public)
		return err == nil && bytes.Equal(id, other)
	})
	if err == nil && len(pairs) != 1 {
		err = &token.Error{Op: "find the key exchange pair", Token: t.Info().Label, Kind: token.ErrNoPair, Err: fmt.Errorf("%d have the public key", len(pairs))}
	}
	if err != nil {
		return nil, err
	}
	return pairs[0], pairs[0].RefuseLegacy()
}

// pairReply describes a pair.
func pairReply(ctx context.Context, pair *token.KeyPair) (*wire.PairReply, error) {
	signer, scheme := pair.Signer()
	reply := &wire.PairReply{Pair: &wire.Pair{}, Label: []byte(pair.Label()), Id: pair.ID(), Scheme: int32(scheme)}
	var err error
	if reply.Spki, err = wire.FromPublic(pair.Public()); err != nil {
		return nil, err
	}
	if reply.SigningSpki, err = wire.FromPublic(signer.Public()); err != nil {
		return nil, err
	}
	if reply.Pair.KeyId, err = keyspec.SubjectKeyID(pair.Public()); err != nil {
		return nil, err
	}
	if !bytes.Equal(reply.Spki, reply.SigningSpki) {
		if reply.Pair.SigningKeyId, err = keyspec.SubjectKeyID(signer.Public()); err != nil {
			return nil, err
		}
	}
	strays, err := pair.Mismatches(ctx)
	for _, stray := range strays {
		reply.Mismatches = append(reply.Mismatches, []byte(stray.What))
	}
	return reply, err
}
