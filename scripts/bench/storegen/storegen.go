// Package storegen makes stores of very many genuine keys, for benchmarks. They are signed by
// a software key, because a store does not depend on where a signature comes from. The
// session keys are random, and actually wrapped to every member.
package storegen

import (
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Options describe the contents of a store.
type Options struct {
	Owner    crypto.Signer // an *rsa.PrivateKey, or an *ecdsa.PrivateKey on P-256
	Keys     int
	Versions int // of each key
	Members  int // the owner, and so many less one backup authorities with RSA keys of 2048 bits

	// Blobs is the number of keys that have blobs, counting from the first. The others are
	// only in the state, which is all that list and drill read.
	Blobs int
}

// Name returns the name of key i: a thousand keys share their first segment.
func Name(i int) string { return fmt.Sprintf("g%04d/k%03d", i/1000, i%1000) }

// Make makes a store in a new directory: its keys are in one checkpoint, except for the last
// few, which have one each, as in a keyring that is in use. Blobs are not synced.
func Make(path string, o Options) error {
	store, err := dir.Create(path)
	if err != nil {
		return err
	}
	defer store.Close()
	g, err := Init(context.Background(), store, o)
	if err != nil {
		return err
	}
	g.put = func(at string, der []byte) error { return writeFile(filepath.Join(path, at), der) }
	few := min(3, o.Keys-1)
	if err := g.Add(context.Background(), o.Keys-few); err != nil {
		return err
	}
	for range few {
		if err := g.Add(context.Background(), 1); err != nil {
			return err
		}
	}
	return nil
}

func writeFile(at string, data []byte) error {
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		return err
	}
	return os.WriteFile(at, data, 0o600)
}

// A Generator makes the keys of one store.
type Generator struct {
	Ledger *ledger.Ledger

	options Options
	list    blob.MemberList
	signer  blob.Signer
	put     func(path string, der []byte) error // of a blob
}

// Init founds a keyring in an empty store. Options.Keys is not used.
func Init(ctx context.Context, store blob.Store, o Options) (*Generator, error) {
	g := &Generator{options: o, signer: blob.Signer{Key: o.Owner, Scheme: keyspec.ECDSA}}
	g.put = func(path string, der []byte) error { return store.Put(ctx, path, der) }
	if _, ok := o.Owner.(*rsa.PrivateKey); ok {
		g.signer.Scheme = keyspec.RSAPSS
	}
	_, _ = rand.Read(g.list.KeyringID[:])
	g.list.Members = []blob.Member{{Role: blob.Owner, Label: "owner", Certificate: Certificate(o.Owner, "owner")}}
	for i := 1; i < o.Members; i++ {
		key, err := rsa.GenerateKey(rand.Reader, 2048)
		if err != nil {
			return nil, err
		}
		label := fmt.Sprintf("authority-%d", i)
		g.list.Members = append(g.list.Members, blob.Member{Role: blob.BackupAuthority, Label: label, Certificate: Certificate(key, label)})
	}
	var err error
	g.Ledger, err = ledger.Init(ctx, store, g.list, g.signer, time.Now(), nonce)
	return g, err
}

func nonce() (n [16]byte, err error) {
	_, err = rand.Read(n[:])
	return n, err
}

// Add makes the given number of keys in one checkpoint: with such names at most about a
// million, because the record of a checkpoint's changes is limited to 16 MiB.
func (g *Generator) Add(ctx context.Context, keys int) error {
	edits, err := g.edits(g.Ledger.Len(), keys)
	if err != nil || keys == 0 {
		return err
	}
	l, errs, err := g.Ledger.Commit(ctx, ledger.Proposal{Edits: edits}, g.signer, time.Now(), nonce)
	if err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	g.Ledger = l
	return nil
}

// creates returns the edit that makes a key from its versions.
func creates(name string, all []ledger.Version) ledger.Edit {
	return ledger.Edit{Name: name, Apply: func(_ *ledger.Entry, _ func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		changes := make([]ledger.Change, len(all))
		for i := range all {
			all[i].Changed, all[i].ChangedAt = number, at
			changes[i] = ledger.Change{Op: ledger.Create, Name: name, Version: all[i].Number}
		}
		return ledger.Update{Entry: ledger.Entry{Name: name, Current: len(all)}, Set: all}, changes, nil
	}}
}
