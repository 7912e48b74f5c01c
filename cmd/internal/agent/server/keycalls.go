package server

import (
	"context"
	"crypto"
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// The operations that open session keys, and those of session keys, each as [hsmkeys.Pair],
// [keyspec.SessionKey] and [keyspec.Transit] describe it.

func (c *conn) Generate(ctx context.Context, in *wire.GenerateRequest) (*wire.OpenedKey, error) {
	key, err := in.GetKey().Spec()
	if err != nil {
		return nil, err
	}
	return c.openTransit(ctx, in, func(pair *token.KeyPair) (keyspec.Transit, error) { return pair.Generate(ctx, key) })
}

func (c *conn) Unwrap(ctx context.Context, in *wire.UnwrapRequest) (*wire.OpenedKey, error) {
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return c.openKey(ctx, in, func(pair *token.KeyPair) (keyspec.SessionKey, error) { return pair.Unwrap(ctx, wrapped) })
}

func (c *conn) UnwrapTransit(ctx context.Context, in *wire.UnwrapRequest) (*wire.OpenedKey, error) {
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return c.openTransit(ctx, in, func(pair *token.KeyPair) (keyspec.Transit, error) { return pair.UnwrapTransit(ctx, wrapped) })
}

func (c *conn) UnwrapRSAES(ctx context.Context, in *wire.UnwrapRSAESRequest) (*wire.OpenedKey, error) {
	key, err := in.GetKey().Spec()
	if err != nil {
		return nil, err
	}
	return c.openTransit(ctx, in, func(pair *token.KeyPair) (keyspec.Transit, error) {
		return pair.UnwrapRSAES(ctx, key, in.GetEncrypted(), keyspec.RSAES(in.GetHow()))
	})
}

func (c *conn) Use(ctx context.Context, in *wire.UseRequest) (*wire.OpenedKey, error) {
	key, err := in.GetKey().Spec()
	if err != nil {
		return nil, err
	}
	return c.openKey(ctx, in, func(pair *token.KeyPair) (keyspec.SessionKey, error) {
		value, err := c.sealer.Open(in.GetValue())
		if err != nil {
			return nil, err
		}
		defer clear(value)
		return pair.Use(ctx, key, value)
	})
}

func (c *conn) openKey(ctx context.Context, in use, f func(*token.KeyPair) (keyspec.SessionKey, error)) (reply *wire.OpenedKey, err error) {
	err = c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		key, err := f(pair)
		if err := c.used(ctx, in, hsmkeys.OpOpen, err); err != nil {
			if key != nil {
				err = errors.Join(err, key.Close())
			}
			return err
		}
		reply, err = c.add(openKey{key: key, pair: in.GetPair()}, key.Residence())
		return err
	})
	return reply, err
}

func (c *conn) openTransit(ctx context.Context, in use, f func(*token.KeyPair) (keyspec.Transit, error)) (reply *wire.OpenedKey, err error) {
	err = c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		transit, err := f(pair)
		if err := c.used(ctx, in, hsmkeys.OpOpen, err); err != nil {
			if transit != nil {
				err = errors.Join(err, transit.Close())
			}
			return err
		}
		reply, err = c.add(openKey{transit: transit, pair: in.GetPair()}, transit.Residence())
		return err
	})
	return reply, err
}

func (c *conn) ReadBack(ctx context.Context, in *wire.ReadBackRequest) (*wire.Empty, error) {
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, c.withTransit(in.GetHandle(), func(t *token.Token, k keyspec.Transit) error {
		pair, err := c.server.login.pair(ctx, t, in.GetPair())
		if err != nil {
			return err
		}
		return pair.ReadBack(ctx, k, wrapped)
	})
}

var errTransit = errors.New("the session key is open for another kind of use")

func (c *conn) withSession(handle uint32, f func(keyspec.SessionKey) error) error {
	return c.withKey(handle, func(_ *token.Token, k openKey) error {
		if k.key == nil {
			return errTransit
		}
		return f(k.key)
	})
}

