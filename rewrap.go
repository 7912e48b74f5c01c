package hsmkeys

import (
	"context"
	"fmt"
	"iter"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Rewrap brings keys to today's list of members: the same key, wrapped to the
// members of the newest list and signed by the pair, as the next revision. A key
// that is so already is left alone, so Rewrap can be killed and started again.
func (k *Keyring) Rewrap(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return k.rewrapEach(ctx, refs, nil)
}

// RewrapDamaged is Rewrap that opens every key, at the cost of one operation of the token
// each: a newest revision that does not open for the token is made anew from the one
// before it. With others, one that some other holder has not proven to open, see
// [Keyring.Prove], is made anew as well: what is wrapped to them only they can open.
func (k *Keyring) RewrapDamaged(ctx context.Context, refs []Ref, others bool) iter.Seq[Result] {
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
		k.rewrapEach(ctx, refs, func(ctx context.Context, b *blob.Blob) (bool, error) {
			for id, proofs := range opened {
				if _, held := k.recipient(b, id); held && proofs.of(b.Digest()).IsZero() {
					return false, nil
				}
			}
			return k.opens(ctx, b)
		})(yield)
	}
}

// rewrapEach rewraps keys. What is up to date is left alone where it opens, if opens is
// not nil.
func (k *Keyring) rewrapEach(ctx context.Context, refs []Ref, opens func(context.Context, *blob.Blob) (bool, error)) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		if err := k.refresh(ctx); err != nil {
			yield(Result{Err: err})
			return
		}
		k.change(ctx, refs, func(ctx context.Context, ref Ref) Result {
			r, err := k.rewrap(ctx, ref, opens)
			r.Ref, r.Err = ref, err
			return r
		})(yield)
	}
}

// rewrap prepares the edit that brings a key to today's list of members: a blob that a
// recovery has made for it, or a new one.
func (k *Keyring) rewrap(ctx context.Context, ref Ref, opens func(context.Context, *blob.Blob) (bool, error)) (Result, error) {
	if err := k.mustOwn("rewrap keys"); err != nil {
		return Result{}, err
	}
	f, b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Result{}, err
	}
	done := k.isToday(b)
	if done && opens != nil {
		done, err = opens(ctx, b)
	}
	if err != nil {
		return Result{}, fmt.Errorf("rewrap key %q: %w", ref, err)
	}
	if done {
		return Result{Entry: k.entry(b)}, nil
	}
	list := k.ListNumber()
	op, next, err := k.nextRevision(ctx, f, b)
	if err != nil {
		return Result{}, fmt.Errorf("rewrap key %q: %w", ref, err)
	}
	edit := replaces(op, f.entry.Name, f.version.Blob, k.version(next, list))
	r := k.made(next)
	if r.edit = &edit; op == ledger.Adopt {
		r.blob = nil // it was there before, and stays whatever becomes of the edit
	}
	return r, nil
}

// nextRevision returns the blob that takes the place of another one.
func (k *Keyring) nextRevision(ctx context.Context, f found, b *blob.Blob) (ledger.Op, *blob.Blob, error) {
	if _, ours := k.recipient(b, string(k.self)); !ours && !isDerived(b) {
		recovered, err := k.recovered(ctx, f, b)
		switch {
		case err != nil:
			return 0, nil, err
		case recovered != nil && k.wrappedToday(recovered):
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

// made is the result of a blob that was made and stored.
func (k *Keyring) made(b *blob.Blob) Result {
	e := k.entry(b)
	return Result{Entry: e, Done: true, Unproven: k.Unproven(e), blob: b}
}

// isToday reports whether a blob is signed by an owner, or adopted by one, and wrapped to
// the members of the list in force and to nobody else. The signature of who is no owner any
// more is as good as ever, as the state names the blob; a new one is made all the same.
func (k *Keyring) isToday(b *blob.Blob) bool {
	signer, _ := k.members().Signer(string(b.SignerKeyID()))
	if signer.Role != blob.Owner && b.Descriptor().Recovery == nil {
		return false
	}
	return isDerived(b) || k.wrappedToday(b) // nobody has to be able to open what is derived
}

func (k *Keyring) wrappedToday(b *blob.Blob) bool {
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
