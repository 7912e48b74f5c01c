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
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Recovery brings the keys to a new owner after an owner's key exchange pair was lost. A backup
// authority makes it.
//
// The authority signs one checkpoint, with a list of members that names the new owner and
// with the state as it was. The blobs that it makes stay outside the state, which only
// owners change: the new owner opens and adopts those that this authority has signed, and
// that replace what the state names with the same key.
type Recovery struct {
	Keyring *Keyring // under the list of members that names the new owner

	note blob.Recovery // what every recovered blob says
}

// BeginRecovery records a list of members with a new owner in the place of one whose pair
// was lost, signed by the token's pair, a backup authority's. It stops with an [ErrMovedOn]
// where an owner, maybe the one who is said to be lost, signs meanwhile.
//
// The old owner is known by either of its certificates. A recovery that was begun
// already is taken up again.
func (k *Keyring) BeginRecovery(ctx context.Context, from *x509.Certificate, to blob.Member, reason string) (r *Recovery, err error) {
	err = k.recorder.changing(ctx, Use{Operation: OpBeginRecovery, To: to.Label}, reason, func(ctx context.Context, _ *intent) (err error) {
		r, err = k.beginRecovery(ctx, from, to, reason)
		return err
	})
	return r, err
}

func (k *Keyring) beginRecovery(ctx context.Context, from *x509.Certificate, to blob.Member, reason string) (*Recovery, error) {
	const op = "begin the recovery"
	old, err := k.ownerOf(from)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	if err := checkMember(to); err != nil {
		return nil, fmt.Errorf("%s to %q: %w", op, to.Label, err)
	}
	to.Role = blob.Owner
	if err := k.maySign(op); err != nil {
		return nil, err
	}
	if k.Policy().QuorumOnly {
		return nil, fmt.Errorf("%s: %w", op, ErrQuorumOnly)
	}
	number, err := k.begun(ctx, old, to)
	if err != nil {
		return nil, err
	}
	if number > 0 {
		if signerID(k.members().RecoveredTo(number)) != signerID(to) {
			return nil, withFacts(fmt.Errorf("%s to %q: list of members %d has begun it, with another signing key: %w", op, to.Label, number, blob.ErrExists), ErrRecoveryKey)
		}
		return &Recovery{k, k.recoveryNote(number, old, reason)}, nil
	}
	shown := k.view().At()
	err = k.recordOther(ctx, ledger.Proposal{List: func(l *ledger.Ledger) (*blob.MemberList, error) {
		if l.At() != shown {
			return nil, withFacts(fmt.Errorf("checkpoint %d was signed since number %d was looked at: %w", l.At().Number, shown.Number, ErrMovedOn), ErrSignedMeanwhile)
		}
		next := l.NextList()
		return &next, k.recoveryList(&next, l.Members(), old, to, reason)
	}}, onToken)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return &Recovery{k, k.recoveryNote(k.ListNumber(), old, reason)}, nil
}

// recoveryNote returns what the list of a recovery, and each blob that it makes, say of it.
func (k *Keyring) recoveryNote(list int, old []byte, reason string) blob.Recovery {
	return blob.Recovery{List: list, From: old, Reason: reason, Rehearsal: ledger.IsRehearsal(k.store)}
}

// ErrMovedOn is the error for a keyring that others have changed since it was shown to a person.
var ErrMovedOn = errors.New("the keyring has changed since it was shown")

// LastSigned returns the last checkpoint that a member has signed, and when; the zero Signed
// where there is none.
func (k *Keyring) LastSigned(ctx context.Context, m blob.Member) (ledger.Signed, error) {
	return k.view().LastSigned(ctx, m)
}

// Number returns the number of the list of members by which the recovery began.
func (r *Recovery) Number() int { return r.note.List }

// From returns the subject key identifier of the pair that was lost, in hexadecimal.
func (r *Recovery) From() string { return hex.EncodeToString(r.note.From) }

// To returns the new owner.
func (r *Recovery) To() blob.Member { return r.Keyring.members().RecoveredTo(r.note.List) }

// Lost returns the owner whose pair was lost.
func (r *Recovery) Lost() blob.Member {
	m, _ := r.Keyring.members().EverMember(string(r.note.From))
	return m
}

// ownerOf returns the subject key identifier of the key exchange key of the member with a
// certificate, which may be that of its signing key: that one is at hand, as it vouches for the
// keyring.
func (k *Keyring) ownerOf(c *x509.Certificate) ([]byte, error) {
	id, err := blob.PublicKeyID(c.PublicKey)
	if err != nil {
		return nil, err
	}
	if _, ok := k.members().EverMember(string(id)); ok {
		return id, nil
	}
	if m, ok := k.members().EverSigner(string(id)); ok {
		return []byte(keyID(m)), nil
	}
	return id, nil
}

