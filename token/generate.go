package token

import (
	"context"
	"crypto/subtle"
	"errors"
	"io"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// Generate makes a session key where the session keys of this pair live: on the token
// (C_GenerateKey), or in memory from the token's random numbers.
func (p *KeyPair) Generate(ctx context.Context, spec keyspec.Key) (keyspec.Transit, error) {
	switch where, err := p.Residence(ctx); {
	case err != nil:
		return nil, err
	case where == keyspec.InToken:
		return p.token.Generate(ctx, spec)
	}
	if err := spec.Check(); err != nil {
		return nil, p.token.fail("generate session key", errors.ErrUnsupported, err)
	}
	random, err := p.token.Random()
	if err != nil {
		return nil, err
	}
	var key *memkey.Key
	err = memkey.WithoutTrace(func() error {
		value := make([]byte, spec.Size)
		_, err := io.ReadFull(random, value)
		if err != nil {
			clear(value)
			return p.token.fail("generate session key", nil, err)
		}
		key, err = memkey.New(spec, value, p.token.fail)
		return err
	})
	return asTransit(key, err)
}

// Generate makes a session key on the token (C_GenerateKey), whether or not a pair could hold it
// there; see [KeyPair.Generate]. The error is an [ErrUnsafe] if the token made a key of another
// size, a key of zeros, or the same key as before.
func (t *Token) Generate(ctx context.Context, spec keyspec.Key) (keyspec.Transit, error) {
	const op = "generate session key"
	if err := spec.Check(); err != nil {
		return nil, t.fail(op, errors.ErrUnsupported, err)
	}
	var handle pkcs11.ObjectHandle
	var generation uint64
	err := t.with(ctx, func(s pkcs11.SessionHandle) (err error) {
		generation = t.generation.Load()
		t.objects.Store(true)
		handle, err = t.ctx.GenerateKey(s, mechanism(generator(spec), nil),
			append(inTransit(spec), attr(pkcs11.CKA_VALUE_LEN, spec.Size)))
		return err
	})
	if err != nil {
		return nil, t.fail(op, nil, err)
	}
	key := &tokenTransit{sessionObject: sessionObject{token: t, handle: handle, generation: generation}, spec: spec}
	if err := key.checkMade(ctx); err != nil {
		return nil, also(err, key.Close())
	}
	return key, nil
}

// checkMade checks a key that the token has generated: it must have the size that was asked for,
// differ from the key before, and not be zero.
func (k *tokenTransit) checkMade(ctx context.Context) error {
	const op = "check the new session key"
	t := k.token
	if !t.info.Mechanisms.WrapAES { // then no pair keeps its session keys on this token
		return nil
	}
	measured, err := k.fingerprint(ctx)
	if errors.Is(err, ErrWrapped) {
		return t.fail(op, ErrUnsafe, cause(err))
	}
	if err != nil {
		return err
	}
	if before := t.lastMade.Swap(&measured); before != nil && subtle.ConstantTimeCompare(*before, measured) == 1 {
		return t.fail(op, ErrUnsafe, errors.New("the token has made the same key twice"))
	}
	k.confirmation, err = k.Confirmation(ctx)
	if is(err, pkcs11.CKR_KEY_SIZE_RANGE) {
		return t.fail(op, ErrUnsafe, cause(err))
	}
	if err != nil {
		return err
	}
	zeros, err := t.confirmValue(ctx, k.spec, make([]byte, k.spec.Size))
	if err == nil && k.confirmation != nil && subtle.ConstantTimeCompare(k.confirmation, zeros) == 1 {
		err = t.fail(op, ErrUnsafe, errors.New("the token has made a key of zeros"))
	}
	return err
}
