package blob

import (
	"errors"
	"io/fs"
	"path"
	"strings"
	"testing"
)

const (
	sumText  = "ab000000000000000000000000000000000000000000000000000000000000cd"
	skiText  = "000000000000000000000000000000000000000f"
	packText = "ab0000000000000000000000000000cd"
)

var sumOfText = [32]byte{0xab, 31: 0xcd}

func TestPaths(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		got, want string
		most      int
	}{
		{KeyPath("payroll/eu", 12, MaxNumber, sumOfText), "keys/payroll/eu/12.2147483647." + sumText + ".cms", 256 << 10},
		{MembersPath(sumOfText), "members/" + sumText + ".der", 256 << 10},
		{CheckpointPath(sumOfText), "checkpoints/" + sumText + ".cms", 256 << 10},
		{SlotPath(1), "state/0000000/001", 256 << 10},
		{SlotPath(1000), "state/0000001/000", 256 << 10},
		{SlotPath(1234567), "state/0001234/567", 256 << 10},
		{SlotPath(MaxNumber), "state/2147483/647", 256 << 10},
		{PackPath(PackID{0xab, 15: 0xcd}), "packs/" + packText + ".pack", 16 << 20},
		{ChangesPath(sumOfText), "changes/" + sumText + ".changes", 16 << 20},
		{ProofPath(unhex(skiText), sumOfText), "proofs/" + skiText + "/" + sumText + ".cms", 256 << 10},
		{RehearsalPath(unhex(skiText), sumOfText), "rehearsals/" + skiText + "/" + sumText + ".cms", 256 << 10},
		{SharesPath(sumOfText), "quorums/" + sumText + ".cms", 256 << 10},
	} {
		if test.got != test.want {
			t.Errorf("path is %q, want %q", test.got, test.want)
		}
		if err := ValidPath(test.want); err != nil {
			t.Error(err)
		}
		if got := MaxSizeOf(test.want); got != test.most {
			t.Errorf("%s: at most %d bytes, want %d", test.want, got, test.most)
		}
		if again := pathAgain(test.want); again != test.want {
			t.Errorf("%q comes back as %q", test.want, again)
		}
	}
}

// pathAgain reads a path and writes it again; "" if it is none.
func pathAgain(path string) (again string) {
	read := func(path string, ok bool) {
		if ok && again != "" {
			again = "two kinds of path: " + again + ", " + path
		} else if ok {
			again = path
		}
	}
	name, version, revision, digest, ok := ParseKeyPath(path)
	read(KeyPath(name, version, revision, digest), ok)
	digest, ok = ParseMembersPath(path)
	read(MembersPath(digest), ok)
	digest, ok = ParseCheckpointPath(path)
	read(CheckpointPath(digest), ok)
	number, ok := ParseSlotPath(path)
	read(SlotPath(number), ok)
	id, ok := ParsePackPath(path)
	read(PackPath(id), ok)
	digest, ok = ParseChangesPath(path)
	read(ChangesPath(digest), ok)
	keyID, digest, ok := ParseProofPath(path)
	read(ProofPath(keyID, digest), ok)
	keyID, digest, ok = ParseRehearsalPath(path)
	read(RehearsalPath(keyID, digest), ok)
	digest, ok = ParseSharesPath(path)
	read(SharesPath(digest), ok)
	return again
}

