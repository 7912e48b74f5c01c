package blob

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func digestOf(data []byte) [32]byte { return sha256.Sum256(data) }

// three are blobs of an inventory, not sorted: '-' and '.' come before '/', and
// "10" before "9".
func three() []Inventoried {
	return []Inventoried{
		{KeyPath("payroll", 9, 1), digestOf([]byte("a"))},
		{KeyPath("payroll/eu", 1, 1), digestOf([]byte("b"))},
		{KeyPath("payroll-eu", 1, 1), digestOf([]byte("c"))},
		{KeyPath("payroll", 10, 1), digestOf([]byte("d"))},
	}
}

const threeText = `2e7d2c03a9507ae265ecf5b5356885a53393a2029d241394997265a1a25aefc6  keys/payroll-eu/1.1.cms
18ac3e7343f016890c510e93f935261169d9e3f565436429830faf0934f4f8e4  keys/payroll/10.1.cms
ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb  keys/payroll/9.1.cms
3e23e8160039594a33894f6564e1b1348bbd7a0088d42c4acb73eeaed59c009d  keys/payroll/eu/1.1.cms
`

func TestAnInventoryIsSortedText(t *testing.T) {
	t.Parallel()
	all := three()
	parts, err := MarshalInventory(all)
	if err != nil {
		t.Fatal(err)
	}
	if len(parts) != 1 || string(parts[0]) != threeText {
		t.Errorf("%q", parts)
	}
	if diff := cmp.Diff(three(), all); diff != "" {
		t.Errorf("the argument was changed: %s", diff)
	}
	got, err := ParseInventory([]byte(threeText))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]Inventoried{all[2], all[3], all[0], all[1]}, got); diff != "" {
		t.Error(diff)
	}
	for _, none := range [][]Inventoried{nil, {}} {
		if parts, err := MarshalInventory(none); parts != nil || err != nil {
			t.Errorf("no blobs: %q, %v", parts, err)
		}
	}
}

