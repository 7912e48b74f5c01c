package hsmkeys

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// proven is when a member's token last unwrapped blobs, and keys, in seconds since 1970.
type proven struct {
	blobs map[[sha256.Size]byte]int64
	keys  map[blob.ID]int64
	when  []int64 // proofs were made
}

// dates returns when proofs were made, oldest first, each second once.
func (p *proven) dates() (all []time.Time) {
	slices.Sort(p.when)
	for _, seconds := range slices.Compact(p.when) {
		all = append(all, secondsSince(seconds))
	}
	return all
}

// of returns when the token unwrapped a blob, or the zero time.
func (p *proven) of(digest [sha256.Size]byte) time.Time { return secondsSince(p.blobs[digest]) }

// ofKey returns when the token unwrapped a key in any blob, or the zero time.
func (p *proven) ofKey(id blob.ID) time.Time { return secondsSince(p.keys[id]) }

func secondsSince(seconds int64) time.Time {
	if seconds == 0 {
		return time.Time{}
	}
	return time.Unix(seconds, 0).UTC()
}

// proofs reads the proofs of a member. They are stored under the key that signed them: those of a
// former signing key do not count.
func (k *Keyring) proofs(ctx context.Context, m blob.Member, failed func(error)) (*proven, error) {
	all := &proven{blobs: map[[sha256.Size]byte]int64{}, keys: map[blob.ID]int64{}}
	for path, err := range k.store.List(ctx, blob.ProofsPrefix+hex.EncodeToString([]byte(signerID(m)))+"/") {
		if err != nil {
			return nil, fmt.Errorf("look for proofs: %w", err)
		}
		proof, err := k.proof(ctx, path, m)
		if err != nil {
			failed(fmt.Errorf("proof %s: %w", path, err))
			continue
		}
		all.when = append(all.when, proof.Created.Unix())
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
