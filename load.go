package hsmkeys

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token"
)

// Load verifies and unwraps a key into a token object with a label, for other
// PKCS #11 applications. The object is sensitive and not extractable; its CKA_ID
// is the key id; it may do what the key's purpose says and nothing else.
//
// The error is a [token.ErrTaken] if this key is there already, or another secret key has the
// label.
func (k *Keyring) Load(ctx context.Context, ref Ref, label string) (Entry, error) {
	return k.loading(ctx, ref, label, k.load)
}

// loading calls load, and records it as a change.
func (k *Keyring) loading(ctx context.Context, ref Ref, label string, load func(context.Context, Ref, string) (Entry, error)) (e Entry, err error) {
	use := Use{Operation: OpLoad, Key: ref.Name, Version: ref.Version, To: label}
	err = k.recorder.changing(ctx, use, "", func(ctx context.Context, _ *intent) (err error) {
		e, err = load(ctx, ref, label)
		return err
	})
	return e, err
}

func (k *Keyring) load(ctx context.Context, ref Ref, label string) (Entry, error) {
	f, b, err := k.loadable(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	used, err := k.loadBlob(ctx, b, label)
	if err != nil {
		return Entry{}, fmt.Errorf("load key %q: %w", ref, err)
	}
	return k.entryOf(f, used), nil
}

// LoadInPlace is [Keyring.Load] for an application that knows the key by its label: other versions
// of the same key that have the label are deleted as soon as this one is there. If it is there
// already, only that is done. Objects are recognized by their CKA_ID: those of other keys stay, and
// are a [token.ErrTaken] if they have the label. An object with the id that is public, which
// anybody can make without the PIN, is deleted first.
func (k *Keyring) LoadInPlace(ctx context.Context, ref Ref, label string) (Entry, error) {
	return k.loading(ctx, ref, label, k.loadInPlace)
}

func (k *Keyring) loadInPlace(ctx context.Context, ref Ref, label string) (Entry, error) {
	f, b, err := k.loadable(ctx, ref)
	if err != nil {
		return Entry{}, err
	}
	others, err := k.otherVersions(ctx, f)
	if err != nil {
		return Entry{}, err
	}
	loader, err := k.loader()
	if err != nil {
		return Entry{}, err
	}
	objects, err := loader.Loaded(ctx)
	if err != nil {
		return Entry{}, err
	}
	id := b.Descriptor().KeyID
	for _, o := range objects {
		if o.Public && bytes.Equal(o.ID, id[:]) {
			if err := loader.Unload(ctx, o); err != nil {
				return Entry{}, fmt.Errorf("load key %q: %w", ref, err)
			}
		}
	}
	if !slices.ContainsFunc(objects, func(o token.Loaded) bool { return !o.Public && o.Label == label && bytes.Equal(o.ID, id[:]) }) {
		if b, err = k.loadBlob(ctx, b, label, others...); err != nil {
			return Entry{}, fmt.Errorf("load key %q: %w", ref, err)
		}
	}
	for _, o := range objects {
		if o.Label == label && slices.ContainsFunc(others, func(id []byte) bool { return bytes.Equal(o.ID, id) }) {
			if err := loader.Unload(ctx, o); err != nil {
				return Entry{}, fmt.Errorf("key %q is loaded, and another version still there: %w", ref, err)
			}
		}
	}
	return k.entryOf(f, b), nil
}

// loader returns the pair as a [Loader]. The error is an [errors.ErrUnsupported] if it is none.
func (k *Keyring) loader() (Loader, error) {
	if l, ok := k.pair.(Loader); ok {
		return l, nil
	}
	return nil, fmt.Errorf("load keys for other applications: %w", errors.ErrUnsupported)
}

// loadable returns the blob of a key if other applications may have it, which can encrypt with it
// too.
func (k *Keyring) loadable(ctx context.Context, ref Ref) (keyVersion, *blob.Blob, error) {
	f, b, err := k.verifiedBlob(ctx, ref)
	if err == nil {
		err = k.mayEncryptUnder(ctx, f)
	}
	if err != nil {
		return f, nil, fmt.Errorf("load key %q: %w", ref, err)
	}
	k.warnOfExpiry(f)
	return f, b, k.recorder.begin(intentOf(ctx), UseOf(k.using(ctx, f, b)))
}

// otherVersions returns the ids of the other versions of a key.
func (k *Keyring) otherVersions(ctx context.Context, f keyVersion) ([][]byte, error) {
	var ids [][]byte
	for v, err := range k.view().Versions(ctx, f.entry) {
		if err != nil {
			return nil, err
		}
		if v.Number != f.version.Number {
			ids = append(ids, v.KeyID[:])
		}
	}
	return ids, nil
}

// loadBlob loads the key in a blob, and returns the blob that it came from.
func (k *Keyring) loadBlob(ctx context.Context, b *blob.Blob, label string, beside ...[]byte) (*blob.Blob, error) {
	loader, err := k.loader()
	if err != nil {
		return nil, err
	}
	id := b.Descriptor().KeyID
	return k.useKey(ctx, b,
		func(wrapped keyspec.WrappedKey) error {
			if d := b.Descriptor(); d.Legacy != nil && d.Legacy.Salt != nil {
				return k.loadSalted(ctx, loader, wrapped, d.Legacy.Salt, label, id[:], beside)
			}
			return loader.Load(ctx, wrapped, label, id[:], beside...)
		},
		func(value []byte) error {
			return loader.LoadValue(ctx, b.Key(), value, label, id[:], beside...)
		})
}

// loadSalted loads a key followed by its salt, which together are the key of the cipher. They are
// joined in memory, not by the token.
func (k *Keyring) loadSalted(ctx context.Context, loader Loader, wrapped keyspec.WrappedKey, salt []byte, label string, id []byte, beside [][]byte) error {
	value, err := k.pair.Reveal(ctx, wrapped)
	if err != nil {
		return err
	}
	salted := append(bytes.Clone(value), salt...)
	clear(value)
	defer clear(salted)
	spec := wrapped.Key
	spec.Size = len(salted)
	return loader.LoadValue(ctx, spec, salted, label, id, beside...)
}

// A LoadedKey is a secret key object on the token, with the key of this keyring that has its id.
type LoadedKey struct {
	Label     string `json:"label"`
	KeyID     string `json:"key_id"`
	Name      string `json:"name,omitempty"` // empty for a key that is not of this keyring
	Version   int    `json:"version,omitempty"`
	Newest    int    `json:"newest,omitempty"`    // the version of that key that encrypts
	Destroyed bool   `json:"destroyed,omitempty"` // the version was destroyed, and only this object is left of it here
	Public    bool   `json:"public,omitempty"`    // anybody can use it, and could have made it, without the PIN

	object token.Loaded
}

// Loaded lists the secret keys on the token with the keys of the keyring that they are.
func (k *Keyring) Loaded(ctx context.Context) ([]LoadedKey, error) {
	if k.pair == nil {
		return nil, errNoToken
	}
	loader, err := k.loader()
	if err != nil {
		return nil, err
	}
	objects, err := loader.Loaded(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]LoadedKey, len(objects))
	unknown := map[string][]int{} // by id
	for i, o := range objects {
		all[i] = LoadedKey{Label: o.Label, KeyID: hex.EncodeToString(o.ID), Public: o.Public, object: o}
		unknown[all[i].KeyID] = append(unknown[all[i].KeyID], i)
	}
	if len(unknown) == 0 {
		return all, nil
	}
	view := k.view()
	for e, err := range view.Trie().All(ctx, view.Source()) {
		if err != nil {
			return nil, err
		}
		for v, err := range view.Versions(ctx, e) {
			if err != nil {
				return nil, err
			}
			id := v.KeyID.String()
			for _, i := range unknown[id] {
				all[i].Name, all[i].Version, all[i].Newest = e.Name, v.Number, e.Current
				all[i].Destroyed = v.Status == ledger.Destroyed
			}
			delete(unknown, id)
		}
		if len(unknown) == 0 {
			break
		}
	}
	return all, nil
}

// Unload deletes from the token the objects that are keys of this keyring and for which which
// returns true, and returns them. The keys stay in the keyring, and can be loaded again.
func (k *Keyring) Unload(ctx context.Context, which func(LoadedKey) bool) ([]LoadedKey, error) {
	all, err := k.Loaded(ctx)
	if err != nil {
		return nil, err
	}
	loader, err := k.loader()
	if err != nil {
		return nil, err
	}
	var gone []LoadedKey
	for _, l := range all {
		if l.Name == "" || !which(l) {
			continue
		}
		if err := k.unload(ctx, loader, l); err != nil {
			return gone, err
		}
		gone = append(gone, l)
	}
	return gone, nil
}

func (k *Keyring) unload(ctx context.Context, loader Loader, l LoadedKey) error {
	use := Use{Operation: OpUnload, Key: l.Name, Version: l.Version, To: l.Label}
	copy(use.KeyID[:], l.object.ID)
	return k.recorder.changing(ctx, use, "", func(ctx context.Context, i *intent) error {
		if err := i.begin(Use{}); err != nil {
			return err
		}
		return loader.Unload(ctx, l.object)
	})
}