// Whoever has only the store and coreutils can check it.
func TestSha256sumChecksAnInventory(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	d, at := newDir(t)
	var all []Inventoried
	var stored []string
	for _, path := range []string{KeyPath("payroll", 1, 1), KeyPath("payroll/eu", 1, 1), KeyPath("a_b-c.d", 2147483647, 1), KeyPath("0", 1, 1)} {
		mustPut(t, d, path, "the blob of "+path)
		all = append(all, Inventoried{path, digestOf([]byte("the blob of " + path))})
	}
	check := func(all []Inventoried) (string, error) {
		parts, err := MarshalInventory(all)
		if err != nil || len(parts) != 1 {
			t.Fatal(len(parts), err)
		}
		path := InventoryPath(digestOf(parts[0]))
		stored = append(stored, path)
		if err := d.Put(ctx, path, parts[0]); err != nil {
			t.Fatal(err)
		}
		// --strict fails on a line that it cannot read, which it skips by itself.
		cmd := exec.Command("sha256sum", "--check", "--strict", path)
		cmd.Dir = at
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	want := "keys/0/1.1.cms: OK\nkeys/a_b-c.d/2147483647.1.cms: OK\nkeys/payroll/1.1.cms: OK\nkeys/payroll/eu/1.1.cms: OK\n"
	if out, err := check(all); out != want || err != nil {
		t.Errorf("sha256sum says %q, %v", out, err)
	}
	all[1].Digest[0] ^= 1
	if out, err := check(all); err == nil || !strings.Contains(out, "keys/payroll/eu/1.1.cms: FAILED\n") {
		t.Errorf("sha256sum says of another digest %q, %v", out, err)
	}
	// And what it makes itself is ours.
	cmd := exec.Command("sha256sum", "keys/0/1.1.cms", "keys/payroll/1.1.cms")
	cmd.Dir = at
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ParseInventory(out); err != nil || len(got) != 2 || got[1] != all[0] {
		t.Errorf("%q is read as %v, %v", out, got, err)
	}
	slices.Sort(stored)
	wantListed(t, d, "inventory/", stored...)
}

func TestALargeInventoryComesInParts(t *testing.T) {
	t.Parallel()
	var all []Inventoried
	for i := range 10_000 {
		all = append(all, Inventoried{KeyPath(fmt.Sprintf("%0*d", i%100+5, i), 1, 1), digestOf([]byte{byte(i)})})
	}
	parts, err := MarshalInventory(all)
	if err != nil {
		t.Fatal(err)
	}
	var got []Inventoried
	for i, part := range parts {
		lines, err := ParseInventory(part)
		if err != nil {
			t.Fatalf("part %d: %v", i, err)
		}
		if i+1 < len(parts) && len(part)+len(strings.SplitAfter(string(parts[i+1]), "\n")[0]) <= MaxSize {
			t.Errorf("part %d has %d bytes: there is room for a line more", i, len(part))
		}
		got = append(got, lines...)
	}
	slices.SortFunc(all, func(a, b Inventoried) int { return strings.Compare(a.Path, b.Path) })
	if !slices.Equal(got, all) || len(parts) < 4 {
		t.Errorf("%d blobs in %d parts, want %d", len(got), len(parts), len(all))
	}
}

func TestMarshalInventoryRefuses(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "keys/payroll/1.cms", MembersPath(1), ProofPath(make([]byte, 20), 1), "keys/../1.1.cms", "keys/Payroll/1.1.cms", "keys/a\n/1.1.cms", "keys/a b/1.1.cms", strings.Repeat("x", MaxSize)} {
		parts, err := MarshalInventory(append(three(), Inventoried{Path: path}))
		if parts != nil || !errors.Is(err, ErrName) || strings.Contains(err.Error(), "\n") || len(err.Error()) > 1000 {
			t.Errorf("%.100q: %d parts, %v", path, len(parts), err)
		}
	}
	for _, digest := range [][32]byte{three()[0].Digest, {}} {
		parts, err := MarshalInventory(append(three(), Inventoried{three()[0].Path, digest}))
		if parts != nil || err == nil || !strings.Contains(err.Error(), "keys/payroll/9.1.cms is there twice") {
			t.Errorf("twice: %d parts, %v", len(parts), err)
		}
	}
}

