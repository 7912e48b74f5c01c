package hsmkeys

import (
	"context"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Rewrap brings keys to the list of members in force: the same key, wrapped to the members of that
// list and signed by the pair, as the next revision. Keys that are up to date are left alone, so
// Rewrap can be killed and started again. The reason is recorded, and may be empty.
func (k *Keyring) Rewrap(ctx context.Context, refs []Ref, reason string) iter.Seq[Result] {
	return k.rewrapEach(ctx, refs, reason, nil)
}

// RewrapDamaged is Rewrap that also opens every key, at the cost of one operation of the token
// each: a newest revision that the token does not open is made anew from the one before it. If
// others is set, so is one that some other holder has not proven to open, see [Keyring.Prove]: only
// that holder's token can open what is wrapped to it.
func (k *Keyring) RewrapDamaged(ctx context.Context, refs []Ref, reason string, others bool) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		opened := map[string]*proven{} // by the holders of the keys
		for _, m := range k.Members() {
			if id := keyID(m); others && id != string(k.self) {
				var err error
				if opened[id], err = k.proofs(ctx, m, func(error) {}); err != nil {
					yield(Result{Err: err})
					return
				}
			}
		}
		k.rewrapEach(ctx, refs, reason, func(ctx context.Context, b *blob.Blob) (bool, error) {
			for id, proofs := range opened {
				if _, held := k.recipient(b, id); held && proofs.of(b.Digest()).IsZero() {
					return false, nil
				}
			}
			return k.opens(ctx, b)
		})(yield)
	}
}

// Outdated describes a key, and reports whether [Keyring.Rewrap] would rewrap it.
func (k *Keyring) Outdated(ctx context.Context, ref Ref) (Entry, bool, error) {
	f, b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Entry{}, false, err
	}
	return k.entryOf(f, b), !k.isCurrent(b), nil
}

// rewrapEach rewraps keys. What is up to date is left alone where it opens, if opens is
// not nil.
func (k *Keyring) rewrapEach(ctx context.Context, refs []Ref, reason string, opens func(context.Context, *blob.Blob) (bool, error)) iter.Seq[Result] {
	return k.changeAll(ctx, ledger.Rewrap.String(), "rewrap keys", reason, refs, onToken, func(ctx context.Context, ref Ref) (Result, error) {
		return k.rewrap(ctx, ref, reason, opens)
	})
}

// rewrap prepares the edit that brings a key to the list of members in force, with a blob that a
// recovery has made or a new one.
func (k *Keyring) rewrap(ctx context.Context, ref Ref, reason string, opens func(context.Context, *blob.Blob) (bool, error)) (Result, error) {
	f, b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Result{}, err
	}
	done := k.isCurrent(b)
	if done && opens != nil {
		done, err = opens(ctx, b)
	}
	if err != nil {
		return Result{}, fmt.Errorf("rewrap key %q: %w", ref, err)
	}
	if done {
		return Result{Entry: k.entryOf(f, b)}, nil
	}
	list := k.ListNumber()
	op, next, err := k.nextRevision(ctx, f, b)
	if err != nil {
		return Result{}, fmt.Errorf("rewrap key %q: %w", ref, err)
	}
	edit := replaceEdit(op, f.entry.Name, f.version.Blob, k.version(next, list), reason)
	v := k.version(next, list)
	v.Status = f.version.Status
	r := k.preparedResult(f.entry, v, next, edit)
	if op == ledger.Adopt {
		r.blob = nil // it was there before, and stays whatever becomes of the edit
	}
	return r, nil
}

// nextRevision returns the blob that takes the place of another one.
func (k *Keyring) nextRevision(ctx context.Context, f keyVersion, b *blob.Blob) (ledger.Op, *blob.Blob, error) {
	if _, ours := k.recipient(b, string(k.self)); !ours && !isDerived(b) {
		recovered, err := k.recovered(ctx, f, b)
		switch {
		case err != nil:
			return 0, nil, err
		case recovered != nil && k.wrappedToMembers(recovered):
			// Only this token can tell whether the authority has wrapped the key to it.
			if ok, err := k.opens(ctx, recovered); ok || err != nil {
				return ledger.Adopt, recovered, err
			}
			b = recovered
		case recovered != nil:
			b = recovered
		}
	}
	next, err := k.wrapAgain(ctx, b, nil)
	return ledger.Rewrap, next, err
}

// isCurrent reports whether a blob is signed by an owner in force, or adopted by one, and wrapped
// to the members of the list in force and to nobody else. The signature of a former owner is still
// valid, as the state names the blob; the blob is made anew all the same.
func (k *Keyring) isCurrent(b *blob.Blob) bool {
	signer, _ := k.members().Signer(string(b.SignerKeyID()))
	if signer.Role != blob.Owner && b.Descriptor().Recovery == nil {
		return false
	}
	return isDerived(b) || k.wrappedToMembers(b) // nobody has to be able to open what is derived
}

func (k *Keyring) wrappedToMembers(b *blob.Blob) bool {
	all, recipients, able := k.members(), b.Recipients(), 0
	for _, r := range recipients {
		m, ok := all.Member(string(all.Key(r.Identifier)))
		if !ok || identifier(m) != string(r.Identifier) { // or its certificate was another one
			return false
		}
	}
	for _, m := range k.Members() {
		if b.Key().WrapsTo(m.Certificate.PublicKey) {
			able++
		}
	}
	return len(recipients) == able // blob has seen that nobody is there twice
}

// wrapAgain makes the next revision of a blob: the same key, out of the token's
// hands and into today's members'.
func (k *Keyring) wrapAgain(ctx context.Context, b *blob.Blob, recovery *blob.Recovery) (*blob.Blob, error) {
	digest := b.Digest()
	d := b.Descriptor()
	d.Revision, d.Replaces, d.Recovery = d.Revision+1, digest[:], recovery
	return k.wrapAs(ctx, b, d)
}

// wrapAs has the token wrap the key in a blob to the members of the list in force under another
// descriptor, and stores that.
func (k *Keyring) wrapAs(ctx context.Context, b *blob.Blob, d blob.Descriptor) (*blob.Blob, error) {
	next, err := k.wrapOnly(ctx, b, d)
	if err != nil {
		return nil, err
	}
	return next, k.storing.end(next)
}

// wrapOnly is wrapAs without waiting until the blob is stored.
func (k *Keyring) wrapOnly(ctx context.Context, b *blob.Blob, d blob.Descriptor) (*blob.Blob, error) {
	if derivation, ok := b.Derivation(); ok { // it is signed anew, and needs no password for that
		return k.put(ctx, d, blob.Content{Algorithm: b.Algorithm(), Derivation: &derivation})
	}
	var key keyspec.Transit
	_, err := k.openRevision(ctx, b, func(wrapped keyspec.WrappedKey) (err error) {
		key, err = k.pair.UnwrapTransit(ctx, wrapped)
		return err
	})
	if err != nil {
		return nil, err
	}
	defer key.Close()
	return k.seal(ctx, d, b.Algorithm(), key)
}
