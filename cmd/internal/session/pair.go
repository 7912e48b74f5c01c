package session

import (
	"context"
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
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
		pair, err := pairOfStore(ctx, s, t, t, store)
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

// pairOfStore returns the pair that the keyring in the store knows, or the zero value if there is no
// store or it does not tell. If store is nil, it opens the one in the settings.
func pairOfStore[P hsmkeys.Pair](ctx context.Context, s *settings.Settings, t hsmkeys.PairFinder[P], records keyspec.Records, store blob.Store) (P, error) {
	if store == nil {
		opened, err := OpenStore(ctx, s)
		if err != nil {
			var none P
			return none, nil // commands that need the store report it
		}
		defer opened.Close()
		store = opened
	}
	return hsmkeys.PairOf(ctx, t, store, Pins(records))
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
	name, err := pairName(t.Info(), option, named)
	if err != nil || named == "" {
		return nil, err
	}
	return t.KeyPair(ctx, name)
}

// pairName returns the name of a pair that an option has: a label, or a URI that must not be of another
// token.
func pairName(on token.Info, option, named string) (token.PairName, error) {
	if named == "" {
		return token.PairName{}, nil
	}
	sel, err := token.ParseSelector(named)
	if err != nil {
		return token.PairName{}, err
	}
	if sel.Label == named { // no URI
		return token.PairName{Label: named}, nil
	}
	clear(sel.PINValue)
	if sel.Object == "" && len(sel.ID) == 0 {
		return token.PairName{}, failure.Usage("--%s is the label of a pair, or a URI with object or id", option)
	}
	if sel.Label != "" && sel.Label != on.Label || sel.Serial != "" && sel.Serial != on.Serial {
		return token.PairName{}, failure.Usage("--%s is on another token than the key exchange pair: both are on one", option)
	}
	return token.PairName{Label: sel.Object, ID: sel.ID}, nil
}