func TestParseInventoryRefuses(t *testing.T) {
	t.Parallel()
	const sum = "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb"
	const line = sum + "  keys/payroll/1.1.cms\n"
	for _, test := range []struct {
		name     string
		text     string
		sentinel error
		part     string
	}{
		{"nothing", "", ErrMalformed, "without a line"},
		{"an empty line", "\n", ErrMalformed, "line 1 is not one of sha256sum"},
		{"an empty line after another", line + "\n", ErrMalformed, "line 2 is not one of sha256sum"},
		{"no end of line", line[:len(line)-1], ErrMalformed, "line 1 is not one of sha256sum"},
		{"a carriage return", strings.Replace(line, "\n", "\r\n", 1), ErrMalformed, "is not the path of a key blob"},
		{"a byte order mark", "\ufeff" + line, ErrMalformed, "line 1 is not one of sha256sum"},
		{"a digest in capitals", strings.ToUpper(sum) + line[64:], ErrMalformed, "line 1 is not one of sha256sum"},
		{"a digest with one capital", strings.Replace(line, "f", "F", 1), ErrMalformed, "line 1 is not one of sha256sum"},
		{"a digest of 31 bytes", line[2:], ErrMalformed, "line 1 is not one of sha256sum"},
		{"a digest of 33 bytes", "00" + line, ErrMalformed, "line 1 is not one of sha256sum"},
		{"a digest that is not hexadecimal", "g" + line[1:], ErrMalformed, "line 1 is not one of sha256sum"},
		{"no digest", line[64:], ErrMalformed, "line 1 is not one of sha256sum"},
		{"one blank", sum + " keys/payroll/1.1.cms\n", ErrMalformed, "line 1 is not one of sha256sum"},
		{"three blanks", sum + "   keys/payroll/1.1.cms\n", ErrMalformed, "is not the path of a key blob"},
		{"a tabulator", sum + "\tkeys/payroll/1.1.cms\n", ErrMalformed, "line 1 is not one of sha256sum"},
		{"the mark of binary", sum + " *keys/payroll/1.1.cms\n", ErrMalformed, "line 1 is not one of sha256sum"},
		{"an escaped line", `\` + line, ErrMalformed, "line 1 is not one of sha256sum"},
		{"a comment", "# our keys\n" + line, ErrMalformed, "line 1 is not one of sha256sum"},
		{"the form of BSD", "SHA256 (keys/payroll/1.1.cms) = " + sum + "\n", ErrMalformed, "line 1 is not one of sha256sum"},
		{"a list of members", sum + "  keyring/1.cms\n", ErrMalformed, `"keyring/1.cms" is not the path of a key blob`},
		{"a file elsewhere", sum + "  /etc/passwd\n", ErrMalformed, "is not the path of a key blob"},
		{"a path that climbs", sum + "  keys/../1.1.cms\n", ErrMalformed, "is not the path of a key blob"},
		{"a path with ./", sum + "  ./keys/payroll/1.1.cms\n", ErrMalformed, "is not the path of a key blob"},
		{"a blank after the path", sum + "  keys/payroll/1.1.cms \n", ErrMalformed, "is not the path of a key blob"},
		{"no path", sum + "  \n", ErrMalformed, "is not the path of a key blob"},
		{"the same line twice", line + line, ErrMalformed, "line 2: keys/payroll/1.1.cms does not come after"},
		{"the same path under another digest", line + "00" + line[2:], ErrMalformed, "line 2: keys/payroll/1.1.cms does not come after"},
		{"paths in descending order", line + sum + "  keys/a/1.1.cms\n", ErrMalformed, "line 2: keys/a/1.1.cms does not come after"},
		{"numbers in the order of numbers", strings.Replace(line, "1.1", "9.1", 1) + strings.Replace(line, "1.1", "10.1", 1), ErrMalformed, "does not come after"},
		{"zeros", string(make([]byte, MaxSize)), ErrMalformed, "line 1 is not one of sha256sum"},
		{"ends of lines", strings.Repeat("\n", MaxSize), ErrMalformed, "line 1 is not one of sha256sum"},
		{"a path as long as the file", sum + "  " + strings.Repeat("x", MaxSize-67) + "\n", ErrMalformed, "xxx…"},
		{"one byte too many", string(make([]byte, MaxSize+1)), ErrTooLarge, "262145 bytes, at most 262144"},
	} {
		t.Run(test.name, func(t *testing.T) {
			all, err := ParseInventory([]byte(test.text))
			if all != nil {
				t.Error("blobs beside the error")
			}
			wantError(t, err, test.sentinel, test.part)
		})
	}
	for n := range len(threeText) {
		if _, err := ParseInventory([]byte(threeText[:n])); (n == 0 || threeText[n-1] != '\n') != isMalformed(err) {
			t.Errorf("cut to %d bytes: %v", n, err)
		}
	}
}

func TestRoundTripsOfInventories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var all []Inventoried
		seen := map[string]bool{}
		for range rapid.IntRange(1, 50).Draw(t, "blobs") {
			path := KeyPath(drawName(t), rapid.IntRange(1, MaxNumber).Draw(t, "version"), rapid.IntRange(1, MaxNumber).Draw(t, "revision"))
			if !seen[path] {
				all = append(all, Inventoried{path, [32]byte(drawBytes(t, "digest", 32))})
			}
			seen[path] = true
		}
		parts, err := MarshalInventory(all)
		if err != nil || len(parts) != 1 {
			t.Fatal(len(parts), err)
		}
		got, err := ParseInventory(parts[0])
		if err != nil {
			t.Fatal(err)
		}
		again, err := MarshalInventory(got)
		if err != nil || len(again) != 1 || !bytes.Equal(again[0], parts[0]) {
			t.Errorf("%q comes back as %q, %v", parts, again, err)
		}
		for _, blob := range all {
			if !slices.Contains(got, blob) {
				t.Errorf("%v is lost", blob)
			}
		}
	})
}
