package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hsmkeys/hsmkeys/token"
)

// ListSigned is when the newest list of members was signed.
func (k *Keyring) ListSigned() time.Time { return k.chain.lists[len(k.chain.lists)-1].SigningTime() }

// PinPlace tells where the pin of the keyring is kept: on a token, or in a file.
type PinPlace struct {
	OnToken bool
	Path    string // of the file
}

// PinPlace finds the pin of the newest list of members.
func (k *Keyring) PinPlace(ctx context.Context) (PinPlace, error) {
	if k.pair == nil {
		return PinPlace{}, errNoToken
	}
	newest := k.chain.lists[k.chain.newest.Number-1].Digest()
	is := func(text string) bool {
		p, err := ParsePin(text)
		return err == nil && p.Pair == hex.EncodeToString(k.self) && p.Digest == newest
	}
	records, err := k.token.Records(ctx)
	if err != nil && !errors.Is(err, token.ErrUnsupported) {
		return PinPlace{}, err
	}
	for _, r := range records {
		if is(string(r.Value)) {
			return PinPlace{OnToken: true}, nil
		}
	}
	path := filepath.Join(k.pins.dir, hex.EncodeToString(k.self), fmt.Sprintf("%s.%d", k.ID(), k.chain.newest.Number))
	if value, err := readPin(path); err == nil && k.pins.dir != "" && is(value) {
		return PinPlace{Path: path}, nil
	} else if err != nil && !errors.Is(err, os.ErrNotExist) {
		return PinPlace{}, fmt.Errorf("read the pin: %w", err)
	}
	return PinPlace{}, fmt.Errorf("no pin of list of members %d is found again", k.chain.newest.Number)
}
