package ledger

import (
	"bytes"
	"encoding/hex"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// documented returns the bytes of an example in docs/format.md: of each line, what stands
// before two blanks.
func documented(t *testing.T, name string) []byte {
	t.Helper()
	doc, err := os.ReadFile(filepath.Join("..", "docs", "format.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, ok1 := strings.Cut(string(doc), "<!-- example "+name+" -->\n```\n")
	text, _, ok2 := strings.Cut(rest, "```\n<!-- end of example "+name+" -->\n")
	if !ok1 || !ok2 {
		t.Fatalf("docs/format.md has no example %s", name)
	}
	var all []byte
	for line := range strings.Lines(text) {
		digits, _, _ := strings.Cut(line, "  ")
		b, err := hex.DecodeString(regexp.MustCompile(`\s`).ReplaceAllString(digits, ""))
		if err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		all = append(all, b...)
	}
	return all
}

func TestTheDocumentsLeafIsOne(t *testing.T) {
	t.Parallel()
	n, covered, err := parseNode(documented(t, "leaf"))
	if err != nil {
		t.Fatal(err)
	}
	want := Entry{Name: "payroll", Current: 2, Description: "salaries", Versions: []Version{{
		Number: 2, Revision: 3, List: 2, Algorithm: keyspec.AES256, Purpose: keyspec.WrapKeys, KeySize: 32, Status: Active,
		KeyID: blob.ID(bytes.Repeat([]byte{0x1d}, 16)), Blob: Digest(bytes.Repeat([]byte{0xb1}, 32)),
		Created: time.Date(2026, 3, 14, 15, 9, 26, 0, time.UTC), Changed: 7, ChangedAt: time.Date(2026, 3, 15, 15, 9, 26, 0, time.UTC),
	}}}
	if len(n.items) != 1 {
		t.Fatalf("%d entries", len(n.items))
	}
	if diff := cmp.Diff(want, n.items[0].Entry); diff != "" {
		t.Error(diff)
	}
	leaf := documented(t, "leaf")[:covered]
	if got, want := nodeDigest(leaf), documented(t, "digest of the leaf"); !bytes.Equal(got[:], want) {
		t.Errorf("digest %x, in the document %x", got, want)
	}
	if want := documented(t, "digest of the empty trie"); !bytes.Equal(emptyRoot[:], want) {
		t.Errorf("root of the empty trie %x, in the document %x", emptyRoot, want)
	}
}

func TestTheDocumentsRecordIsOne(t *testing.T) {
	t.Parallel()
	got, err := ParseRecord(documented(t, "record"))
	if err != nil {
		t.Fatal(err)
	}
	want := Record{
		Changes: []Change{{Op: Create, Name: "billing", Version: 1}, {Op: Rotate, Name: "payroll", Version: 2, Reason: "yearly"}},
		Log:     []Digest{Digest(bytes.Repeat([]byte{0x70}, 32))},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
