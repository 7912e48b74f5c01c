package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"iter"
	"strings"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/blob/store/mem"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// An eventLog keeps the events that a keyring has, and refuses the one with a number from 1, or none if
// that is 0.
type eventLog struct {
	mu     sync.Mutex
	events []hsmkeys.Event
	refuse int
}

var errFull = errors.New("the disk is full")

func (l *eventLog) record(_ context.Context, e hsmkeys.Event) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.events = append(l.events, e)
	if len(l.events) == l.refuse {
		return errFull
	}
	return nil
}

// text returns the events in words, such as "create done a@1".
func (l *eventLog) text() string {
	var all []string
	for _, e := range l.events {
		words := []string{e.Operation, string(e.Outcome)}
		if e.Key != "" {
			words = append(words, hsmkeys.Ref{Name: e.Key, Version: e.Version}.String())
		}
		if e.To != "" {
			words = append(words, "to "+e.To)
		}
		all = append(all, strings.Join(words, " "))
	}
	return strings.Join(all, "; ")
}

// A recordedSite is a keyring with an owner and an authority in memory, keys a, b (deactivated) and
// gone (destroyed), a file under a@1, and a copy of the store in which a was rotated.
type recordedSite struct {
	store, copy   *mem.Store
	owner, vault  *softpair.Pair
	spare         blob.Member
	vaultMember   blob.Member
	ownerMember   blob.Member
	file, damaged []byte
}

func softPair(t *testing.T) *softpair.Pair {
	t.Helper()
	return must(softpair.New(must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))))
}

func newRecordedSite(t *testing.T) *recordedSite {
	t.Helper()
	ctx := t.Context()
	key := must(ecdsa.GenerateKey(elliptic.P256(), rand.Reader))
	s := &recordedSite{store: new(mem.Store), copy: new(mem.Store), owner: must(softpair.New(key)), vault: softPair(t)}
	k := must(hsmkeys.Init(ctx, hsmkeys.Options{Store: s.store, Pair: s.owner}, "office"))
	for _, name := range []string{"a", "b", "gone"} {
		must(k.Create(ctx, name, keyspec.AES256, 0))
	}
	all(t, k.Deactivate(ctx, keyRefs("b"), ""))
	all(t, k.Destroy(ctx, keyRefs("gone"), "a test"))
	s.file = encryptWith(t, k, "a", strings.Repeat("The salaries of March.", 10_000))
	s.damaged = bytes.Clone(s.file)
	s.damaged[len(s.damaged)-1] ^= 1
	s.vaultMember = blob.Member{Role: blob.BackupAuthority, Label: "vault", Certificate: must(s.vault.Certify(ctx, "vault"))}
	if err := k.AddMember(ctx, s.vaultMember); err != nil { // who does not hold the keys yet
		t.Fatal(err)
	}
	s.ownerMember = blob.Member{Role: blob.Owner, Label: "office", Certificate: must(k.Certificate())}
	s.spare = blob.Member{Role: blob.Owner, Label: "spare", Certificate: must(softPair(t).Certify(ctx, "spare"))}
	for path, data := range objects(t, s.store) {
		if err := s.copy.Put(ctx, path, []byte(data)); err != nil {
			t.Fatal(err)
		}
	}
	copied := must(hsmkeys.Join(ctx, hsmkeys.Options{Store: s.copy, Pair: must(softpair.New(key)), Voucher: s.ownerMember.Certificate})) // with pins of its own
	must(copied.Rotate(ctx, "a", ""))
	must(k.Create(ctx, "later", keyspec.AES256, 0)) // both have been written to
	return s
}

// objects returns all that is in a store.
func objects(t *testing.T, store blob.Store) map[string]string {
	t.Helper()
	all := map[string]string{}
	for path, err := range store.List(t.Context(), "") {
		if err != nil {
			t.Fatal(err)
		}
		all[path] = string(must(store.Get(t.Context(), path)))
	}
	return all
}

// failed returns the error of the first result that failed.
func failed(results iter.Seq[hsmkeys.Result]) (err error) {
	for r := range results {
		if err == nil {
			err = r.Err
		}
	}
	return err
}

// asOwner opens the keyring with the owner, and does something with it.
func asOwner(do func(*recordedSite, *hsmkeys.Keyring) error) func(*recordedSite, hsmkeys.Options) error {
	return func(s *recordedSite, o hsmkeys.Options) error {
		o.Pair = s.owner
		k, err := hsmkeys.Open(context.Background(), o)
		if err != nil {
			return err
		}
		return do(s, k)
	}
}

var (
	ctx    = context.Background()
	aesKey = hsmkeys.NewKey{Algorithm: keyspec.AES256}
)

func second[T any](_ T, err error) error { return err }

func (s *recordedSite) empty() *mem.Store { s.copy = new(mem.Store); return s.copy }

// authority joins as the authority, which is not recorded, and opens the keyring.
func (s *recordedSite) authority(o hsmkeys.Options) (*hsmkeys.Keyring, error) {
	if _, err := hsmkeys.Join(ctx, hsmkeys.Options{Store: s.store, Pair: s.vault, Voucher: s.ownerMember.Certificate}); err != nil {
		return nil, err
	}
	o.Pair = s.vault
	return hsmkeys.Open(ctx, o)
}
