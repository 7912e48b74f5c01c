package hsmkeys

import (
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// Rewrap brings keys to today's list of members: the same key, wrapped to the
// members of the newest list and signed by the pair, as the next revision. A key
// that is so already is left alone, so Rewrap can be killed and started again.
func (k *Keyring) Rewrap(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return each(ctx, refs, func(ctx context.Context, ref Ref) Result {
		r, err := k.rewrap(ctx, ref)
		r.Ref, r.Err = ref, err
		return r
	})
}

func (k *Keyring) rewrap(ctx context.Context, ref Ref) (Result, error) {
	if err := k.mustOwn("rewrap keys"); err != nil {
		return Result{}, err
	}
	for {
		b, err := k.loadRef(ctx, ref)
		if err != nil {
			return Result{}, err
		}
		if k.isToday(b) {
			return Result{Entry: k.entry(b)}, nil
		}
		next, err := k.wrapAgain(ctx, b, nil)
		if errors.Is(err, blob.ErrExists) {
			continue // somebody was faster; see what it made
		}
		if err != nil {
			return Result{}, fmt.Errorf("rewrap key %q: %w", ref, err)
		}
		return Result{Entry: k.entry(next), Done: true}, nil
	}
}

// isToday says whether a blob is signed by an owner and wrapped to the members of
// the newest list and to nobody else.
func (k *Keyring) isToday(b *blob.Blob) bool {
	if k.chain.signers[string(b.SignerKeyID())].Role != blob.Owner {
		return false
	}
	if isDerived(b) {
		return true // nobody has to be able to open it
	}
	recipients, able := b.Recipients(), 0
	for _, r := range recipients {
		m, ok := k.chain.members[string(k.chain.names.key(r.SubjectKeyID))]
		if !ok || identifier(m.Certificate) != string(r.SubjectKeyID) { // or its certificate was another one
			return false
		}
	}
	for _, m := range k.chain.members {
		if specOf(b).WrapsTo(m.Certificate.PublicKey) {
			able++
		}
	}
	return len(recipients) == able // blob has seen that nobody is there twice
}

// wrapAgain makes the next revision of a blob: the same key, out of the token's
// hands and into today's members'. The new key was checked to be the old one where
// the token can tell.
func (k *Keyring) wrapAgain(ctx context.Context, b *blob.Blob, recovery *blob.Recovery) (*blob.Blob, error) {
	digest := b.Digest()
	d := b.Descriptor()
	d.Revision, d.Replaces, d.Recovery = d.Revision+1, digest[:], recovery
	if derivation, ok := b.Derivation(); ok { // it is signed anew, and needs no password for that
		return k.put(ctx, d, blob.Content{Algorithm: b.Algorithm(), Derivation: &derivation})
	}
	wrapped, err := k.ours(b)
	if err != nil {
		return nil, err
	}
	key, err := k.pair.UnwrapTransit(ctx, specOf(b), wrapped)
	if err != nil {
		return nil, err
	}
	defer key.Close()
	if err := checkValue(ctx, key, b); err != nil {
		return nil, err
	}
	return k.seal(ctx, d, b.Algorithm(), key)
}

// checkValue holds a key that was unwrapped against the check value in its blob,
// where the blob has one and the token can tell.
func checkValue(ctx context.Context, key token.Transit, b *blob.Blob) error {
	want := b.Descriptor().CheckValue
	if want == nil {
		return nil
	}
	got, err := key.CheckValue(ctx)
	if err != nil {
		return err
	}
	return sameCheckValue(got, want)
}

func sameCheckValue(got, want []byte) error {
	if got != nil && want != nil && subtle.ConstantTimeCompare(got, want) != 1 {
		return hint(fmt.Errorf("another key is wrapped in it: its check value is %x, the blob says %x: %w", got, want, blob.ErrIntegrity),
			"whoever signed this revision has wrapped another key; look for the revision before it (hsmkeys history)")
	}
	return nil
}
