package agent

import (
	"context"
	"crypto"
	"crypto/rsa"
	"sync"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
)

// An opened is a session key that the agent has opened for this client. It belongs to the connection
// over which it was opened, and is destroyed when that ends.
type opened struct {
	client    *Client
	pair      *Pair
	conn      *conn
	handle    uint32
	residence keyspec.Residence
	close     sync.Once
}

// open makes a call that opens a session key.
func (p *Pair) open(ctx context.Context, f func(*conn) (*wire.OpenedKey, error)) (*opened, error) {
	n, err := p.client.pool.get(ctx)
	if err != nil {
		return nil, err
	}
	defer p.client.pool.release(n)
	reply, err := f(n)
	if err != nil {
		return nil, fromAgent(ctx, err)
	}
	p.client.pool.hold(n, 1)
	return &opened{client: p.client, pair: p, conn: n, handle: reply.GetHandle(), residence: keyspec.Residence(reply.GetResidence())}, nil
}

// onKey makes a call with an open key, over the connection that the key belongs to.
func onKey[T any](ctx context.Context, k *opened, f func(wire.DRPCAgentClient) (T, error)) (T, error) {
	k.client.pool.enter(k.conn)
	defer k.client.pool.release(k.conn)
	reply, err := f(k.conn.agent())
	return reply, fromAgent(ctx, err)
}

// Residence returns where the key lives: on the token, or in the memory of the agent.
func (k *opened) Residence() keyspec.Residence { return k.residence }

// Close destroys the key.
func (k *opened) Close() error {
	var err error
	k.close.Do(func() {
		defer k.client.pool.hold(k.conn, -1)
		if k.conn.closed() {
			return // and so the key is destroyed
		}
		ctx := context.Background()
		_, err = onKey(ctx, k, func(a wire.DRPCAgentClient) (*wire.Empty, error) {
			return a.CloseKey(ctx, &wire.KeyRequest{Handle: k.handle})
		})
	})
	return err
}

// A sessionKey is a session key in use.
type sessionKey struct {
	*opened
	key keyspec.Key
}

func (k *sessionKey) Key() keyspec.Key { return k.key }

func (k *sessionKey) WrapData(ctx context.Context, data []byte) ([]byte, error) {
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Data, error) {
		return a.WrapData(ctx, &wire.KeySecretRequest{Handle: k.handle, Secret: k.conn.sealer.Seal(data)})
	})
	return reply.GetData(), err
}

func (k *sessionKey) UnwrapData(ctx context.Context, wrapped []byte) ([]byte, error) {
	sealed, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Sealed, error) {
		return a.UnwrapData(ctx, &wire.KeyDataRequest{Handle: k.handle, Data: wrapped})
	})
	if err != nil {
		return nil, err
	}
	return k.conn.sealer.Open(sealed)
}

func (k *sessionKey) MAC(ctx context.Context, message []byte) ([]byte, error) {
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Data, error) {
		return a.MAC(ctx, &wire.KeySecretRequest{Handle: k.handle, Secret: k.conn.sealer.Seal(message)})
	})
	return reply.GetData(), err
}

// A transit is a session key that is about to be wrapped.
type transit struct{ *opened }

func (k *transit) CheckValue(ctx context.Context) ([]byte, error) {
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Data, error) {
		return a.CheckValue(ctx, &wire.KeyRequest{Handle: k.handle})
	})
	return orNil(reply), err
}

func (k *transit) Confirmation(ctx context.Context) ([]byte, error) {
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Data, error) {
		return a.Confirmation(ctx, &wire.KeyRequest{Handle: k.handle})
	})
	return orNil(reply), err
}

// orNil returns the data of a reply, or nil if there is none.
func orNil(reply *wire.Data) []byte {
	if len(reply.GetData()) == 0 {
		return nil
	}
	return reply.GetData()
}

func (k *transit) Wrap(ctx context.Context, to crypto.PublicKey, hash crypto.Hash) (keyspec.Wrapped, error) {
	spki, err := wire.FromPublic(to)
	if err != nil {
		return nil, err
	}
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.WrappedKey, error) {
		return a.Wrap(ctx, &wire.WrapRequest{Handle: k.handle, Spki: spki, Hash: int32(hash)})
	})
	if err != nil {
		return nil, err
	}
	return reply.Wrapped()
}

