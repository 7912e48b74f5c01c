package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Prove rehearses the recovery of keys with this token: each is unwrapped, wrapped again and
// unwrapped, and compared with itself and with its confirmation. Nothing is written but signed
// proofs, each for many blobs. A result is yielded when its proof is stored.
//
// What this token has proven after since is not repeated, so a rehearsal can be killed and started
// again.
func (k *Keyring) Prove(ctx context.Context, refs []Ref, since time.Time) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		err := k.refresh(ctx)
		if err == nil {
			err = k.maySign("record proofs")
		}
		if err != nil {
			yield(Result{Err: err})
			return
		}
		done, err := k.proofs(ctx, k.Self(), func(error) {})
		if err != nil {
			yield(Result{Err: err})
			return
		}
		var held []Result // not yet in a record
		for r := range each(ctx, refs, k.counted(func(ctx context.Context, ref Ref) Result { return k.rehearse(ctx, ref, done, since) })) {
			if r.Done {
				if held = append(held, r); len(held) < proofBatch {
					continue
				}
				if !k.recordProof(ctx, held, yield) {
					return
				}
				held = nil
				continue
			}
			if r.Err == nil && r.Entry.Password != "" {
				continue // there is nothing that a token could prove
			}
			if !yield(r) {
				return
			}
		}
		// Also when ctx has ended: what was done is not lost.
		k.recordProof(context.WithoutCancel(ctx), held, yield)
	}
}

// proofBatch is how many blobs share a proof: at most that many are repeated when a rehearsal was
// killed.
const proofBatch = 256

func (k *Keyring) rehearse(ctx context.Context, ref Ref, done *proven, since time.Time) Result {
	f, b, err := k.loadRef(ctx, ref)
	if err == nil {
		b, err = k.blobForPair(ctx, f, b)
	}
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	r := Result{Ref: ref, Entry: k.entryOf(f, b), blob: b}
	if done.of(b.Digest()).After(since) {
		return r
	}
	if isDerived(b) {
		return r
	}
	ctx = WithUse(k.using(ctx, f, b), Use{Operation: OpProve})
	wrapped, err := k.ownWrapped(b)
	if err == nil {
		err = k.pair.Rehearse(ctx, wrapped)
	}
	if errors.Is(err, keyspec.ErrWrapped) {
		err = withFacts(fmt.Errorf("%w: %w", doesNotOpen(b, err), blob.ErrIntegrity), &DoesNotOpen{ref.Name})
	}
	if err = k.recorder.used(ctx, err); err != nil {
		return Result{Ref: ref, Err: fmt.Errorf("rehearse key %q: %w", ref, err)}
	}
	r.Done = true
	return r
}

// recordProof signs and stores a proof for the results, and then yields them.
func (k *Keyring) recordProof(ctx context.Context, held []Result, yield func(Result) bool) bool {
	if len(held) == 0 {
		return true
	}
	err := k.putProof(ctx, held)
	for _, r := range held {
		if err != nil {
			r = Result{Ref: r.Ref, Err: fmt.Errorf("record the proof of key %q: %w", r.Ref, err)}
		}
		if !yield(r) {
			return false
		}
	}
	return true
}

func (k *Keyring) putProof(ctx context.Context, held []Result) error {
	now := time.Now()
	p := blob.Proof{KeyringID: k.ID(), Created: now}
	for _, r := range held {
		p.Opened = append(p.Opened, blob.Opened{Blob: r.blob.Digest(), KeyID: r.blob.Descriptor().KeyID})
	}
	signed, err := blob.SignProof(p, k.signs(), now)
	if err != nil {
		return err
	}
	if err := k.store.Put(ctx, blob.ProofPath(k.signer, signed.Digest()), signed.Bytes()); !errors.Is(err, blob.ErrExists) {
		return err
	}
	return nil // this very proof
}
