package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	kmsapi "k8s.io/kms/apis/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/metrics"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A plugin is the KMS v2 service with one key of a keyring.
type plugin struct {
	kmsapi.UnimplementedKeyManagementServiceServer

	keyring *hsmkeys.Keyring
	name    string
	keys    *keys
	meter   *metrics.Meter
	record  hsmkeys.RecordFunc // nil: nothing is recorded
}

func newPlugin(k *hsmkeys.Keyring, name string, meter *metrics.Meter, record hsmkeys.RecordFunc) *plugin {
	p := &plugin{keyring: k, name: name, keys: newKeys(k, name), meter: meter, record: record}
	meter.Gauge("session_keys", func() float64 { return float64(p.keys.count()) })
	return p
}

func (p *plugin) close() { p.keys.close() }

// ready returns an error if the plugin cannot serve the key, before it listens. One that is deactivated
// still decrypts, and the status tells about it.
func (p *plugin) ready(ctx context.Context) error {
	e, err := p.keyring.Show(ctx, hsmkeys.Ref{Name: p.name})
	if err != nil {
		return err
	}
	if e.Status == ledger.Active.String() { // others encrypt nothing, and older versions may decrypt
		if _, err := p.keys.newest(ctx); err != nil {
			return err
		}
	}
	if e.Status == ledger.Destroyed.String() { // and its purpose is no longer known
		return nil
	}
	return e.WrapsKeys()
}

// untilExchanged calls serve with a context that is also done when the directory of the store was exchanged:
// the program ends with that error, and whoever starts it anew opens the directory that is there now.
func (p *plugin) untilExchanged(ctx context.Context, serve func(context.Context) error) error {
	ctx, end := context.WithCancelCause(ctx)
	defer end(nil)
	p.keys.exchanged = end
	err := serve(ctx)
	if why := context.Cause(ctx); errors.Is(why, dir.ErrExchanged) {
		return why
	}
	return err
}

// Status returns the identifier of the newest version of the key, and whether the plugin works. The API
// server asks about once a minute, and every ten seconds while something is wrong.
func (p *plugin) Status(ctx context.Context, _ *kmsapi.StatusRequest) (*kmsapi.StatusResponse, error) {
	ctx = hsmkeys.WithUse(ctx, hsmkeys.Use{Command: "kms"})
	p.keys.lookNow()
	key, err := p.keys.newest(ctx)
	if err == nil {
		err = key.MayEncrypt(ctx)
	}
	if err == nil {
		err = p.again(ctx, func(key *hsmkeys.Key) error { return key.Check(ctx) })
	}
	reply := &kmsapi.StatusResponse{Version: "v2", Healthz: "ok", KeyId: p.keys.lastID()}
	if err != nil {
		reply.Healthz = err.Error()
		message.Warn(fmt.Errorf("status: %w", err))
	}
	p.meter.Healthy(err == nil)
	return reply, nil
}

// again calls f with the newest version of the key, and once more with one that was opened anew if it
// went with the token.
func (p *plugin) again(ctx context.Context, f func(*hsmkeys.Key) error) error {
	for try := 0; ; try++ {
		key, err := p.keys.newest(ctx)
		if err != nil {
			return err
		}
		if err = f(key); err == nil || try == 1 || !isGone(err) {
			return err
		}
		p.keys.forget(key)
	}
}

// isGone reports whether a session key no longer exists, because the token went away, or the agent was
// locked.
func isGone(err error) bool {
	return errors.Is(err, keyspec.ErrLost) || errors.Is(err, keyspec.ErrClosed)
}

// Encrypt encrypts up to 512 bytes under the newest version of the key.
func (p *plugin) Encrypt(ctx context.Context, in *kmsapi.EncryptRequest) (*kmsapi.EncryptResponse, error) {
	ctx = hsmkeys.WithUse(ctx, hsmkeys.Use{Command: "kms", Request: in.GetUid()})
	reply := &kmsapi.EncryptResponse{}
	err := p.call(ctx, hsmkeys.OpEncrypt, in.GetUid(), func() error {
		if len(in.GetPlaintext()) > maxPlaintext {
			return errPlaintext
		}
		return p.again(ctx, func(key *hsmkeys.Key) error {
			if err := key.MayEncrypt(ctx); err != nil {
				return err
			}
			reply.KeyId = p.idOf(key)
			dataKey := make([]byte, dataKeySize)
			defer clear(dataKey)
			_, _ = rand.Read(dataKey) // never fails
			wrapped, err := key.WrapData(ctx, dataKey)
			if err != nil {
				return err
			}
			reply.Ciphertext, err = seal(dataKey, wrapped, in.GetPlaintext(), reply.KeyId)
			return err
		})
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// Decrypt decrypts what Encrypt has encrypted, under this version of the key or an earlier one.
func (p *plugin) Decrypt(ctx context.Context, in *kmsapi.DecryptRequest) (*kmsapi.DecryptResponse, error) {
	ctx = hsmkeys.WithUse(ctx, hsmkeys.Use{Command: "kms", Request: in.GetUid()})
	reply := &kmsapi.DecryptResponse{}
	err := p.call(ctx, hsmkeys.OpDecrypt, in.GetUid(), func() error {
		id, err := parseKeyID(in.GetKeyId())
		if err != nil {
			return err
		}
		if id.keyring != p.keyring.ID() {
			return fmt.Errorf("%w: it is of keyring %v, and this one is %v", errOtherKey, id.keyring, p.keyring.ID())
		}
		wrapped, sealed, err := split(in.GetCiphertext())
		if err != nil {
			return err
		}
		dataKey, err := p.unwrap(ctx, id, wrapped)
		if err != nil {
			return err
		}
		defer clear(dataKey)
		if reply.Plaintext, err = open(dataKey, sealed, in.GetKeyId()); err != nil {
			return errCiphertext
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return reply, nil
}

// errOtherKey is the error for a ciphertext under a key that this plugin does not serve.
var errOtherKey = errors.New("the ciphertext is under another key")

// unwrap unwraps a data key.
func (p *plugin) unwrap(ctx context.Context, id keyID, wrapped []byte) ([]byte, error) {
	for try := 0; ; try++ {
		key, err := p.keys.withID(ctx, id)
		if err != nil {
			return nil, err
		}
		dataKey, err := key.UnwrapData(ctx, wrapped)
		if err == nil || try == 1 || !isGone(err) {
			return dataKey, err
		}
		p.keys.forget(key)
	}
}

func (p *plugin) idOf(key *hsmkeys.Key) string { return p.keys.idOf(key).String() }

// call makes a call, counts it, and logs why it failed. The keyring records each use of a key; what the
// plugin refuses by itself is recorded here.
func (p *plugin) call(ctx context.Context, operation, uid string, f func() error) error {
	began := time.Now()
	err := f()
	if errors.Is(err, errPlaintext) || errors.Is(err, errKeyID) || errors.Is(err, errOtherKey) || errors.Is(err, errCiphertext) {
		err = hsmkeys.RecordUse(hsmkeys.WithUse(ctx, hsmkeys.Use{Operation: operation, Keyring: p.keyring.ID(), Key: p.name}), p.record, err)
	}
	p.meter.Operation(operation, time.Since(began), err)
	if err != nil {
		message.Warn(fmt.Errorf("%s, request %q: %w", operation, printableUID(uid), err))
	}
	return toStatus(err)
}

// printableUID returns at most 64 bytes of the identifier of a request, which is anybody's.
func printableUID(uid string) string { return uid[:min(len(uid), 64)] }
