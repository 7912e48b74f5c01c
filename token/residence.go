package token

import (
	"context"
	"crypto/ecdsa"
	"errors"
	"fmt"
	"sync"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/token/memkey"
)

// residence is where the session keys of a pair live, found out once.
type residence struct {
	mu    sync.Mutex
	where keyspec.Residence
	why   error // that it is memory

	cached bool // from the cache, and not tried by this process
}

// Residence returns where the session keys of this pair live. It is the token if the token can
// generate, wrap and unwrap them and wrap data keys under them, according to its mechanisms, the
// private key's attributes and, for EC, one try, whose result is kept in [Config.Cache]; else it
// is memory. With [Config.RequireToken] memory is an [ErrResidence].
func (p *KeyPair) Residence(ctx context.Context) (keyspec.Residence, error) {
	p.residence.mu.Lock()
	defer p.residence.mu.Unlock()
	if p.residence.where == "" {
		why, err := p.whyMemory(ctx)
		if err != nil {
			return "", err
		}
		p.residence.where, p.residence.why = keyspec.InToken, why
		if why != nil {
			p.residence.where = keyspec.InMemory
		}
	}
	if p.residence.where == keyspec.InMemory && p.token.cfg.RequireToken {
		return "", p.refuseMemory(p.residence.why)
	}
	return p.residence.where, nil
}

// WhyMemory returns why the session keys of this pair live in memory, or "" if they do not.
func (p *KeyPair) WhyMemory() string {
	p.residence.mu.Lock()
	defer p.residence.mu.Unlock()
	if p.residence.why == nil {
		return ""
	}
	return p.residence.why.Error()
}

func (p *KeyPair) refuseMemory(why error) error {
	// why may be an Error itself, which fail would return as it is.
	return &Error{Op: "keep session keys on the token", Token: p.token.info.Label, Kind: ErrResidence, Err: why}
}

// fallBackToMemory sets the residence to memory, after an operation has shown what no list of
// mechanisms tells.
func (p *KeyPair) fallBackToMemory(why error) error {
	p.residence.mu.Lock()
	defer p.residence.mu.Unlock()
	p.residence.where, p.residence.why = keyspec.InMemory, why
	p.dropResidenceCache()
	if p.token.cfg.RequireToken {
		return p.refuseMemory(why)
	}
	return nil
}

// whyMemory returns what is missing for keys on the token, or nil.
func (p *KeyPair) whyMemory(ctx context.Context) (why, err error) {
	can := p.token.info.Mechanisms
	switch {
	case !can.GenerateAES:
		return errors.New("the token makes no AES keys (CKM_AES_KEY_GEN)"), nil
	case !can.WrapAES:
		return errors.New("the token has no AES key wrap (CKM_AES_KEY_WRAP)"), nil
	}
	if why := p.kind().whyMemory(p.private, can); why != "" {
		return errors.New(why), nil
	}
	key, mustTry := p.public.(*ecdsa.PublicKey)
	if !mustTry {
		return nil, nil
	}
	was, ok := p.readResidenceCache()
	p.residence.cached = ok
	switch {
	case ok && was.inToken:
		return nil, nil
	case ok:
		return errors.New(was.why), nil
	}
	if why, err = p.tryDerive(ctx, key); err == nil {
		p.writeResidenceCache(why)
	}
	return why, err
}

// tryDerive finds out whether the token derives keys that session keys can be unwrapped with,
// which its list of mechanisms does not tell.
func (p *KeyPair) tryDerive(ctx context.Context, own *ecdsa.PublicKey) (why, err error) {
	ephemeral, secret, err := memkey.Agree(own)
	if err != nil {
		return nil, err
	}
	clear(secret) // it is not needed
	err = p.with(ctx, func(s pkcs11.SessionHandle, key pkcs11.ObjectHandle) error {
		handle, err := p.deriveKEK(s, key, ephemeral)
		if err != nil {
			return err
		}
		return p.token.ctx.DestroyObject(s, handle)
	})
	if refuses(err) {
		return fmt.Errorf("the token agrees on a secret, but does not derive a key from it (CKM_ECDH1_DERIVE with a CKD_..._KDF): %s", describe(err)), nil
	}
	return nil, p.token.fail("find out where session keys can live", nil, err)
}
