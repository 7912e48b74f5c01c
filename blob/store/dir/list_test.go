package dir

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Of a directory with more entries than are read at once nothing is left out or listed
// twice.
func TestListsOfLargeDirectories(t *testing.T) {
	t.Parallel()
	s, root := newStore(t)
	want := map[string]bool{}
	write := func(path string) {
		want[path] = true
		at := filepath.Join(root, path)
		if err := errors.Join(os.MkdirAll(filepath.Dir(at), 0o700), os.WriteFile(at, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10*readAtOnce + 100 {
		write(key("big", 1, i+1))
		write(key(fmt.Sprintf("big/k%d", i), 1, 1))
		write(key(fmt.Sprintf("k%d", i), 1, 1))
	}
	for path, err := range s.List(context.Background(), "keys/") {
		if err != nil || !want[path] {
			t.Fatalf("%q was not stored or was listed twice, %v", path, err)
		}
		delete(want, path)
	}
	if len(want) > 0 {
		t.Errorf("%d of the objects were left out", len(want))
	}
}

// The deepest name has a directory for each other byte.
func TestAListOfTheDeepestName(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	deepest := key(strings.Repeat("a/", 63)+"b", 1, 1)
	mustPut(t, s, deepest, "x")
	wantListed(t, s, "", deepest)
}
