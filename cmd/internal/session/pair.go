package session

import (
	"context"
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/token"
)

// DefaultLabel is the label of the key exchange pair if the user names none.
const DefaultLabel = "hsmkeys"

// FindPair finds the pair that is named, or else the one that the keyring in the store knows, or else
// as [PairOn] does; and the one that signs for it. If store is nil, it opens the one in the settings.
func FindPair(ctx context.Context, s *settings.Settings, t *token.Token, store blob.Store, name token.PairName) (*token.KeyPair, error) {
	if name.Label == "" && len(name.ID) == 0 {
		pair, err := pairOfStore(ctx, s, t, store)
		if err != nil {
			return nil, err
		}
		if pair != nil {
			return pair, SignWith(ctx, s, t, pair)
		}
	}
	return PairOn(ctx, s, t, name)
}

// PairOn finds the pair that is named, or else that with the default label, or else the only one on
// the token; and the one that signs for it.
func PairOn(ctx context.Context, s *settings.Settings, t *token.Token, name token.PairName) (*token.KeyPair, error) {
	unnamed := name.Label == "" && len(name.ID) == 0
	if unnamed {
		name.Label = DefaultLabel
	}
	pair, err := t.KeyPair(ctx, name)
	if unnamed && errors.Is(err, token.ErrNoPair) {
		pair, err = t.KeyPair(ctx, token.PairName{})
	}
	if err == nil {
		err = pair.RefuseLegacy()
	}
	if err != nil {
		return nil, err
	}
	return pair, SignWith(ctx, s, t, pair)
}

// pairOfStore returns the pair that the keyring in the store knows, or nil if there is no store or it
// does not tell.
func pairOfStore(ctx context.Context, s *settings.Settings, t *token.Token, store blob.Store) (*token.KeyPair, error) {
	if store == nil {
		opened, err := OpenStore(ctx, s)
		if err != nil {
			return nil, nil // commands that need the store report it
		}
		defer opened.Close()
		store = opened
	}
	return hsmkeys.PairOf(ctx, t, store, Pins(t))
}

// SignWith makes the pair that --signing-key names sign for another one.
func SignWith(ctx context.Context, s *settings.Settings, t *token.Token, pair *token.KeyPair) error {
	signing, err := PairNamed(ctx, t, "signing-key", s.SigningKey)
	if err != nil || signing == nil {
		return err
	}
	if err := signing.RefuseLegacy(); err != nil {
		return err
	}
	return pair.SignWith(signing)
}

// PairNamed finds another pair on the token by the value of an option: a label or a URI. It returns
// nil if the value is empty.
func PairNamed(ctx context.Context, t *token.Token, option, named string) (*token.KeyPair, error) {
	if named == "" {
		return nil, nil
	}
	name := token.PairName{Label: named}
	if sel, err := token.ParseSelector(named); err != nil {
		return nil, err
	} else if sel.Label != named { // a URI, not a label
		clear(sel.PINValue)
		if sel.Object == "" && len(sel.ID) == 0 {
			return nil, failure.Usage("--%s is the label of a pair, or a URI with object or id", option)
		}
		if sel.Label != "" && sel.Label != t.Info().Label || sel.Serial != "" && sel.Serial != t.Info().Serial {
			return nil, failure.Usage("--%s is on another token than the key exchange pair: both are on one", option)
		}
		name = token.PairName{Label: sel.Object, ID: sel.ID}
	}
	return t.KeyPair(ctx, name)
}
