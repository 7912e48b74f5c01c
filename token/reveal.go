package token

import (
	"bytes"
	"context"
	"fmt"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Reveal unwraps a session key and returns its value. The caller must overwrite it after use.
func (p *KeyPair) Reveal(ctx context.Context, wrapped keyspec.WrappedKey) ([]byte, error) {
	return p.reveal(ctx, openingOf(wrapped))
}

func (p *KeyPair) reveal(ctx context.Context, o opening) ([]byte, error) {
	var value []byte
	inMemory, err := p.unwrap(ctx, o, revealed(o.spec), func(s pkcs11.SessionHandle, handle pkcs11.ObjectHandle) error {
		var err error
		value, err = p.token.readValue(s, handle)
		return also(err, p.token.ctx.DestroyObject(s, handle))
	})
	if inMemory != nil {
		defer inMemory.Close()
		err = inMemory.Do(ctx, "reveal session key", func(secret []byte) error {
			value = bytes.Clone(secret)
			return nil
		})
	}
	if err == nil && len(value) != o.spec.Size {
		err = p.token.fail("reveal session key", ErrWrapped, fmt.Errorf("it has %d bytes, not %d", len(value), o.spec.Size))
	}
	if err == nil {
		err = p.token.mustConfirmValue(ctx, o.spec, value, o.confirmation)
	}
	if err != nil {
		clear(value)
		return nil, err
	}
	return value, nil
}