func (k *transit) WrapFor(ctx context.Context, to *rsa.PublicKey, how keyspec.RSAES) ([]byte, error) {
	spki, err := wire.FromPublic(to)
	if err != nil {
		return nil, err
	}
	reply, err := onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Data, error) {
		return a.WrapFor(ctx, &wire.WrapForRequest{Pair: k.pair.ref, Handle: k.handle, Spki: spki, How: int32(how), Use: wire.FromUse(ctx)})
	})
	return reply.GetData(), err
}

// Generate makes a session key.
func (p *Pair) Generate(ctx context.Context, key keyspec.Key) (keyspec.Transit, error) {
	return p.openTransit(ctx, func(n *conn) (*wire.OpenedKey, error) {
		return n.agent().Generate(ctx, &wire.GenerateRequest{Pair: p.ref, Key: wire.FromKey(key), Use: wire.FromUse(ctx)})
	})
}

// Unwrap unwraps a session key for its purpose.
func (p *Pair) Unwrap(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.SessionKey, error) {
	request, err := p.unwrapRequest(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	return p.openKey(ctx, wrapped.Key, func(n *conn) (*wire.OpenedKey, error) { return n.agent().Unwrap(ctx, request) })
}

// UnwrapTransit unwraps a session key so that it can be wrapped to others.
func (p *Pair) UnwrapTransit(ctx context.Context, wrapped keyspec.WrappedKey) (keyspec.Transit, error) {
	request, err := p.unwrapRequest(ctx, wrapped)
	if err != nil {
		return nil, err
	}
	return p.openTransit(ctx, func(n *conn) (*wire.OpenedKey, error) { return n.agent().UnwrapTransit(ctx, request) })
}

// UnwrapRSAES unwraps a session key that CryptoAPI has encrypted, see [token.KeyPair.UnwrapRSAES].
func (p *Pair) UnwrapRSAES(ctx context.Context, key keyspec.Key, encrypted []byte, how keyspec.RSAES) (keyspec.Transit, error) {
	return p.openTransit(ctx, func(n *conn) (*wire.OpenedKey, error) {
		return n.agent().UnwrapRSAES(ctx, &wire.UnwrapRSAESRequest{Pair: p.ref, Key: wire.FromKey(key), Encrypted: encrypted, How: int32(how), Use: wire.FromUse(ctx)})
	})
}

// Use returns a session key with a value that was computed elsewhere. The caller must overwrite the
// value.
func (p *Pair) Use(ctx context.Context, key keyspec.Key, value []byte) (keyspec.SessionKey, error) {
	return p.openKey(ctx, key, func(n *conn) (*wire.OpenedKey, error) {
		return n.agent().Use(ctx, &wire.UseRequest{Pair: p.ref, Key: wire.FromKey(key), Value: n.sealer.Seal(value), Use: wire.FromUse(ctx)})
	})
}

// ReadBack unwraps a session key that was wrapped to the pair, and compares it with the original, which
// this pair must have opened.
func (p *Pair) ReadBack(ctx context.Context, original keyspec.Transit, wrapped keyspec.WrappedKey) error {
	k, ok := original.(*transit)
	if !ok || k.client != p.client {
		return errNotOpened
	}
	m, err := wire.FromWrapped(wrapped)
	if err != nil {
		return err
	}
	_, err = onKey(ctx, k.opened, func(a wire.DRPCAgentClient) (*wire.Empty, error) {
		return a.ReadBack(ctx, &wire.ReadBackRequest{Pair: p.ref, Handle: k.handle, Wrapped: m})
	})
	return err
}

func (p *Pair) openKey(ctx context.Context, key keyspec.Key, f func(*conn) (*wire.OpenedKey, error)) (keyspec.SessionKey, error) {
	k, err := p.open(ctx, f)
	if err != nil {
		return nil, err
	}
	return &sessionKey{k, key}, nil
}

func (p *Pair) openTransit(ctx context.Context, f func(*conn) (*wire.OpenedKey, error)) (keyspec.Transit, error) {
	k, err := p.open(ctx, f)
	if err != nil {
		return nil, err
	}
	return &transit{k}, nil
}
