package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/rsa"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/capi"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
)

// TestTheHardwareIsLostTwice is what all of this is for. It runs in a process of its
// own: SoftHSM fails on a token that was destroyed, crypto11 looks at all tokens
// when it opens one, and gives up on the module.
func TestTheHardwareIsLostTwice(t *testing.T) {
	const inside = "HSMKEYS_TEST_LOSS"
	if os.Getenv(inside) == "" {
		cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
		cmd.Env = append(os.Environ(), inside+"=1", "SOFTHSM2_CONF=")
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name())) {
			t.Errorf("%v\n%s", err, out)
		}
		return
	}
	const keys, letters = 1000, 20
	office, vault, spare := newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	second, last := newSite(t, "second vault"), newSite(t, "last")
	k, store, _ := office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	createMany(t, k, keys)
	files := map[string][]byte{}
	for i := range letters {
		plain := fmt.Sprintf("letter %d", i)
		files[plain] = encrypt(t, k, fmt.Sprintf("k%d", i*37), []byte(plain))
	}
	office.lose(t)

	authority := vault.join(t, store, office)
	if n := recoverAll(t, authority, office.cert, spare.member(blob.Owner, "spare")); n != keys {
		t.Errorf("%d keys recovered, not %d", n, keys)
	}
	k = spare.join(t, store, vault)
	opens(t, k, keys, files)
	if n := rewrap(t, k); n != keys {
		t.Errorf("%d keys rewrapped, not %d", n, keys)
	}

	// The authority's token dies as well, and then the new owner's.
	vault.lose(t)
	remove(t, k, blob.BackupAuthority, "vault")
	add(t, k, second.member(blob.BackupAuthority, "second vault"))
	if n := rewrap(t, k); n != keys {
		t.Errorf("%d keys rewrapped for the second authority, not %d", n, keys)
	}
	spare.lose(t)
	authority = second.join(t, store, spare)
	if n := recoverAll(t, authority, spare.cert, last.member(blob.Owner, "last")); n != keys {
		t.Errorf("%d keys recovered the second time, not %d", n, keys)
	}
	k = last.join(t, store, second)
	opens(t, k, keys, files)
	for name, err := range k.Verify(context.Background()) {
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// threesome is a keyring with an owner and a backup authority, one key, and a
// token to recover to.
func threesome(t *testing.T) (office, vault, spare *site, k *hsmkeys.Keyring, store *dirstore.Store, dir string) {
	t.Helper()
	office, vault, spare = newSite(t, "office"), newSite(t, "vault"), newSite(t, "spare")
	k, store, dir = office.found(t)
	add(t, k, vault.member(blob.BackupAuthority, "vault"))
	create(t, k, "payroll")
	return
}

// TestRecoveredBlobsThatAreRefused begins a recovery, and then has the authority
// sign blobs that no recovery makes.
func TestRecoveredBlobsThatAreRefused(t *testing.T) {
	ctx := context.Background()
	office, vault, spare, k, store, _ := threesome(t)
	stranger := newSite(t, "stranger")
	create(t, k, "other")
	legacy := simple(t, office.pair.Public().(*rsa.PublicKey), capi.RC4, make([]byte, 5))
	legacy.Size, legacy.Salt = 5, make([]byte, 11)
	if _, err := k.ImportSimple(ctx, "legacy", legacy); err != nil {
		t.Fatal(err)
	}
	authority := vault.join(t, store, office)
	r, err := authority.BeginRecovery(ctx, office.cert, spare.member(blob.Owner, "spare"), "a test")
	if err != nil {
		t.Fatal(err)
	}
	// Somebody with the old token makes a key after the recovery has begun.
	late := must(signAs(t, office, k, "late", nil))
	putBlob(t, store, late)
	k = spare.join(t, store, vault)
	if _, err := k.Show(ctx, hsmkeys.Ref{Name: "late"}); !errors.Is(err, blob.ErrNotFound) {
		t.Errorf("what the old owner makes later: %v", err)
	}
	digests := map[string][32]byte{"late": late.Digest()}
	for _, name := range []string{"payroll", "other", "legacy"} {
		digests[name] = digestOf(t, store, name, 1, 1)
	}
	for name, attack := range map[string]struct {
		of     string // the key whose next revision it is
		signer *site
		edit   func(*blob.Descriptor, *blob.Content)
		want   error
	}{
		"signed by the old owner":      {"payroll", office, nil, blob.ErrNotFound},
		"signed by a stranger":         {"payroll", stranger, nil, blob.ErrNotFound},
		"signed by the new owner":      {"payroll", spare, nil, blob.ErrNotFound},
		"of a key that was made later": {"late", vault, nil, blob.ErrNotFound},
		"another key id":               {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.KeyID[0]++ }, blob.ErrNotFound},
		"another check value":          {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.CheckValue = []byte{1, 2, 3} }, blob.ErrNotFound},
		"another confirmation":         {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Confirmation = make([]byte, 16) }, blob.ErrNotFound},
		"no confirmation":              {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Confirmation = nil }, blob.ErrNotFound},
		"no check value":               {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.CheckValue = nil }, blob.ErrNotFound},
		"another salt of a legacy key": {"legacy", vault, func(d *blob.Descriptor, c *blob.Content) {
			d.Confirmation = nil
			d.Purpose, d.Legacy, c.Algorithm = keyspec.Decrypt, &blob.Legacy{KeySize: 5}, keyspec.RC4
		}, blob.ErrNotFound},
		"from another owner":            {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.From = spare.id() }, blob.ErrNotFound},
		"by a list that is no recovery": {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.List = 2 }, blob.ErrNotFound},
		"by a list that is not there":   {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery.List = 9 }, blob.ErrNotFound},
		"outside a recovery":            {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) { d.Recovery = nil }, blob.ErrNotFound},
		"in the place of another key's": {"payroll", vault, func(d *blob.Descriptor, _ *blob.Content) {
			digest := digests["other"]
			d.Replaces = digest[:]
		}, blob.ErrNotFound},
		"to an owner who is in no list": {"payroll", vault, func(_ *blob.Descriptor, c *blob.Content) {
			c.Recipients = append(c.Recipients, c.Recipients[0])
			c.Recipients[1].Identifier = stranger.id()
		}, blob.ErrNotFound},
		"another key, all else the same": {"payroll", vault, func(*blob.Descriptor, *blob.Content) {}, blob.ErrIntegrity},
	} {
		t.Run(name, func(t *testing.T) {
			digest := digests[attack.of]
			forged, err := signAs(t, attack.signer, k, attack.of, func(d *blob.Descriptor, c *blob.Content) {
				d.Revision, d.Replaces = 2, digest[:]
				d.Recovery = &blob.Recovery{List: r.Number(), From: office.id(), Reason: "a test"}
				c.Recipients[0] = wrapTo(t, spare, make([]byte, 32))
				if attack.edit != nil {
					attack.edit(d, c)
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			path := putBlob(t, store, forged)
			defer func() {
				if err := store.Delete(ctx, path); err != nil {
					t.Error(err)
				}
			}()
			ref := hsmkeys.Ref{Name: attack.of, Version: 1}
			if _, err := k.Reveal(ctx, ref); !errors.Is(err, attack.want) {
				t.Errorf("open: %v", err)
			}
			for r := range k.Rewrap(ctx, []hsmkeys.Ref{ref}, "") {
				if !errors.Is(r.Err, attack.want) {
					t.Errorf("adopt: %+v", r)
				}
			}
		})
	}
	// And the genuine recovery, after all this.
	for result := range r.Keys(ctx, []hsmkeys.Ref{{Name: "payroll", Version: 1}}) {
		if result.Err != nil {
			t.Error(result.Err)
		}
	}
	key, err := k.Open(ctx, hsmkeys.Ref{Name: "payroll"})
	if err != nil {
		t.Fatal(err)
	}
	key.Close()
}

// TestAKeyThatIsAnotherIsNotCarriedOn has the newest revision hold another key than it
// says, which the confirmation tells, and expects nobody to use it or put their name to it.
func TestAKeyThatIsAnotherIsNotCarriedOn(t *testing.T) {
	ctx := context.Background()
	office, _, _, k, store, _ := threesome(t)
	payroll := hsmkeys.Ref{Name: "payroll"}
	value, err := k.Reveal(ctx, payroll)
	if err != nil {
		t.Fatal(err)
	}
	var warnings warned
	// The owner itself has signed a blob that holds another key than it says.
	digest := digestOf(t, store, "payroll", 1, 1)
	record(t, store, office.signer(), must(signAs(t, office, k, "payroll", func(d *blob.Descriptor, c *blob.Content) {
		d.Revision, d.Replaces = 2, digest[:]
		c.Recipients = []blob.Recipient{wrapTo(t, office, make([]byte, 32))}
	})))
	if k, err = office.open(store); err != nil {
		t.Fatal(err)
	}
	k.Options().Warn = warnings.add
	for r := range k.Prove(ctx, versions(t, k), time.Now()) {
		if !errors.Is(r.Err, blob.ErrIntegrity) {
			t.Errorf("prove: %+v", r)
		}
	}
	for name, open := range map[string]func() error{
		"open": func() error {
			key, err := k.Open(ctx, payroll)
			if err != nil {
				return err
			}
			if key.Entry.Revision != 1 {
				t.Errorf("revision %d is used", key.Entry.Revision)
			}
			return key.Close()
		},
		"reveal": func() error {
			got, err := k.Reveal(ctx, payroll)
			if !bytes.Equal(got, value) {
				t.Error("another value")
			}
			return err
		},
		"load": func() error { _, err := k.Load(ctx, payroll, "payroll loaded"); return err },
	} {
		if err := open(); err != nil || !warnings.say("the unwrapped key is not the one that was wrapped; revision 1, which holds the same key, is used") {
			t.Errorf("%s: %v, %v", name, err, warnings.all)
		}
	}
	for r := range k.Rewrap(ctx, versions(t, k), "") {
		if r.Err != nil || !r.Done || !warnings.say("revision 1, which holds the same key, is used") {
			t.Errorf("rewrap: %+v, %v", r, warnings.all)
		}
	}
	if got, err := k.Reveal(ctx, payroll); err != nil || !bytes.Equal(got, value) || warnings.say("") {
		t.Errorf("after rewrap: %v, %v", err, warnings.all)
	}
}

// warned collects warnings.
type warned struct {
	mu  sync.Mutex
	all []error
}

func (w *warned) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, err)
}

// say reports whether there was a warning with these words, and forgets all.
func (w *warned) say(words string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	said := slices.ContainsFunc(w.all, func(err error) bool { return strings.Contains(err.Error(), words) })
	w.all = nil
	return said
}
