package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha1"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"testing"
	"time"

	"golang.org/x/mod/sumdb/tlog"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// What is here signs what no program of ours would.

// signer is what signs, and how.
type signer struct {
	key    crypto.Signer
	scheme keyspec.Scheme
}

func (s *site) signer() signer { return signer{s.pair, keyspec.RSAPSS} }

func (s signer) blob() blob.Signer { return blob.Signer{Key: s.key, Scheme: s.scheme} }

func random() (n [16]byte, err error) {
	_, err = rand.Read(n[:])
	return n, err
}

// pathOf returns the path of the only blob of a revision.
func pathOf(tb testing.TB, store blob.Store, name string, version, revision int) string {
	tb.Helper()
	var found []string
	for path, err := range store.List(context.Background(), fmt.Sprintf("%s%s/%d.%d.", blob.KeysPrefix, name, version, revision)) {
		if err != nil {
			tb.Fatal(err)
		}
		found = append(found, path)
	}
	if len(found) != 1 {
		tb.Fatalf("key %s, version %d, revision %d: %d blobs", name, version, revision, len(found))
	}
	return found[0]
}

// putBlob stores a blob in its place. The state does not name it yet.
func putBlob(tb testing.TB, store blob.Store, b *blob.Blob) (path string) {
	tb.Helper()
	d := b.Descriptor()
	path = blob.KeyPath(d.Name, d.Version, d.Revision, b.Digest())
	if err := store.Put(context.Background(), path, b.Bytes()); err != nil && !errors.Is(err, blob.ErrExists) {
		tb.Fatal(err)
	}
	return path
}

// record stores a blob and has an owner put it into the state, whatever it is.
func record(t *testing.T, store blob.Store, by signer, b *blob.Blob) {
	t.Helper()
	ctx := context.Background()
	putBlob(t, store, b)
	c := newest(t, store)
	at := c.At()
	l, _, err := ledger.Open(ctx, store, ledger.Trust{Checkpoint: &at, Write: true})
	if err != nil {
		t.Fatal(err)
	}
	_, isDerived := b.Derivation()
	d := b.Descriptor()
	edit := ledger.Edit{Name: d.Name, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		v := ledger.Version{
			Number: d.Version, Revision: d.Revision, KeyID: d.KeyID, Blob: b.Digest(), List: c.List.Number,
			Algorithm: b.Algorithm(), Purpose: d.Purpose, KeySize: b.KeySize(), Derived: isDerived, Imported: d.Imported,
			Status: ledger.Active, Created: d.Created, Changed: number, ChangedAt: at,
		}
		e, op := ledger.Entry{Name: d.Name, Current: d.Version}, ledger.Create
		if old != nil {
			e, op = *old, ledger.Rewrap
			if d.Version > old.Versions[len(old.Versions)-1].Number {
				e.Current, op = d.Version, ledger.Rotate
			}
		}
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: op, Name: d.Name, Version: d.Version}}, nil
	}}
	_, errs, err := l.Commit(ctx, ledger.Proposal{Edits: []ledger.Edit{edit}}, by.blob(), time.Now(), random)
	if err := errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
}

// A head is a checkpoint as it lies in the store, unverified.
type head struct {
	blob.Checkpoint
	digest [32]byte
}

func (h head) At() ledger.Point { return ledger.Point{Number: h.Number, Digest: h.digest} }

// newest reads the newest checkpoint of a store, whoever signed it.
func newest(t *testing.T, store blob.Store) head {
	t.Helper()
	var last []byte
	for number := 1; ; number++ {
		der, err := store.Get(context.Background(), blob.SlotPath(number))
		if errors.Is(err, blob.ErrNotFound) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		last = der
	}
	digest := sha256.Sum256(last)
	v := must(must(blob.ParseCheckpoint(last)).VerifyDigest(digest))
	return head{v.Checkpoint(), digest}
}

// listOf reads the list of members that a checkpoint names.
func listOf(t *testing.T, store blob.Store, c head) blob.MemberList {
	t.Helper()
	return must(blob.ParseMembers(must(store.Get(context.Background(), blob.MembersPath(c.List.Digest)))))
}

