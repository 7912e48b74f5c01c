package hsmkeys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// proven is when a member's token last unwrapped blobs, and keys, in seconds since 1970.
type proven struct {
	blobs map[[sha256.Size]byte]int64
	keys  map[blob.ID]int64
}

// of returns when that was for a blob.
func (p *proven) of(digest [sha256.Size]byte) time.Time { return secondsSince(p.blobs[digest]) }

// ofKey returns when that was for a key, in whatever blob.
func (p *proven) ofKey(id blob.ID) time.Time { return secondsSince(p.keys[id]) }

func secondsSince(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// proofs reads the proofs of a member. They are stored under the key that signs them:
// what a former signing key says does not count any more.
func (k *Keyring) proofs(ctx context.Context, m blob.Member, failed func(error)) (*proven, error) {
	all := &proven{map[[sha256.Size]byte]int64{}, map[blob.ID]int64{}}
	for path, err := range k.store.List(ctx, blob.ProofsPrefix+hex.EncodeToString([]byte(signerID(m)))+"/") {
		if err != nil {
			return nil, fmt.Errorf("look for proofs: %w", err)
		}
		proof, err := k.proof(ctx, path, m)
		if err != nil {
			failed(fmt.Errorf("proof %s: %w", path, err))
			continue
		}
		for _, opened := range proof.Opened {
			all.blobs[opened.Blob] = max(all.blobs[opened.Blob], proof.Created.Unix())
			all.keys[opened.KeyID] = max(all.keys[opened.KeyID], proof.Created.Unix())
		}
	}
	return all, nil
}

func (k *Keyring) proof(ctx context.Context, path string, m blob.Member) (blob.Proof, error) {
	_, digest, ok := blob.ParseProofPath(path)
	if !ok {
		return blob.Proof{}, fmt.Errorf("%w: no proof", blob.ErrName)
	}
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return blob.Proof{}, err
	}
	if sha256.Sum256(der) != digest {
		return blob.Proof{}, fmt.Errorf("another digest than its name says: %w", blob.ErrMisplaced)
	}
	unverified, err := blob.ParseProof(der)
	if err != nil {
		return blob.Proof{}, err
	}
	v, err := unverified.Verify(k.members().Parties(signerID(m)), k.ID())
	if err != nil {
		return blob.Proof{}, err
	}
	return v.Proof(), nil
}

// Prove rehearses the recovery of keys with this token: each is unwrapped, wrapped
// again and unwrapped, and compared with itself and with its confirmation. Nothing
// is written but the proof, signed records of the blobs that held. A result
// is given when its record is stored.
//
// What this token has proven after since is left alone, so a rehearsal can be
// killed and started again.
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
		for r := range each(ctx, refs, func(ctx context.Context, ref Ref) Result { return k.rehearse(ctx, ref, done, since) }) {
			if r.Done {
				if held = append(held, r); len(held) < proofBatch {
					continue
				}
				if !k.record(ctx, held, yield) {
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
		k.record(context.WithoutCancel(ctx), held, yield)
	}
}

// proofBatch is how many blobs share a record: so much of a rehearsal is lost when
// it is killed.
const proofBatch = 256

func (k *Keyring) rehearse(ctx context.Context, ref Ref, done *proven, since time.Time) Result {
	f, b, err := k.loadRef(ctx, ref)
	if err == nil {
		b, err = k.forUs(ctx, f, b)
	}
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	r := Result{Ref: ref, Entry: k.entry(b), blob: b}
	if done.of(b.Digest()).After(since) {
		return r
	}
	if isDerived(b) {
		return r
	}
	wrapped, err := k.ours(b)
	if err == nil {
		err = k.pair.Rehearse(ctx, wrapped)
	}
	if errors.Is(err, keyspec.ErrWrapped) {
		err = withFacts(fmt.Errorf("%w: %w", doesNotOpen(b, err), blob.ErrIntegrity), &DoesNotOpen{ref.Name})
	}
	if err != nil {
		return Result{Ref: ref, Err: fmt.Errorf("rehearse key %q: %w", ref, err)}
	}
	r.Done = true
	return r
}

// record signs and stores a proof of what held, and then yields the results.
func (k *Keyring) record(ctx context.Context, held []Result, yield func(Result) bool) bool {
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
