package hsmkeys

import (
	"cmp"
	"context"
	"crypto"
	"fmt"
	"iter"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// Removing a member changes who new keys are wrapped to, and takes nothing back: it
// could open every version that was ever wrapped to it, and may have kept the key or
// the blob. A rewrapped blob holds the same key. Only a new version is a key that a
// former member has never seen, so that is what Rotate is for and what the functions
// here look for.

// FormerMembers returns those who are no longer members, sorted by label.
func (k *Keyring) FormerMembers() []blob.Member {
	var former []blob.Member
	for id, m := range k.chain.known {
		if _, stays := k.chain.members[id]; !stays {
			former = append(former, m)
		}
	}
	slices.SortFunc(former, func(a, b blob.Member) int {
		return cmp.Or(cmp.Compare(a.Label, b.Label), cmp.Compare(keyID(a), keyID(b)))
	})
	return former
}

// FormerHolders returns the former members that can open a version of a key, because
// one of its stored revisions is or was wrapped to them. An earlier revision that is
// gone or does not verify names nobody; the newest must verify.
func (k *Keyring) FormerHolders(ctx context.Context, ref Ref) ([]Holder, error) {
	at, err := k.newest(ctx, ref)
	if err != nil {
		return nil, err
	}
	b, err := k.opened.load(ctx, k, ref.Name, at)
	if err != nil {
		return nil, err
	}
	return k.formerHolders(ctx, b)
}

// formerHolders is FormerHolders for the newest revision of a version.
func (k *Keyring) formerHolders(ctx context.Context, newest *blob.Blob) ([]Holder, error) {
	if len(k.chain.known) == len(k.chain.members) {
		return nil, nil // nobody has ever left
	}
	d := newest.Descriptor()
	var former []Holder
	add := func(b *blob.Blob) {
		for _, h := range k.entry(b).Holders {
			if h.Former && !holds(former, h) {
				former = append(former, h)
			}
		}
	}
	add(newest)
	all, err := k.find(ctx, d.Name)
	if err != nil {
		return nil, err
	}
	for _, at := range slices.Backward(all) { // however many: each rewrap adds one, and who held the first holds the key
		if len(former) == len(k.chain.known)-len(k.chain.members) {
			break // all who ever left
		}
		if at.version != d.Version || at.revision >= d.Revision {
			continue
		}
		b, err := k.load(ctx, d.Name, at)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && sameKey(b, newest) {
			add(b)
		}
	}
	return former, nil
}

func holds(holders []Holder, h Holder) bool {
	return slices.ContainsFunc(holders, func(other Holder) bool { return other.SubjectKeyID == h.SubjectKeyID })
}

// RotateFormer makes a new version of each named key, or of every key, whose newest
// version a former member can open. Keys that no former member can open are left
// alone, so RotateFormer can be interrupted and started again. So are legacy keys and keys
// from passwords: the former encrypt nothing new, the latter are wrapped to nobody.
func (k *Keyring) RotateFormer(ctx context.Context, names ...string) (iter.Seq[Result], int, error) {
	if err := k.mustOwn("rotate keys"); err != nil {
		return nil, 0, err
	}
	versions, err := k.Versions(ctx, names...)
	if err != nil {
		return nil, 0, err
	}
	var refs []Ref
	for _, ref := range versions {
		if len(refs) == 0 || refs[len(refs)-1].Name != ref.Name {
			refs = append(refs, Ref{Name: ref.Name})
		}
	}
	return each(ctx, refs, func(ctx context.Context, ref Ref) Result {
		r, err := k.rotateFormer(ctx, ref)
		r.Ref, r.Err = Ref{ref.Name, r.Entry.Version}, err
		return r
	}), len(refs), nil
}

func (k *Keyring) rotateFormer(ctx context.Context, ref Ref) (Result, error) {
	newest, err := k.loadRef(ctx, ref)
	if err != nil {
		return Result{}, err
	}
	former, err := k.formerHolders(ctx, newest)
	if err != nil {
		return Result{}, err
	}
	if len(former) == 0 || newest.Algorithm().IsLegacy() {
		return Result{Entry: k.entry(newest)}, nil
	}
	e, err := k.Rotate(ctx, ref.Name)
	if err != nil {
		return Result{}, err
	}
	return Result{Entry: e, Done: true, Unproven: k.Unproven(e)}, nil
}

// MemberWith returns the member, present or former, that has a certificate's key as its
// key exchange key or to sign.
func (k *Keyring) MemberWith(key crypto.PublicKey) (blob.Member, error) {
	id, err := blob.SubjectKeyID(key)
	if err != nil {
		return blob.Member{}, err
	}
	for _, m := range []blob.Member{k.chain.known[string(id)], k.chain.signed[string(id)]} {
		if m.Certificate != nil {
			return m, nil
		}
	}
	return blob.Member{}, hint(fmt.Errorf("key %x is no member's, and never was: %w", id, blob.ErrNotFound), "hsmkeys owner list and hsmkeys authority list show the members")
}

// MayRemove returns the member that [Keyring.RemoveMember] would remove, or the reason
// why it would refuse.
func (k *Keyring) MayRemove(role blob.Role, label string) (blob.Member, error) {
	op := fmt.Sprintf("remove the %s %q", role, label)
	if err := k.mustOwn(op); err != nil {
		return blob.Member{}, err
	}
	i, err := k.removable(k.chain.newest.Members, role, label)
	if err != nil {
		return blob.Member{}, fmt.Errorf("%s: %w", op, err)
	}
	return k.chain.newest.Members[i], nil
}

// LeftAt returns the number of the list of members that no longer names a member, or 0 for
// a member of today.
func (k *Keyring) LeftAt(m blob.Member) int {
	return k.chain.leftAt([]byte(keyID(m)), keyID)
}