// forgeList stores a next checkpoint that somebody signs, which introduces a list of
// members. It returns a function that takes the checkpoint away again.
func forgeList(t *testing.T, store blob.Store, s signer, edit func(*blob.MemberList)) (undo func()) {
	t.Helper()
	ctx := context.Background()
	before := newest(t, store)
	l := listOf(t, store, before)
	l.Number, l.Previous, l.Created, l.Recovery = l.Number+1, bytes.Clone(before.List.Digest[:]), time.Now(), nil
	edit(&l)
	der, err := blob.MarshalMembers(l)
	if err != nil {
		t.Fatal(err)
	}
	c := before.Checkpoint
	c.Number, c.Previous, c.Created, c.Nonce = before.Number+1, before.digest[:], time.Now(), must(random())
	c.KeyringID = l.KeyringID
	c.List = blob.ListRef{Number: l.Number, Digest: sha256.Sum256(der), Introduced: c.Number}
	var record ledger.Record
	c.Log, record.Log = logOf(t, store, before.Number)
	changes := must(ledger.MarshalRecord(record))
	c.Changes = sha256.Sum256(changes)
	signed, err := blob.SignCheckpoint(c, s.blob(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	slot := blob.SlotPath(c.Number)
	for path, data := range map[string][]byte{
		blob.MembersPath(c.List.Digest): der, blob.ChangesPath(c.Changes): changes,
		blob.CheckpointPath(signed.Digest()): signed.Bytes(), slot: signed.Bytes(),
	} {
		if err := store.Put(ctx, path, data); err != nil && !errors.Is(err, blob.ErrExists) {
			t.Fatal(err)
		}
	}
	return func() {
		t.Helper()
		if err := store.Delete(ctx, slot); err != nil {
			t.Fatal(err)
		}
	}
}

// logOf returns the hash of the log of so many checkpoints, and the hashes that the last of
// them adds to it.
func logOf(t *testing.T, store blob.Store, checkpoints int) (root ledger.Digest, added []ledger.Digest) {
	t.Helper()
	var stored []tlog.Hash
	read := tlog.HashReaderFunc(func(at []int64) (out []tlog.Hash, err error) {
		for _, i := range at {
			out = append(out, stored[i])
		}
		return out, nil
	})
	for n := range checkpoints {
		digest := sha256.Sum256(must(store.Get(context.Background(), blob.SlotPath(n+1))))
		hashes := must(tlog.StoredHashes(int64(n), digest[:], read))
		stored, added = append(stored, hashes...), nil
		for _, h := range hashes {
			added = append(added, ledger.Digest(h))
		}
	}
	return ledger.Digest(must(tlog.TreeHash(int64(checkpoints), read))), added
}

// putProof has somebody sign that a token has opened the first version of a key, and stores
// it where the proofs of another key are.
func putProof(t *testing.T, store blob.Store, k *hsmkeys.Keyring, at []byte, s signer, name string) {
	t.Helper()
	putProofOf(t, store, k, k.ID(), at, s, name)
}

// putProofOf is putProof for any keyring.
func putProofOf(t *testing.T, store blob.Store, k *hsmkeys.Keyring, keyring blob.ID, at []byte, s signer, name string) {
	t.Helper()
	e := must(k.Show(context.Background(), hsmkeys.Ref{Name: name, Version: 1}))
	opened := blob.Opened{Blob: [32]byte(unhex(t, e.Digest)), KeyID: blob.ID(unhex(t, e.KeyID))}
	signed := must(blob.SignProof(blob.Proof{KeyringID: keyring, Created: time.Now(), Opened: []blob.Opened{opened}}, s.blob(), time.Now()))
	if err := store.Put(context.Background(), blob.ProofPath(at, signed.Digest()), signed.Bytes()); err != nil {
		t.Fatal(err)
	}
}

// proofOf returns the path of the only proof of a signer.
func proofOf(t *testing.T, store blob.Store, keyID []byte) string {
	t.Helper()
	var found []string
	for path, err := range store.List(context.Background(), fmt.Sprintf("%s%x/", blob.ProofsPrefix, keyID)) {
		if err != nil {
			t.Fatal(err)
		}
		found = append(found, path)
	}
	if len(found) != 1 {
		t.Fatalf("%d proofs", len(found))
	}
	return found[0]
}

// advance adds checkpoints of today that change nothing.
func advance(t *testing.T, store blob.Store, by signer, checkpoints int) {
	t.Helper()
	advanceAt(t, store, by, checkpoints, time.Now())
}

// advanceAt is advance by another clock.
func advanceAt(t *testing.T, store blob.Store, by signer, checkpoints int, now time.Time) {
	t.Helper()
	ctx := context.Background()
	at := newest(t, store).At()
	l, _, err := ledger.Open(ctx, store, ledger.Trust{Checkpoint: &at, Write: true})
	for range checkpoints {
		if err != nil {
			break
		}
		l, _, err = l.Commit(ctx, ledger.Proposal{Notes: []ledger.Change{{Op: ledger.ReplacePin, Reason: "a test"}}}, by.blob(), now, random)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// signAs signs a blob like revision 1 of a key, with another signer and key.
func signAs(t *testing.T, signer *site, k *hsmkeys.Keyring, name string, edit func(*blob.Descriptor, *blob.Content)) (*blob.Blob, error) {
	t.Helper()
	d := blob.Descriptor{KeyringID: k.ID(), Name: name, Version: 1, Revision: 1, Created: time.Now(), Purpose: keyspec.WrapKeys}
	if e, err := k.Show(context.Background(), hsmkeys.Ref{Name: name, Version: 1}); err == nil {
		d.KeyID, d.CheckValue, d.Created = blob.ID(unhex(t, e.KeyID)), unhex(t, e.CheckValue), e.Created
		if e.Confirms != "" {
			d.Confirmation = unhex(t, e.Confirms)
		}
	}
	c := blob.Content{Algorithm: keyspec.AES256, Recipients: []blob.Recipient{wrapTo(t, signer, make([]byte, 32))}}
	if edit != nil {
		edit(&d, &c)
	}
	return blob.Sign(d, c, blob.Signer{Key: signer.pair, Scheme: keyspec.RSAPSS}, time.Now())
}

func digestOf(t *testing.T, store blob.Store, name string, version, revision int) [32]byte {
	t.Helper()
	return sha256.Sum256(must(store.Get(context.Background(), pathOf(t, store, name, version, revision))))
}

// wrapTo wraps a key that we know to a site, as anybody can.
func wrapTo(t *testing.T, to *site, key []byte) blob.Recipient {
	t.Helper()
	wrapped, err := rsa.EncryptOAEP(sha1.New(), rand.Reader, to.pair.Public().(*rsa.PublicKey), key, nil)
	if err != nil {
		t.Fatal(err)
	}
	return blob.Recipient{Identifier: to.id(), Key: &keyspec.KeyTransport{OAEPHash: crypto.SHA1, EncryptedKey: wrapped}}
}

func unhex(t *testing.T, s string) []byte {
	t.Helper()
	out, err := hex.DecodeString(s)
	if err != nil {
		t.Fatal(err)
	}
	return out
}
