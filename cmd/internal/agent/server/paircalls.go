package server

import (
	"context"
	"crypto"
	"crypto/rsa"
	"crypto/x509"
	"fmt"
	"io"
	"slices"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
	"github.com/hsmkeys/hsmkeys/token"
)

// The operations of a pair, each as [hsmkeys.Pair] and its companions describe it.

func (c *conn) Sign(ctx context.Context, in *wire.SignRequest) (*wire.Data, error) {
	hash, err := wire.Hash(in.GetHash())
	if err != nil {
		return nil, err
	}
	var opts crypto.SignerOpts = hash
	if in.GetPssSaltLength() > 0 {
		opts = &rsa.PSSOptions{SaltLength: int(in.GetPssSaltLength()), Hash: hash}
	}
	reply := &wire.Data{}
	err = c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) (err error) {
		signer, _ := pair.Signer()
		reply.Data, err = signer.Sign(nil, in.GetDigest(), opts)
		return c.used(ctx, in, opSign, err)
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// opSign is the operation of a record of a signature: of a checkpoint, a key blob or a proof.
const opSign = "sign"

// maxRandom is how many random bytes a call returns.
const maxRandom = 1024

func (c *conn) Random(ctx context.Context, in *wire.RandomRequest) (*wire.Sealed, error) {
	if in.GetSize() < 1 || in.GetSize() > maxRandom {
		return nil, fmt.Errorf("random bytes: a call returns 1 to %d", maxRandom)
	}
	return c.secret(ctx, in.GetPair(), func(pair *token.KeyPair) ([]byte, error) {
		random, err := pair.Random()
		if err != nil {
			return nil, err
		}
		b := make([]byte, in.GetSize())
		_, err = io.ReadFull(random, b)
		return b, err
	})
}

// secret returns the result of f sealed, and overwrites it.
func (c *conn) secret(ctx context.Context, ref *wire.Pair, f func(*token.KeyPair) ([]byte, error)) (*wire.Sealed, error) {
	var sealed *wire.Sealed
	err := c.withPair(ctx, ref, func(pair *token.KeyPair) error {
		secret, err := f(pair)
		defer clear(secret)
		if err == nil {
			sealed = c.sealer.Seal(secret)
		}
		return err
	})
	return sealed, err
}

// recordedSecret is secret for a use that is recorded.
func (c *conn) recordedSecret(ctx context.Context, in use, operation string, f func(*token.KeyPair) ([]byte, error)) (*wire.Sealed, error) {
	return c.secret(ctx, in.GetPair(), func(pair *token.KeyPair) ([]byte, error) {
		secret, err := f(pair)
		return secret, c.used(ctx, in, operation, err)
	})
}

func (c *conn) Records(ctx context.Context, _ *wire.Empty) (*wire.RecordsReply, error) {
	reply := &wire.RecordsReply{}
	err := c.withToken(func(t *token.Token) error {
		all, err := t.Records(ctx)
		for _, r := range all {
			reply.Records = append(reply.Records, wire.FromRecord(r))
		}
		return err
	})
	return reply, err
}

func (c *conn) AddRecord(ctx context.Context, in *wire.RecordRequest) (*wire.Empty, error) {
	return &wire.Empty{}, c.withToken(func(t *token.Token) error {
		r := in.GetRecord().Spec()
		return t.AddRecord(ctx, r.Label, r.Value)
	})
}

func (c *conn) DeleteRecord(ctx context.Context, in *wire.RecordRequest) (*wire.Empty, error) {
	return &wire.Empty{}, c.withToken(func(t *token.Token) error {
		return t.DeleteRecord(ctx, in.GetRecord().Spec())
	})
}

func (c *conn) Residence(ctx context.Context, in *wire.PairRequest) (*wire.ResidenceReply, error) {
	reply := &wire.ResidenceReply{}
	err := c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		where, err := pair.Residence(ctx)
		reply.Residence = string(where)
		return err
	})
	return reply, err
}

func (c *conn) Check(ctx context.Context, in *wire.PairRequest) (*wire.Empty, error) {
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error { return pair.Check(ctx) })
}

func (c *conn) CheckOpens(ctx context.Context, in *wire.PairRequest) (*wire.Empty, error) {
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error { return pair.CheckOpens(ctx) })
}

func (c *conn) CheckComputed(ctx context.Context, in *wire.PairRequest) (*wire.Empty, error) {
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error { return pair.CheckComputed() })
}