func TestWhatIsNoPath(t *testing.T) {
	t.Parallel()
	key := func(name string) string { return "keys/" + name + "." + sumText + ".cms" }
	proof := func(in string) string { return "proofs/" + in + "/" + sumText + ".cms" }
	for _, path := range []string{
		"", "/", ".", "x", "x/" + sumText + ".cms", "keys", "keys/", "keys/payroll", "keys/payroll/",
		key("1.1"), key("/1.1"), key("payroll/1"), key("payroll/01.1"), key("payroll/1.01"), key("payroll/0.1"), key("payroll/1.0"),
		key("payroll/+1.1"), key("payroll/-1.1"), key("payroll/1.1.1"), key("payroll/1."), key("payroll/.1"), key("payroll/1_0.1"), key("payroll/ 1.1"),
		key("payroll/2147483648.1"), key("payroll/1.2147483648"), key("payroll/99999999999999999999.1"), key("payroll/1e3.1"), key("payroll/0x1.1"),
		key("Payroll/1.1"), key("../keys/payroll/1.1"), key("payroll/../1.1"), key("payroll/.tmp-1.1"), key("x.cms/1.1"), key("a//1.1"),
		"/" + key("payroll/1.1"), "./" + key("payroll/1.1"), key("payroll/1.1") + "/", key("payroll/1.1") + ".cms", strings.ToUpper(key("payroll/1.1")),
		"keys/payroll/1.1.cms", "keys/payroll/1.1.." + sumText + ".cms", "keys/payroll/1.1." + sumText, "keys/payroll/1.1." + sumText + ".CMS",
		"keys/payroll/1.1." + sumText[1:] + ".cms", "keys/payroll/1.1." + sumText + "0.cms", "keys/payroll/1.1." + strings.ToUpper(sumText) + ".cms",
		KeyPath("", 1, 1, sumOfText), KeyPath("a", 0, 1, sumOfText), KeyPath("a", 1, -1, sumOfText),
		"members", "members/", "members/.der", "members/1.der", "members/" + sumText, "members/" + sumText + ".cms", "members/" + sumText + ".DER",
		"members/" + sumText + ".der/", "members/" + sumText[1:] + ".der", "members/" + sumText[2:] + ".der", "members/" + sumText + "00.der",
		"members/" + strings.ToUpper(sumText) + ".der", "members/g" + sumText[1:] + ".der", "members/0x" + sumText[2:] + ".der", "members//" + sumText + ".der",
		"members/../" + sumText + ".der", "/members/" + sumText + ".der", "members/a/" + sumText + ".der", "keys/" + sumText + ".der",
		"checkpoints/" + sumText, "checkpoints/" + sumText + ".der", "checkpoints/1.cms", "checkpoints/" + sumText[2:] + ".cms",
		"state", "state/", "state/0000000", "state/0000000/", "state/0000000/000", "state/0000000/1", "state/0000000/01", "state/0000000/0001", "state/000000/001",
		"state/00000000/001", "state/0000000/001.cms", "state/0000000/+01", "state/-000000/001", "state/000000a/001", "state/0000000/00a", "state/0000000//001",
		"state/2147483/648", "state/2147484/000", "state/9999999/999", "state/0000000/001/", "/state/0000000/001", "state/../0000000/001",
		SlotPath(0), SlotPath(-1), SlotPath(-1001),
		"packs/" + packText, "packs/" + packText + ".cms", "packs/" + packText[2:] + ".pack", "packs/" + sumText + ".pack", "packs/" + strings.ToUpper(packText) + ".pack",
		"changes/" + sumText, "changes/" + sumText + ".cms", "changes/" + packText + ".changes", "changes/a/" + sumText + ".changes",
		"proofs", "proofs/", "proofs/" + sumText + ".cms", "proofs/" + skiText, "proofs/" + skiText + "/", "proofs/" + skiText + "/1.cms", "proofs/" + skiText + "/" + sumText,
		proof(skiText + "/x"), proof(skiText + "/"), proof(skiText + "/.."), proof(skiText[1:]), proof(skiText[2:]), proof(skiText + "0"), proof(sumText), proof("g" + skiText[1:]),
		proof(strings.ToUpper(skiText)), proof("../" + skiText), "/" + proof(skiText), proof(skiText) + "/",
		ProofPath(nil, sumOfText), ProofPath(make([]byte, 19), sumOfText),
		"inventory/" + sumText + ".sha256", "keyring/1.cms",
	} {
		if again := pathAgain(path); again != "" {
			t.Errorf("%q is read as %q", path, again)
		}
		if err := ValidPath(path); !errors.Is(err, ErrName) {
			t.Errorf("%q: %v", path, err)
		}
		if n := MaxSizeOf(path); n != 0 {
			t.Errorf("%q may have %d bytes", path, n)
		}
	}
}

