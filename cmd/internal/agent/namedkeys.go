package agent

import (
	"context"
	"errors"
	"io"
	"strings"

	"filippo.io/age"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/agent/wire"
)

// NamedKeys are the keys that an agent of another user allows this user to encrypt or decrypt files with.
type NamedKeys struct {
	client *Client
	record hsmkeys.RecordFunc
}

// NamedKeys returns the keys that the agent allows. Each use is recorded with record, which may be nil.
func (c *Client) NamedKeys(record hsmkeys.RecordFunc) *NamedKeys { return &NamedKeys{c, record} }

// Encrypt encrypts what is written to it into an age file on dst, under the newest version of each of
// the keys, and for further recipients. The caller must close it, or the file is incomplete.
func (k *NamedKeys) Encrypt(ctx context.Context, dst io.Writer, refs []hsmkeys.Ref, others ...age.Recipient) (io.WriteCloser, error) {
	w, err := age.Encrypt(dst, append([]age.Recipient{&namedRecipient{k, ctx, refs}}, others...)...)
	if remote := (*wire.RemoteError)(nil); errors.As(err, &remote) {
		return nil, remote // without age's words about the number of the recipient
	}
	return w, err
}

// Decrypt reads an age file, as [hsmkeys.Keyring.Decrypt].
func (k *NamedKeys) Decrypt(ctx context.Context, src io.Reader) (io.Reader, error) {
	return hsmkeys.DecryptWithIdentity(ctx, k.Identity(ctx), src)
}

// DecryptFile decrypts a file with random access, as [hsmkeys.Keyring.DecryptFile].
func (k *NamedKeys) DecryptFile(ctx context.Context, dst io.Writer, src io.ReaderAt, size int64) error {
	return hsmkeys.DecryptFileWithIdentity(ctx, k.Identity(ctx), dst, src, size)
}

// Identity returns an age identity that opens the key that a file names.
func (k *NamedKeys) Identity(ctx context.Context) age.Identity { return &namedIdentity{k, ctx} }

// used records a use and returns its result, which it overwrites if that fails.
func (k *NamedKeys) used(ctx context.Context, result []byte, err error) ([]byte, error) {
	if err = hsmkeys.RecordUse(ctx, k.record, err); err != nil {
		clear(result)
		return nil, err
	}
	return result, nil
}

// age's interfaces have no context.

type namedRecipient struct {
	keys *NamedKeys
	ctx  context.Context
	refs []hsmkeys.Ref
}

func (r *namedRecipient) Wrap(fileKey []byte) ([]*age.Stanza, error) {
	request := &wire.WrapFileKeyRequest{}
	var names []string
	for _, ref := range r.refs {
		request.Refs = append(request.Refs, &wire.Ref{Name: ref.Name, Version: int32(ref.Version)})
		names = append(names, ref.String())
	}
	ctx := hsmkeys.WithUse(r.ctx, hsmkeys.Use{Operation: hsmkeys.OpEncrypt, Key: strings.Join(names, " ")})
	request.Use = wire.FromUse(ctx)
	reply, err := call(ctx, r.keys.client, func(n *conn) (*wire.Stanzas, error) {
		request.FileKey = n.sealer.Seal(fileKey)
		return n.keys().Wrap(ctx, request)
	})
	if _, err = r.keys.used(ctx, nil, err); err != nil {
		return nil, err
	}
	return wire.ToStanzas(reply.GetStanzas()), nil
}

type namedIdentity struct {
	keys *NamedKeys
	ctx  context.Context
}

func (i *namedIdentity) Unwrap(stanzas []*age.Stanza) ([]byte, error) {
	ctx := hsmkeys.WithUse(i.ctx, hsmkeys.Use{Operation: hsmkeys.OpDecrypt})
	for _, s := range stanzas {
		if name, ok := hsmkeys.StanzaKey(s); ok {
			ctx = hsmkeys.WithUse(ctx, hsmkeys.Use{Key: name})
			break
		}
	}
	fileKey, err := call(ctx, i.keys.client, func(n *conn) ([]byte, error) {
		sealed, err := n.keys().Unwrap(ctx, &wire.UnwrapFileKeyRequest{Stanzas: wire.FromStanzas(stanzas), Use: wire.FromUse(ctx)})
		if err != nil {
			return nil, err
		}
		return n.sealer.Open(sealed)
	})
	return i.keys.used(ctx, fileKey, err)
}
