package token

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"fmt"
	"io"

	"github.com/miekg/pkcs11"
)

// Random returns a reader of the token's random numbers (C_GenerateRandom), combined with the
// system's so that the result is as good as the better of the two. If the token has no working
// generator, like many cards, the numbers are the system's alone.
func (t *Token) Random() (io.Reader, error) {
	err := t.withCrypto11(func() error { return nil })
	return random{t}, err
}

type random struct{ token *Token }

func (r random) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	if r.token.noRandom {
		return rand.Read(b)
	}
	// A generator that is stuck cannot be noticed, and keys, ids and salts are made of this.
	own := make([]byte, len(b))
	defer clear(own)
	_, _ = rand.Read(own)
	var got []byte
	err := r.token.with(context.Background(), func(s pkcs11.SessionHandle) (err error) {
		got, err = r.token.ctx.GenerateRandom(s, len(b))
		return err
	})
	defer clear(got)
	if err == nil && len(got) != len(b) {
		err = fmt.Errorf("%d bytes came back for %d", len(got), len(b))
	}
	if err != nil {
		return 0, r.token.fail("get random bytes", nil, err)
	}
	return subtle.XORBytes(b, got, own), nil
}