func (c *conn) withTransit(handle uint32, f func(*token.Token, keyspec.Transit) error) error {
	return c.withKey(handle, func(t *token.Token, k openKey) error {
		if k.transit == nil {
			return errTransit
		}
		return f(t, k.transit)
	})
}

func (c *conn) WrapData(ctx context.Context, in *wire.KeySecretRequest) (*wire.Data, error) {
	return c.ofSecret(in, func(k keyspec.SessionKey, data []byte) ([]byte, error) { return k.WrapData(ctx, data) })
}

func (c *conn) MAC(ctx context.Context, in *wire.KeySecretRequest) (*wire.Data, error) {
	return c.ofSecret(in, func(k keyspec.SessionKey, message []byte) ([]byte, error) { return k.MAC(ctx, message) })
}

// ofSecret returns what f makes of a secret that the client has sent.
func (c *conn) ofSecret(in *wire.KeySecretRequest, f func(keyspec.SessionKey, []byte) ([]byte, error)) (*wire.Data, error) {
	reply := &wire.Data{}
	err := c.withSession(in.GetHandle(), func(k keyspec.SessionKey) error {
		secret, err := c.sealer.Open(in.GetSecret())
		if err != nil {
			return err
		}
		defer clear(secret)
		reply.Data, err = f(k, secret)
		return err
	})
	return reply, err
}

func (c *conn) UnwrapData(ctx context.Context, in *wire.KeyDataRequest) (*wire.Sealed, error) {
	var reply *wire.Sealed
	err := c.withSession(in.GetHandle(), func(k keyspec.SessionKey) error {
		data, err := k.UnwrapData(ctx, in.GetData())
		defer clear(data)
		if err == nil {
			reply = c.sealer.Seal(data)
		}
		return err
	})
	return reply, err
}

func (c *conn) CheckValue(ctx context.Context, in *wire.KeyRequest) (*wire.Data, error) {
	return c.ofTransit(in.GetHandle(), func(k keyspec.Transit) ([]byte, error) { return k.CheckValue(ctx) })
}

func (c *conn) Confirmation(ctx context.Context, in *wire.KeyRequest) (*wire.Data, error) {
	return c.ofTransit(in.GetHandle(), func(k keyspec.Transit) ([]byte, error) { return k.Confirmation(ctx) })
}

func (c *conn) WrapFor(ctx context.Context, in *wire.WrapForRequest) (*wire.Data, error) {
	if err := c.allowed("export"); err != nil {
		return nil, err
	}
	to, err := wire.PublicRSA(in.GetSpki())
	if err != nil {
		return nil, err
	}
	reply := &wire.Data{}
	err = c.withKey(in.GetHandle(), func(_ *token.Token, k openKey) error {
		if k.transit == nil {
			return errTransit
		}
		wrapped, err := k.transit.WrapFor(ctx, to, keyspec.RSAES(in.GetHow()))
		in.Pair = k.pair // whatever the client has said
		if err = c.used(ctx, in, hsmkeys.OpExport, err); err == nil {
			reply.Data = wrapped
		}
		return err
	})
	return reply, err
}

func (c *conn) ofTransit(handle uint32, f func(keyspec.Transit) ([]byte, error)) (*wire.Data, error) {
	reply := &wire.Data{}
	err := c.withTransit(handle, func(_ *token.Token, k keyspec.Transit) (err error) {
		reply.Data, err = f(k)
		return err
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

func (c *conn) Wrap(ctx context.Context, in *wire.WrapRequest) (*wire.WrappedKey, error) {
	to, err := wire.Public(in.GetSpki())
	if err != nil {
		return nil, err
	}
	hash := crypto.Hash(in.GetHash()) // none for EC
	var reply *wire.WrappedKey
	err = c.withTransit(in.GetHandle(), func(_ *token.Token, k keyspec.Transit) error {
		wrapped, err := k.Wrap(ctx, to, hash)
		if err == nil {
			reply, err = wire.FromWrapped(keyspec.WrappedKey{Wrapped: wrapped})
		}
		return err
	})
	return reply, err
}
