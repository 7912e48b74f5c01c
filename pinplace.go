package hsmkeys

import (
	"context"
	"errors"
	"os"
)

// PinPlace says where the pin of the keyring is.
type PinPlace struct {
	Token int    // number of the checkpoint that is pinned on the token; 0: none
	File  int    // in the file
	Path  string // of the file
}

// PinPlace returns where the pins of the keyring are, read anew.
func (k *Keyring) PinPlace(ctx context.Context) (PinPlace, error) {
	if k.pair == nil {
		return PinPlace{}, errNoToken
	}
	pin := k.pinned()
	all, err := k.pins.onToken(ctx, pin.Pair)
	if err != nil {
		return PinPlace{}, err
	}
	var place PinPlace
	for _, p := range all {
		if p.of(pin) {
			place.Token = max(place.Token, p.At.Number)
		}
	}
	if k.pins.dir != "" {
		switch p, err := readPin(k.pins.file(pin)); {
		case err == nil:
			place.File, place.Path = p.At.Number, k.pins.file(pin)
		case !errors.Is(err, os.ErrNotExist):
			return place, err
		}
	}
	if max(place.Token, place.File) == 0 {
		return place, errors.New("the pin that was written cannot be read back")
	}
	return place, nil
}
