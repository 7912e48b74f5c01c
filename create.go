package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Create makes a session key on the token, has the token wrap it to every member
// and sign the blob, and stores the blob durably. It refuses with
// [blob.ErrExists] when there is a key of that name.
//
// Purpose 0 is the usual one for the algorithm: [keyspec.WrapKeys] for AES, which
// is what files are encrypted under, [keyspec.Authenticate] for HMAC.
func (k *Keyring) Create(ctx context.Context, name string, algorithm keyspec.Algorithm, purpose keyspec.Purpose) (Entry, error) {
	return k.create(ctx, ledger.Create.String(), blob.Descriptor{Name: name, Purpose: usualPurpose(purpose, algorithm)}, NewKey{}, func(ctx context.Context, d blob.Descriptor) (*blob.Blob, error) {
		return k.make(ctx, d, algorithm)
	})
}

// usualPurpose is what purpose 0 stands for.
func usualPurpose(purpose keyspec.Purpose, algorithm keyspec.Algorithm) keyspec.Purpose {
	switch {
	case purpose != 0:
		return purpose
	case algorithm.IsHMAC():
		return keyspec.Authenticate
	}
	return keyspec.WrapKeys
}

// A NewKey is what a key is to be.
type NewKey struct {
	Algorithm keyspec.Algorithm
	Purpose   keyspec.Purpose // 0 as in [Keyring.Create]
	Details
	Reason string // recorded

	// Reuse allows the name of a key that was destroyed. The key gets the next version of that name.
	Reuse bool
}

// Check returns an error, an [ErrDetails] or about the reason, unless there can be such a key.
func (n NewKey) Check() error { return errors.Join(n.check(time.Now()), validReason(n.Reason)) }

// CreateMany is [Keyring.Create] for several keys that are alike.
func (k *Keyring) CreateMany(ctx context.Context, names []string, key NewKey) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		if err := key.Check(); err != nil {
			yield(Result{Err: err})
			return
		}
		where := inFile
		if len(names) > 1 {
			where = onToken
		}
		k.changeAll(ctx, ledger.Create.String(), "create a key", key.Reason, refsTo(names), where, func(ctx context.Context, ref Ref) (Result, error) {
			if err := blob.ValidNewName(ref.Name); err != nil {
				return Result{}, err
			}
			d := blob.Descriptor{Name: ref.Name, Purpose: usualPurpose(key.Purpose, key.Algorithm)}
			return k.created(ctx, d, key, func(ctx context.Context, d blob.Descriptor) (*blob.Blob, error) {
				return k.make(ctx, d, key.Algorithm)
			})
		})(yield)
	}
}

// create makes the first version of a key, in whatever way.
func (k *Keyring) create(ctx context.Context, op string, d blob.Descriptor, key NewKey, make makeFunc) (Entry, error) {
	use := Use{Operation: op, Key: d.Name}
	err := k.refresh(ctx)
	if err == nil {
		err = k.mustOwn("create a key")
	}
	if err == nil {
		err = errors.Join(blob.ValidNewName(d.Name), key.Check())
	}
	if err != nil {
		return Entry{}, k.recorder.refused(ctx, use, key.Reason, err)
	}
	return retryStale(ctx, k, use, key.Reason, func(ctx context.Context) (Entry, error) {
		r, err := k.created(ctx, d, key, make)
		if err != nil {
			return Entry{}, err
		}
		return k.recordOne(ctx, r, inFile)
	})
}

// A makeFunc makes the key that a descriptor describes, and stores the blob.
type makeFunc func(context.Context, blob.Descriptor) (*blob.Blob, error)

// created makes the first version of a key, or the next of a name that is used again, and prepares the
// edit that records it.
func (k *Keyring) created(ctx context.Context, d blob.Descriptor, key NewKey, make makeFunc) (Result, error) {
	last, err := k.mayCreate(ctx, d.Name, key.Reuse) // before a key is made for nothing
	if err != nil {
		return Result{}, err
	}
	d.Version = last + 1
	list := k.ListNumber()
	b, err := make(ctx, d)
	if err != nil {
		return Result{}, fmt.Errorf("create key %q: %w", d.Name, err)
	}
	v := k.version(b, list)
	edit := createEdit(d.Name, last, v, key)
	after := ledger.Entry{Name: d.Name, Current: v.Number}
	key.set(&after)
	return k.preparedResult(after, v, b, edit), nil
}

// mayCreate returns the highest version that a name had before, 0 for none, or an error if a key has
// the name.
func (k *Keyring) mayCreate(ctx context.Context, name string, reuse bool) (last int, err error) {
	e, err := k.view().Entry(ctx, name)
	switch {
	case errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrIntegrity):
		return 0, nil
	case err != nil:
		return 0, err
	}
	alive := false
	newest := e.Versions[len(e.Versions)-1]
	for v, err := range k.view().Versions(ctx, e) {
		if err != nil {
			return 0, err
		}
		alive = alive || v.Status != ledger.Destroyed
	}
	switch {
	case alive:
		return 0, withFacts(fmt.Errorf("create key %q: %w", name, blob.ErrExists), ErrNameTaken)
	case !reuse:
		return 0, withFacts(fmt.Errorf("create key %q: %w: a key of that name %s", name, blob.ErrExists, k.statusSince(ctx, keyVersion{e, newest})), ErrNameDestroyed)
	}
	return highest(e), nil
}

// recordOne records what was prepared for one key, in a checkpoint of its own or with those of others,
// and returns what the key is then. If the error is stale the blob that was made is deleted.
func (k *Keyring) recordOne(ctx context.Context, r Result, where pinPlaces) (Entry, error) {
	if r.blob != nil {
		defer k.storing.end(r.blob)
	}
	err := k.recordEdit(ctx, *r.edit, where)
	if isStale(err) {
		return Entry{}, errors.Join(err, k.forget(ctx, r))
	}
	if err != nil {
		return Entry{}, fmt.Errorf("record key %q: %w", r.Ref, err)
	}
	return r.Entry, nil
}