func TestDirectoriesOfObjects(t *testing.T) {
	t.Parallel()
	for dir, want := range map[string]bool{
		"keys": true, "keys/payroll": true, "keys/payroll/eu": true, "keys/": false, "keys/Payroll": false, "keys/.git": false, "keys/a.cms": false, "keys/a//b": false,
		"members": true, "members/a": false, "checkpoints": true, "checkpoints/a": false, "packs": true, "packs/a": false, "changes": true, "changes/a": false,
		"state": true, "state/0000000": true, "state/2147483": true, "state/2147484": false, "state/000000": false, "state/0000000/a": false, "state/": false,
		"proofs": true, "proofs/" + skiText: true, "proofs/" + sumText: false, "proofs/" + skiText + "/a": false, "proofs/": false,
		"": false, ".": false, "..": false, "/": false, "x": false, "/keys": false, "keys/../keys": false,
	} {
		if got := ValidDir(dir); got != want {
			t.Errorf("%q: %v, want %v", dir, got, want)
		}
	}
}

func TestSizesAndRanges(t *testing.T) {
	t.Parallel()
	slot, pack := SlotPath(1), PackPath(PackID{})
	for _, test := range []struct {
		path string
		size int64
		want error
	}{
		{slot, 0, nil}, {slot, MaxSize, nil}, {slot, MaxSize + 1, ErrTooLarge}, {slot, 1<<63 - 1, ErrTooLarge},
		{pack, MaxPack, nil}, {pack, MaxPack + 1, ErrTooLarge}, {"x", 0, ErrName},
	} {
		if err := ValidSize(test.path, test.size); !errors.Is(err, test.want) {
			t.Errorf("%d bytes at %s: %v, want %v", test.size, test.path, err, test.want)
		}
	}
	for _, test := range []struct {
		path   string
		offset int64
		length int
		want   error
	}{
		{slot, 0, 1, nil}, {slot, 0, MaxSize, nil}, {slot, MaxSize - 1, 1, nil}, {slot, MaxSize, 1, ErrShort}, {slot, 1, MaxSize, ErrShort},
		{slot, 0, 0, ErrShort}, {slot, 0, -1, ErrShort}, {slot, -1, 1, ErrShort}, {slot, -1, 2, ErrShort},
		{slot, 1<<63 - 1, 1<<31 - 1, ErrShort}, {slot, 1, 1<<31 - 1, ErrShort}, {slot, -1 << 63, 1, ErrShort},
		{pack, MaxPack - 10, 10, nil}, {pack, MaxPack - 10, 11, ErrShort}, {"x", 0, 1, ErrName},
	} {
		if err := ValidRange(test.path, test.offset, test.length); !errors.Is(err, test.want) {
			t.Errorf("%d bytes from %d of %s: %v, want %v", test.length, test.offset, test.path, err, test.want)
		}
	}
}

// FuzzPaths: each object has one path, of one kind, inside the store, that a list finds.
func FuzzPaths(f *testing.F) {
	f.Fuzz(func(t *testing.T, p string) {
		again := pathAgain(p)
		if valid := ValidPath(p) == nil; valid != (again != "") || valid && again != p {
			t.Errorf("%q is read as %q, valid is %v", p, again, valid)
		}
		if again == "" {
			return
		}
		if !fs.ValidPath(p) || path.Clean(p) != p || strings.ContainsAny(p, "\\:\x00 \n") {
			t.Errorf("%q is a path", p)
		}
		for dir := path.Dir(p); dir != "."; dir = path.Dir(dir) {
			if !ValidDir(dir) {
				t.Errorf("%q is a path that no list finds", p)
			}
		}
	})
}
