package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"fmt"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/softhsm"
	"github.com/hsmkeys/hsmkeys/token"
)

// site is a token of its own with a pair and its certificate, for tests with more
// than one member.
type site struct {
	soft softhsm.Token
	tok  *token.Token
	pair *token.KeyPair
	cert *x509.Certificate
}

var siteNumber int

func newSite(tb testing.TB, label string) *site {
	tb.Helper()
	siteNumber++
	made, err := env.InitToken(fmt.Sprintf("%s %d", label, siteNumber))
	if err != nil {
		tb.Fatal(err)
	}
	s := &site{soft: made}
	if s.tok, err = openToken(made.Label, made.PIN); err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { s.tok.Close() })
	if s.pair, err = s.tok.GenerateKeyPair(context.Background(), "hsmkeys", 2048); err != nil {
		tb.Fatal(err)
	}
	if s.cert, err = s.pair.Certify(context.Background(), label); err != nil {
		tb.Fatal(err)
	}
	return s
}

// lose destroys the token, as a fire would.
func (s *site) lose(t *testing.T) {
	t.Helper()
	if err := s.tok.Close(); err != nil {
		t.Fatal(err)
	}
	if err := env.DestroyToken(s.soft); err != nil {
		t.Fatal(err)
	}
}

// member is the site as it stands in a list of members.
func (s *site) member(role blob.Role, label string) blob.Member {
	return blob.Member{Role: role, Label: label, Certificate: s.cert}
}

func (s *site) id() []byte { return s.pair.ID() }

func (s *site) found(tb testing.TB) (*hsmkeys.Keyring, *blob.Dir, string) {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "store")
	store, err := blob.CreateDir(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	k, err := hsmkeys.Found(context.Background(), s.tok, s.pair, store, nil, "office")
	if err != nil {
		tb.Fatal(err)
	}
	return k, store, dir
}

func (s *site) open(store blob.Store) (*hsmkeys.Keyring, error) {
	return hsmkeys.OpenKeyring(context.Background(), s.tok, s.pair, store, nil)
}

func (s *site) join(tb testing.TB, store blob.Store, voucher *site) *hsmkeys.Keyring {
	tb.Helper()
	k, err := hsmkeys.Join(context.Background(), s.tok, s.pair, store, nil, voucher.cert)
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// add adds a member and gives the keyring under the new list.
func add(tb testing.TB, k *hsmkeys.Keyring, m blob.Member) *hsmkeys.Keyring {
	tb.Helper()
	next, err := k.AddMember(context.Background(), m)
	if err != nil {
		tb.Fatal(err)
	}
	return next
}

// remove removes a member and expects nothing to be skipped.
func remove(t *testing.T, k *hsmkeys.Keyring, role blob.Role, label string) *hsmkeys.Keyring {
	t.Helper()
	next, err := k.RemoveMember(context.Background(), role, label, func(err error) { t.Errorf("skipped: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	return next
}

// createMany makes keys named k0, k1, ….
func createMany(tb testing.TB, k *hsmkeys.Keyring, n int) {
	tb.Helper()
	var all sync.WaitGroup
	names := make(chan string)
	for range 8 {
		all.Go(func() {
			for name := range names {
				if _, err := k.Create(context.Background(), name, blob.AES256, 0); err != nil {
					tb.Error(err)
				}
			}
		})
	}
	for i := range n {
		names <- fmt.Sprintf("k%d", i)
	}
	close(names)
	all.Wait()
}

// versions names all versions of all keys.
func versions(tb testing.TB, k *hsmkeys.Keyring) []hsmkeys.Ref {
	tb.Helper()
	refs, err := k.Versions(context.Background())
	if err != nil {
		tb.Fatal(err)
	}
	return refs
}

// rewrap rewraps everything and counts what was done.
func rewrap(tb testing.TB, k *hsmkeys.Keyring) (done int) {
	tb.Helper()
	for r := range k.Rewrap(context.Background(), versions(tb, k)) {
		if r.Err != nil {
			tb.Error(r.Err)
		}
		if r.Done {
			done++
		}
	}
	return done
}

// recoverAll begins a recovery with the authority's keyring and finishes it.
func recoverAll(t *testing.T, k *hsmkeys.Keyring, from *x509.Certificate, to blob.Member) (done int) {
	t.Helper()
	r, err := k.BeginRecovery(context.Background(), from, to, "a fire", func(err error) { t.Errorf("skipped: %v", err) })
	if err != nil {
		t.Fatal(err)
	}
	for result := range r.Keys(context.Background(), versions(t, r.Keyring)) {
		if result.Err != nil {
			t.Error(result.Err)
		}
		if result.Done {
			done++
		}
	}
	return done
}

// opens expects every key to open and every file to decrypt.
func opens(t *testing.T, k *hsmkeys.Keyring, keys int, files map[string][]byte) {
	t.Helper()
	opened := 0
	var mu sync.Mutex
	var all sync.WaitGroup
	refs := make(chan hsmkeys.Ref)
	for range 8 {
		all.Go(func() {
			for ref := range refs {
				key, err := k.Open(context.Background(), ref)
				if err != nil {
					t.Error(err)
					continue
				}
				key.Close()
				mu.Lock()
				opened++
				mu.Unlock()
			}
		})
	}
	for _, ref := range versions(t, k) {
		refs <- ref
	}
	close(refs)
	all.Wait()
	if opened != keys {
		t.Errorf("%d keys open, not %d", opened, keys)
	}
	for plain, file := range files {
		if got, err := decrypt(k, file); err != nil || !bytes.Equal(got, []byte(plain)) {
			t.Errorf("file %q: %q, %v", plain, got, err)
		}
	}
}

// putList signs a list as nobody should, and stores it.
func putList(t *testing.T, store blob.Store, l blob.MemberList, signer *site) {
	t.Helper()
	der, err := blob.SignMembers(l, blob.Signer{Key: signer.pair, Scheme: blob.RSAPSS}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	if err := store.Put(context.Background(), blob.MembersPath(l.Number), der); err != nil {
		t.Fatal(err)
	}
}

// lastList reads the newest list, whoever signed it.
func lastList(t *testing.T, store blob.Store, number int, signer *site) *blob.VerifiedMembers {
	t.Helper()
	der, err := store.Get(context.Background(), blob.MembersPath(number))
	if err != nil {
		t.Fatal(err)
	}
	u, err := blob.ParseMembers(der)
	if err != nil {
		t.Fatal(err)
	}
	v, err := u.Verify([]blob.Party{{Key: signer.pair.Public()}}, number)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// after is a list that continues the one with a number.
func after(t *testing.T, store blob.Store, number int, signer *site, edit func(*blob.MemberList)) blob.MemberList {
	t.Helper()
	v := lastList(t, store, number, signer)
	l, digest := v.List(), v.Digest()
	l.Number, l.Previous, l.Created = number+1, digest[:], time.Now()
	l.Recovery, l.Inventory = nil, nil
	edit(&l)
	return l
}