// begun returns the number of the list by which the pair has begun this recovery, or 0.
func (k *Keyring) begun(ctx context.Context, old []byte, to blob.Member) (int, error) {
	all := k.members()
	for number := all.List().Number; number > 1; number-- {
		r := all.ListNumber(number).Recovery
		if r == nil || !bytes.Equal(r.From, old) || keyID(all.RecoveredTo(number)) != keyID(to) {
			continue
		}
		signer, err := k.introducer(ctx, number)
		if err != nil || signer == string(k.signer) {
			return number, err
		}
	}
	return 0, nil
}

// recoveryList puts the new owner in the place of the old one.
func (k *Keyring) recoveryList(l *blob.MemberList, all *ledger.Members, old []byte, to blob.Member, reason string) error {
	if self, _ := all.Member(string(k.self)); self.Role != blob.BackupAuthority {
		return withFacts(fmt.Errorf("%q is an owner: %w", self.Label, ErrRole), ErrOwnerRecovers)
	}
	return replaceOwner(l, all, to, k.recoveryNote(l.Number, old, reason))
}

// replaceOwner is recoveryList for whoever makes the recovery.
func replaceOwner(l *blob.MemberList, all *ledger.Members, to blob.Member, note blob.Recovery) error {
	old := note.From
	i := slices.IndexFunc(l.Members, func(m blob.Member) bool { return m.Role == blob.Owner && keyID(m) == string(old) })
	if i < 0 {
		return withFacts(fmt.Errorf("key %x is not that of an owner: %w", old, blob.ErrNotFound), ErrRecoveredOwner)
	}
	l.Members = slices.Delete(l.Members, i, i+1)
	if err := refuseKnown(l.Members, to, all); err != nil {
		return err
	}
	l.Members = slices.Insert(l.Members, i, to)
	l.Recovery = &note
	return nil
}

// Keys recovers keys: it unwraps each with the authority's pair, wraps it to the new owner and the
// other members, and stores it as the next revision, which says that it is a recovery, from whom
// and why. Keys that are recovered already are left alone, so Keys can be killed and started again.
func (r *Recovery) Keys(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return r.keys(ctx, refs, nil)
}

func (r *Recovery) keys(ctx context.Context, refs []Ref, opened *proven) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		next, err := r.Keyring.nextRevisions(ctx, len(refs))
		if err != nil {
			yield(Result{Err: err})
			return
		}
		each(ctx, refs, r.Keyring.counted(r.Keyring.announced(OpRecover, r.note.Reason, func(ctx context.Context, ref Ref) Result {
			result, err := r.recoverKey(ctx, ref, next, opened)
			result.Ref, result.Err = ref, err
			return result
		})))(yield)
	}
}

// DamagedKeys is Keys that makes anew what this recovery has made before, unless it opens
// with this token and the new owner has proven that its token opens it, see
// [Keyring.Prove]: what is wrapped to the new owner only the new owner can open.
func (r *Recovery) DamagedKeys(ctx context.Context, refs []Ref) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		opened, err := r.Keyring.proofs(ctx, r.Keyring.members().RecoveredTo(r.note.List), func(error) {})
		if err != nil {
			yield(Result{Err: err})
			return
		}
		r.keys(ctx, refs, opened)(yield)
	}
}

// recoverKey recovers one version of a key. If has shows that the store contains nothing recovered from it before, it
// does not look for that. If opened is not nil, what the new owner has not proven
// to open is recovered again.
func (r *Recovery) recoverKey(ctx context.Context, ref Ref, has nextRevisions, opened *proven) (Result, error) {
	k := r.Keyring
	f, b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Result{}, err
	}
	if k.wrappedToMembers(b) || isDerived(b) {
		return Result{Entry: k.entryOf(f, b)}, nil // by an owner, since
	}
	var all []*blob.Blob
	if has.mayHave(b) {
		if all, err = k.recoveredBlobs(ctx, f, b, r.note.List); err != nil {
			return Result{}, err
		}
	}
	for _, recovered := range all {
		done := true
		if opened != nil {
			if done, err = r.holds(ctx, recovered, opened); err != nil {
				return Result{}, fmt.Errorf("recover key %q: %w", ref, err)
			}
		}
		if done && k.wrappedToMembers(recovered) {
			return Result{Entry: k.entryOf(f, recovered)}, nil
		}
	}
	next, err := k.wrapAgain(ctx, b, &r.note)
	if err != nil {
		return Result{}, fmt.Errorf("recover key %q: %w", ref, err)
	}
	return k.storedResult(next), nil
}

// holds reports whether both this token and the new owner's are known to open a recovered blob.
func (r *Recovery) holds(ctx context.Context, b *blob.Blob, opened *proven) (bool, error) {
	if opened.of(b.Digest()).IsZero() {
		return false, nil
	}
	return r.Keyring.opens(ctx, b)
}
