package hsmkeys

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Recovery is the work of a backup authority after the loss of an owner's key
// exchange pair: it brings the keys to a new owner.
type Recovery struct {
	Keyring *Keyring // under the list of members that names the new owner

	note blob.Recovery // what every recovered blob says
}

// BeginRecovery lets the keyring's newest list of members name a new owner in the
// place of one whose pair was lost, signed by the token's pair, a backup
// authority's. The list has an inventory of all blobs that are there and verify:
// these can be recovered, and nothing that somebody with the old pair brings
// later. Blobs that do not verify are told of through skipped.
//
// The old owner is known by either of its certificates. A recovery that was begun
// already is taken up again.
func (k *Keyring) BeginRecovery(ctx context.Context, from *x509.Certificate, to blob.Member, reason string, skipped func(error)) (*Recovery, error) {
	const op = "begin the recovery"
	old, err := k.ownerOf(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := checkMember(to); err != nil {
		return nil, fmt.Errorf("%s to %q: %w", op, to.Label, err)
	}
	to.Role = blob.Owner
	for {
		if err := k.maySign(op); err != nil {
			return nil, err
		}
		if number := k.begun(old, to); number > 0 {
			if signerID(k.chain.recoveredTo(number)) != signerID(to) {
				return nil, hint(fmt.Errorf("%s to %q: list of members %d has begun it, with another signing key: %w", op, to.Label, number, blob.ErrExists),
					"name the new owner's certificates as they were when the recovery began")
			}
			return &Recovery{k, blob.Recovery{List: number, From: old, Reason: reason}}, nil
		}
		l, err := k.recoveryList(ctx, old, to, reason, skipped)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		next, err := k.putList(ctx, l)
		if errors.Is(err, blob.ErrExists) { // another list was made meanwhile
			next, err = k.reopen(ctx)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", op, err)
		}
		k = next
	}
}

// Number is the number of the list of members by which the recovery began.
func (r *Recovery) Number() int { return r.note.List }

// From is the subject key identifier of the pair that was lost, in hexadecimal.
func (r *Recovery) From() string { return hex.EncodeToString(r.note.From) }

// ownerOf gives the subject key identifier of the key exchange key of who has a
// certificate, also where it is that of the signing key: this one is at hand, as it
// vouches for the keyring.
func (k *Keyring) ownerOf(c *x509.Certificate) ([]byte, error) {
	id, err := blob.SubjectKeyID(c.PublicKey)
	if err != nil {
		return nil, err
	}
	if _, ok := k.chain.known[string(id)]; ok {
		return id, nil
	}
	if m, ok := k.chain.signed[string(id)]; ok {
		return []byte(keyID(m)), nil
	}
	return id, nil
}

// begun gives the number of the list by which the pair has begun this recovery, or 0.
func (k *Keyring) begun(old []byte, to blob.Member) int {
	for i, l := range slices.Backward(k.chain.lists) {
		r := l.List().Recovery
		if r != nil && bytes.Equal(r.From, old) && bytes.Equal(l.SignerKeyID(), k.signer) && keyID(k.chain.recoveredTo(i+1)) == keyID(to) {
			return i + 1
		}
	}
	return 0
}

// recoveryList is the next list, with the new owner in the place of the old one.
func (k *Keyring) recoveryList(ctx context.Context, old []byte, to blob.Member, reason string, skipped func(error)) (blob.MemberList, error) {
	l := k.nextList()
	if self := k.chain.members[string(k.self)]; self.Role != blob.BackupAuthority {
		return l, hint(fmt.Errorf("%q is an owner: %w", self.Label, ErrRole), "an owner adds the new one (hsmkeys owner add), removes the old one, and rewraps")
	}
	i := slices.IndexFunc(l.Members, func(m blob.Member) bool { return m.Role == blob.Owner && keyID(m) == string(old) })
	if i < 0 {
		return l, hint(fmt.Errorf("key %x is not that of an owner: %w", old, blob.ErrNotFound), "--from is the certificate of the owner whose token was lost")
	}
	l.Members = slices.Delete(l.Members, i, i+1)
	if err := k.refuseKnown(l.Members, to); err != nil {
		return l, err
	}
	l.Members = slices.Insert(l.Members, i, to)
	l.Recovery = &blob.Recovery{List: l.Number, From: old, Reason: reason}
	var err error
	l.Inventory, err = k.takeInventory(ctx, func(*blob.Blob) bool { return true }, skipped)
	return l, err
}

// Keys recovers keys: unwraps each with the authority's pair, wraps it to the new
// owner and the other members, and stores it as the next revision, which says
// that it is a recovery, from whom and why. A key that is recovered already is
// left alone, so Keys can be killed and started again.
func (r *Recovery) Keys(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return each(ctx, refs, func(ctx context.Context, ref Ref) Result { return r.result(ctx, ref, nil) })
}

// DamagedKeys is Keys that makes anew what this recovery has made before, unless it opens
// with this token and the new owner has proven that its token opens it, see
// [Keyring.Prove]: what is wrapped to the new owner only the new owner can open.
func (r *Recovery) DamagedKeys(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		opened, err := r.Keyring.proofs(ctx, r.Keyring.chain.recoveredTo(r.note.List), func(error) {})
		if err != nil {
			yield(Result{Err: err})
			return
		}
		each(ctx, refs, func(ctx context.Context, ref Ref) Result { return r.result(ctx, ref, opened) })(yield)
	}
}

func (r *Recovery) result(ctx context.Context, ref Ref, opened proven) Result {
	result, err := r.one(ctx, ref, opened)
	result.Ref, result.Err = ref, err
	return result
}

// one recovers a key. Where opened is not nil, it has what the new owner has proven to
// open, and the rest is recovered again.
func (r *Recovery) one(ctx context.Context, ref Ref, opened proven) (Result, error) {
	k := r.Keyring
	there, err := k.chain.kept.of(ctx, r.note.List)
	if err != nil {
		return Result{}, err
	}
	for {
		b, err := k.loadRef(ctx, ref)
		if err != nil {
			return Result{}, err
		}
		done := !there.digests[b.Digest()] || k.isToday(b) // made since, by this recovery or an owner
		if done && opened != nil {
			done, err = r.holds(ctx, b, opened)
		}
		if err == nil && done {
			return Result{Entry: k.entry(b)}, nil
		}
		var next *blob.Blob
		if err == nil {
			next, err = k.wrapAgain(ctx, b, &r.note)
		}
		if errors.Is(err, blob.ErrExists) {
			continue
		}
		if err != nil {
			return Result{}, fmt.Errorf("recover key %q: %w", ref, err)
		}
		return k.made(next), nil
	}
}

// holds reports whether a blob needs not be recovered again: an owner has made it, it is
// not wrapped to anybody, or it is known to open for this token and the new owner's.
func (r *Recovery) holds(ctx context.Context, b *blob.Blob, opened proven) (bool, error) {
	note := b.Descriptor().Recovery
	if note == nil || note.List != r.note.List || isDerived(b) {
		return true, nil
	}
	if opened.when(b.Digest()).IsZero() {
		return false, nil
	}
	return r.Keyring.opens(ctx, b)
}
