package hsmkeys

import (
	"context"
	"encoding/hex"
	"iter"
	"slices"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ListOptions choose what [Keyring.ListWith] lists. The zero value is what
// [Keyring.List] lists.
type ListOptions struct {
	Prefix      string // only keys whose names start with it; the beginning of a [blob.ValidName], or empty
	AllVersions bool   // every version of a key, oldest first, and not only the current one
}

// List describes the current version of every key, in the order of names. It uses the signed state
// of the keyring alone and reads no blob; [Keyring.Verify] finds out whether all are there and
// intact.
func (k *Keyring) List(ctx context.Context) iter.Seq2[Entry, error] {
	return k.ListWith(ctx, ListOptions{})
}

// ListWith is List with options. An error is a [blob.ErrName] when no name starts with
// the prefix.
func (k *Keyring) ListWith(ctx context.Context, o ListOptions) iter.Seq2[Entry, error] {
	return func(yield func(Entry, error) bool) {
		if err := ValidPrefix(o.Prefix); err != nil {
			yield(Entry{}, err)
			return
		}
		if err := k.refresh(ctx); err != nil {
			yield(Entry{}, err)
			return
		}
		l := k.lister()
		for e, err := range k.view().Entries(ctx, o.Prefix) {
			if err != nil {
				yield(Entry{}, err)
				return
			}
			versions, err := k.chosen(ctx, e, o.AllVersions)
			if err != nil {
				yield(Entry{Name: e.Name}, err)
				return
			}
			for _, v := range versions {
				if !yield(l.entry(e, v), nil) {
					return
				}
			}
		}
	}
}

// chosen returns all versions of a key, oldest first, or only the current one; if there is none,
// the newest, see [Keyring.newest].
func (k *Keyring) chosen(ctx context.Context, e ledger.Entry, all bool) ([]ledger.Version, error) {
	if !all {
		f, err := k.newest(ctx, e)
		return []ledger.Version{f.version}, err
	}
	var versions []ledger.Version
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil {
			return nil, err
		}
		versions = append(versions, v)
	}
	slices.Reverse(versions)
	return versions, nil
}

// ValidPrefix returns an error, a [blob.ErrName], unless the name of a key can start with
// prefix.
func ValidPrefix(prefix string) error {
	if blob.ValidName(prefix+"x") == nil {
		return nil
	}
	return blob.ValidName(strings.TrimSuffix(prefix, "/")) // which names what the caller has given
}

// A lister describes versions as the state does.
type lister struct {
	k    *Keyring
	held map[holderSet]holders
}

func (k *Keyring) lister() *lister { return &lister{k, map[holderSet]holders{}} }

// holders are those who can open a key, and the members who cannot hold it as it is too short.
type holders struct{ able, unable []Holder }

func (l *lister) entry(e ledger.Entry, v ledger.Version) Entry {
	one := Entry{
		Name: e.Name, Version: v.Number, Revision: v.Revision, KeyID: v.KeyID.String(),
		Algorithm: v.Algorithm.String(), Purpose: v.Purpose.String(), Bits: 8 * v.KeySize,
		Legacy: v.Algorithm.IsLegacy(), Imported: v.Imported, Created: v.Created,
		Keyring: l.k.ID().String(), Digest: hex.EncodeToString(v.Blob[:]),
	}
	one.setState(e, v)
	if v.Derived {
		one.Password = "a password"
		return one
	}
	h := l.holders(holderSet{v.List, v.Key()})
	one.Holders = h.able
	if one.Legacy {
		one.Unable = h.unable
	}
	return one
}

// holders returns the holders of a key. Keys that are wrapped alike share the slices.
func (l *lister) holders(key holderSet) holders {
	h, ok := l.held[key]
	if ok {
		return h
	}
	for _, m := range l.k.members().ListNumber(key.list).Members {
		if key.spec.WrapsTo(m.Certificate.PublicKey) {
			h.able = append(h.able, l.k.holder([]byte(keyID(m))))
		}
	}
	for _, m := range l.k.Members() {
		if !key.spec.WrapsTo(m.Certificate.PublicKey) {
			h.unable = append(h.unable, l.k.holder([]byte(keyID(m))))
		}
	}
	h = holders{slices.Clip(h.able), slices.Clip(h.unable)}
	l.held[key] = h
	return h
}
