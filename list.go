package hsmkeys

import (
	"context"
	"iter"
	"strings"

	"github.com/hsmkeys/hsmkeys/blob"
)

// ListOptions choose what [Keyring.ListWith] lists. The zero value is what
// [Keyring.List] lists.
type ListOptions struct {
	Prefix      string // only keys whose names start so; what could start a [blob.ValidName], or empty
	AllVersions bool   // every version of a key, oldest first, and not only the newest
}

// List verifies and describes the newest revision of the newest version of every key, in
// the order of names; in a large store in that of the store. For a key that does not
// verify it yields an error, and the list goes on.
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
		for l := range inOrder(ctx, k.withPrefix(ctx, o.Prefix), func(key stored, err error) []listed {
			if err != nil {
				return []listed{{Entry{}, err}}
			}
			return k.describe(ctx, key, o.AllVersions)
		}) {
			for _, one := range l {
				if !yield(one.entry, one.err) {
					return
				}
			}
		}
	}
}

// ValidPrefix returns an error, a [blob.ErrName], unless the name of a key can start with
// prefix.
func ValidPrefix(prefix string) error {
	if blob.ValidName(prefix+"x") == nil {
		return nil
	}
	return blob.ValidName(strings.TrimSuffix(prefix, "/")) // which names what the caller has given
}

// listed is a version of a key, or why it is not known.
type listed struct {
	entry Entry
	err   error
}

// withPrefix lists the keys whose names start with a prefix. Of the store only the
// directory is read that the prefix names.
func (k *Keyring) withPrefix(ctx context.Context, prefix string) iter.Seq2[stored, error] {
	directory := prefix[:strings.LastIndexByte(prefix, '/')+1]
	return func(yield func(stored, error) bool) {
		for key, err := range k.keysBelow(ctx, directory) {
			if key.name != "" && !strings.HasPrefix(key.name, prefix) {
				continue
			}
			if !yield(key, err) {
				return
			}
		}
	}
}

// describe verifies the newest revision of the newest version of a key, or of each.
func (k *Keyring) describe(ctx context.Context, key stored, every bool) []listed {
	var all []listed
	for i, at := range key.all {
		last := i == len(key.all)-1
		if !last && (!every || key.all[i+1].version == at.version) {
			continue
		}
		b, err := k.load(ctx, key.name, at)
		if err != nil {
			all = append(all, listed{Entry{Name: key.name, Version: at.version, Revision: at.revision}, err})
			continue
		}
		all = append(all, listed{k.entry(b), nil})
	}
	return all
}
