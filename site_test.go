package hsmkeys_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	dirstore "github.com/hsmkeys/hsmkeys/blob/store/dir"
	"github.com/hsmkeys/hsmkeys/ledger"
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

// newStore makes an empty store in a directory.
func newStore(tb testing.TB) (*dirstore.Store, string) {
	tb.Helper()
	dir := filepath.Join(tb.TempDir(), "store")
	store, err := dirstore.Create(dir)
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { store.Close() })
	return store, dir
}

func (s *site) found(tb testing.TB) (*hsmkeys.Keyring, *dirstore.Store, string) {
	tb.Helper()
	store, dir := newStore(tb)
	k, err := hsmkeys.Init(context.Background(), hsmkeys.Options{Store: store, Pair: s.pair}, "office")
	if err != nil {
		tb.Fatal(err)
	}
	return k, store, dir
}

func (s *site) open(store blob.Store) (*hsmkeys.Keyring, error) {
	return hsmkeys.Open(context.Background(), hsmkeys.Options{Store: store, Pair: s.pair})
}

func (s *site) join(tb testing.TB, store blob.Store, voucher *site) *hsmkeys.Keyring {
	tb.Helper()
	return s.joinWith(tb, store, voucher.cert)
}

func (s *site) joinWith(tb testing.TB, store blob.Store, voucher *x509.Certificate) *hsmkeys.Keyring {
	tb.Helper()
	k, err := hsmkeys.Join(context.Background(), hsmkeys.Options{Store: store, Pair: s.pair, Voucher: voucher})
	if err != nil {
		tb.Fatal(err)
	}
	return k
}

// add adds a member.
func add(tb testing.TB, k *hsmkeys.Keyring, m blob.Member) {
	tb.Helper()
	if err := k.AddMember(context.Background(), m); err != nil {
		tb.Fatal(err)
	}
}

// remove removes a member and expects nothing to be skipped.
func remove(t *testing.T, k *hsmkeys.Keyring, role blob.Role, label string) {
	t.Helper()
	if err := k.RemoveMember(context.Background(), role, label, func(err error) { t.Errorf("skipped: %v", err) }); err != nil {
		t.Fatal(err)
	}
}

// createMany makes keys named k0, k1, ….
func createMany(tb testing.TB, k *hsmkeys.Keyring, n int) {
	tb.Helper()
	var all sync.WaitGroup
	names := make(chan string)
	for range 8 {
		all.Go(func() {
			for name := range names {
				if _, err := k.Create(context.Background(), name, keyspec.AES256, 0); err != nil {
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
	for r := range k.Rewrap(context.Background(), versions(tb, k), "") {
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
	r, err := k.BeginRecovery(context.Background(), from, to, "a fire")
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

// write replaces what is at a path of a store in a directory, as nobody's program does.
func write(t *testing.T, dir, path string, data []byte) {
	t.Helper()
	at := filepath.Join(dir, path)
	if err := os.MkdirAll(filepath.Dir(at), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(at); err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	if err := os.WriteFile(at, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// decryptsOnly expects a keyring that reads, and neither encrypts nor signs.
func decryptsOnly(t *testing.T, k *hsmkeys.Keyring, key, plain string, file []byte) {
	t.Helper()
	ctx := context.Background()
	if got, err := decrypt(k, file); err != nil || string(got) != plain {
		t.Errorf("decrypt: %q, %v", got, err)
	}
	if _, err := k.Encrypt(ctx, io.Discard, []hsmkeys.Ref{{Name: key}}); err == nil {
		t.Error("it encrypts")
	}
	if _, err := k.Create(ctx, "another", keyspec.AES256, 0); err == nil {
		t.Error("it makes keys")
	}
	if _, err := k.Rotate(ctx, key, ""); err == nil {
		t.Error("it rotates keys")
	}
	for r := range k.Rewrap(ctx, versions(t, k), "") {
		if r.Err == nil {
			t.Error("it rewraps keys")
		}
	}
}

// copyOf copies a store to another directory, as cp -a does.
func copyOf(t *testing.T, dir string) (*dirstore.Store, string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	if err := os.CopyFS(to, os.DirFS(dir)); err != nil {
		t.Fatal(err)
	}
	store, err := dirstore.Open(to)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	return store, to
}

// restore has a store be what another one is, as from a backup.
func restore(t *testing.T, dir, backup string) {
	t.Helper()
	for _, e := range must(os.ReadDir(dir)) {
		if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(dir, os.DirFS(backup)); err != nil {
		t.Fatal(err)
	}
}

// unite copies what another store has over a store; slots that both have are overwritten,
// as rsync does it, or stay.
func unite(t *testing.T, store, other blob.Store, dir string, overwrite bool) {
	t.Helper()
	ctx := context.Background()
	for path, err := range other.List(ctx, "") {
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Get(ctx, path); err == nil && !overwrite {
			continue
		}
		write(t, dir, path, must(other.Get(ctx, path)))
	}
}

// reopen opens the keyring again, as the next command does.
func (s *site) reopen(t *testing.T, store blob.Store) *hsmkeys.Keyring {
	t.Helper()
	k, err := s.open(store)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// older opens the keyring at what is there, where the newest state is not, after it was
// refused for the reason that is wanted.
func (s *site) older(t *testing.T, store blob.Store, want error) *hsmkeys.Keyring {
	t.Helper()
	if _, err := s.open(store); !errors.Is(err, want) || !errors.Is(err, blob.ErrIntegrity) {
		t.Fatalf("open: %v, want %v", err, want)
	}
	k, err := hsmkeys.Open(context.Background(), hsmkeys.Options{Store: store, Pair: s.pair, OlderState: true})
	if err != nil {
		t.Fatal(err)
	}
	if !errors.Is(k.State().Older, want) {
		t.Errorf("the older state is of %v", k.State().Older)
	}
	return k
}

// replacePin has the site go on from the newest checkpoint in the store, which another
// member has shown.
func (s *site) replacePin(t *testing.T, store blob.Store, shown ledger.Point) *hsmkeys.Keyring {
	t.Helper()
	k, err := hsmkeys.ReplacePin(context.Background(), hsmkeys.Options{Store: store, Pair: s.pair, Checkpoint: &shown})
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// rotate rotates a key and returns a file under the new version.
func rotate(t *testing.T, k *hsmkeys.Keyring, name, plain string) []byte {
	t.Helper()
	if _, err := k.Rotate(context.Background(), name, ""); err != nil {
		t.Fatal(err)
	}
	return encrypt(t, k, name, []byte(plain))
}

// decrypts expects all files to decrypt, each to the name that it has in the map.
func decrypts(t *testing.T, k *hsmkeys.Keyring, files map[string][]byte) {
	t.Helper()
	for plain, file := range files {
		if got, err := decrypt(k, file); err != nil || string(got) != plain {
			t.Errorf("file %q: %q, %v", plain, got, err)
		}
	}
}

// wantErr expects an error, which is one of integrity.
func wantErr(t *testing.T, what string, err, want error) {
	t.Helper()
	if !errors.Is(err, want) || !errors.Is(err, blob.ErrIntegrity) {
		t.Errorf("%s: %v, want %v", what, err, want)
	}
}