func (c *conn) Rehearse(ctx context.Context, in *wire.UnwrapRequest) (*wire.Empty, error) {
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		return c.used(ctx, in, hsmkeys.OpProve, pair.Rehearse(ctx, wrapped))
	})
}

func (c *conn) Reveal(ctx context.Context, in *wire.UnwrapRequest) (*wire.Sealed, error) {
	if err := c.allowed("reveal"); err != nil {
		return nil, err
	}
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return c.recordedSecret(ctx, in, hsmkeys.OpReveal, func(pair *token.KeyPair) ([]byte, error) { return pair.Reveal(ctx, wrapped) })
}

// allowed returns an error unless the agent was started with --allow for an operation.
func (c *conn) allowed(operation string) error {
	if slices.Contains(c.server.config.Allows, operation) {
		return nil
	}
	return fmt.Errorf("%s session keys: %w", operation, wire.ErrNotAllowed)
}

func (c *conn) Certificate(ctx context.Context, in *wire.PairRequest) (*wire.Data, error) {
	return c.certificate(ctx, in, (*token.KeyPair).Certificate)
}

func (c *conn) IssuedCertificate(ctx context.Context, in *wire.PairRequest) (*wire.Data, error) {
	return c.certificate(ctx, in, (*token.KeyPair).IssuedCertificate)
}

func (c *conn) SigningCertificate(ctx context.Context, in *wire.PairRequest) (*wire.Data, error) {
	return c.certificate(ctx, in, (*token.KeyPair).SigningCertificate)
}

func (c *conn) certificate(ctx context.Context, in *wire.PairRequest, of func(*token.KeyPair, context.Context) (*x509.Certificate, error)) (*wire.Data, error) {
	reply := &wire.Data{}
	err := c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		certificate, err := of(pair, ctx)
		if certificate != nil {
			reply.Data = certificate.Raw
		}
		return err
	})
	return reply, err
}

func (c *conn) Decrypt(ctx context.Context, in *wire.HashRequest) (*wire.Sealed, error) {
	hash, err := wire.Hash(in.GetHash())
	if err != nil {
		return nil, err
	}
	return c.recordedSecret(ctx, in, hsmkeys.OpDecrypt, func(pair *token.KeyPair) ([]byte, error) { return pair.Decrypt(ctx, in.GetData(), hash) })
}

func (c *conn) ECDH(ctx context.Context, in *wire.DataRequest) (*wire.Sealed, error) {
	peer, err := wire.PublicECDH(in.GetData())
	if err != nil {
		return nil, err
	}
	return c.recordedSecret(ctx, in, hsmkeys.OpDecrypt, func(pair *token.KeyPair) ([]byte, error) { return pair.ECDH(ctx, peer) })
}

func (c *conn) Load(ctx context.Context, in *wire.LoadRequest) (*wire.Empty, error) {
	if err := c.allowed("load"); err != nil {
		return nil, err
	}
	wrapped, err := in.GetWrapped().Spec()
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		return c.changes(ctx, in, hsmkeys.OpLoad, func() error {
			return pair.Load(ctx, wrapped, string(in.GetLabel()), in.GetId(), in.GetBeside()...)
		})
	})
}

func (c *conn) LoadValue(ctx context.Context, in *wire.LoadRequest) (*wire.Empty, error) {
	if err := c.allowed("load"); err != nil {
		return nil, err
	}
	key, err := in.GetKey().Spec()
	if err != nil {
		return nil, err
	}
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		value, err := c.sealer.Open(in.GetValue())
		if err != nil {
			return err
		}
		defer clear(value)
		return c.changes(ctx, in, hsmkeys.OpLoad, func() error {
			return pair.LoadValue(ctx, key, value, string(in.GetLabel()), in.GetId(), in.GetBeside()...)
		})
	})
}

func (c *conn) Loaded(ctx context.Context, in *wire.PairRequest) (*wire.LoadedReply, error) {
	reply := &wire.LoadedReply{}
	err := c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		all, err := pair.Loaded(ctx)
		for _, k := range all {
			reply.Keys = append(reply.Keys, wire.FromLoaded(k))
		}
		return err
	})
	return reply, err
}

func (c *conn) Unload(ctx context.Context, in *wire.UnloadRequest) (*wire.Empty, error) {
	if err := c.allowed("load"); err != nil {
		return nil, err
	}
	return &wire.Empty{}, c.withPair(ctx, in.GetPair(), func(pair *token.KeyPair) error {
		return c.changes(ctx, in, hsmkeys.OpUnload, func() error {
			return pair.Unload(ctx, in.GetKey().Spec())
		})
	})
}
