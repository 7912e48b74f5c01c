package dir

import (
	"context"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/blob"
)

func key(name string, version, revision int) string {
	return blob.KeyPath(name, version, revision, [32]byte{})
}

// object returns the path of which key makes the part up to the digest.
func object(start string) string { return start + "." + strings.Repeat("0", 64) + ".cms" }

var members = blob.MembersPath([32]byte{})

func newStore(t testing.TB) (*Store, string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), "store")
	d, err := Create(at)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.Close() })
	return d, at
}

func mustPut(t testing.TB, s blob.Store, path, data string) {
	t.Helper()
	if err := s.Put(context.Background(), path, []byte(data)); err != nil {
		t.Fatal(err)
	}
}

func wantObject(t testing.TB, s blob.Store, path, data string) {
	t.Helper()
	if got, err := s.Get(context.Background(), path); err != nil || string(got) != data {
		t.Errorf("%s holds %.40q, %v; want %.40q", path, got, err, data)
	}
}

func wantListed(t testing.TB, s blob.Store, prefix string, want ...string) {
	t.Helper()
	var got []string
	for path, err := range s.List(context.Background(), prefix) {
		if err != nil {
			t.Error(err)
		}
		got = append(got, path)
	}
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("list of %q is %q, want %q", prefix, got, want)
	}
}

// wantFiles checks every file that is there, not only objects.
func wantFiles(t testing.TB, at string, want ...string) {
	t.Helper()
	var got []string
	err := filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		if rel, _ := filepath.Rel(at, p); err == nil && !e.IsDir() {
			got = append(got, filepath.ToSlash(rel))
		}
		return err
	})
	if err != nil || !slices.Equal(got, want) {
		t.Errorf("store has %q, %v; want %q", got, err, want)
	}
}

func wantNoTemporaryFiles(t *testing.T, at string) {
	t.Helper()
	filepath.WalkDir(at, func(p string, e fs.DirEntry, err error) error {
		if err != nil || strings.HasPrefix(e.Name(), temporaryPrefix) {
			t.Errorf("left over: %s, %v", p, err)
		}
		return nil
	})
}
