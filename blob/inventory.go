package blob

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
)

// An Inventoried is one line of an inventory: a key blob that stays valid when
// the member who signed it has left.
//
// An inventory is text as sha256sum(1) writes and checks it, so that whoever
// has the store can check it without this program:
//
//	cd store && sha256sum -c inventory/<digest>.sha256
//
// It is cut into parts of at most [MaxSize] bytes. Parts are not signed: each
// is named by its SHA-256, and a list of members, which is signed, has these.
type Inventoried struct {
	Path   string   // of a key blob, as [KeyPath] gives it
	Digest [32]byte // SHA-256 of the blob
}

// MaxInventoryParts is the highest number of parts of an inventory. Their
// digests leave room in a list of members for 64 certificates of 1800 bytes;
// with names of 40 bytes they are enough for eight million blobs.
const MaxInventoryParts = 4096

const (
	inventoryPrefix = "inventory/"
	inventorySuffix = ".sha256"

	// The second blank would be '*' for a file that was read as binary, which on
	// POSIX is the same. Here there is one form.
	inventoryGap = "  "
)

// line gives the line of sha256sum(1). Paths of key blobs have none of the
// characters that it would escape.
func (i Inventoried) line() string {
	return hex.EncodeToString(i.Digest[:]) + inventoryGap + i.Path + "\n"
}

// MarshalInventory sorts by path, in the order of bytes, and gives the parts of
// the inventory, each of at most [MaxSize] bytes. No blobs make no parts. A
// path that is not one of a key blob is an [ErrName]; the same path twice, and
// more than [MaxInventoryParts] parts, are errors too.
func MarshalInventory(all []Inventoried) (parts [][]byte, err error) {
	all = slices.SortedFunc(slices.Values(all), func(a, b Inventoried) int { return strings.Compare(a.Path, b.Path) })
	for i, blob := range all {
		if _, _, _, ok := ParseKeyPath(blob.Path); !ok {
			return nil, fmt.Errorf("inventory: %w: %q is not the path of a key blob", ErrName, shorten(blob.Path))
		}
		if i > 0 && blob.Path == all[i-1].Path {
			return nil, fmt.Errorf("inventory: %s is there twice", blob.Path)
		}
		line := blob.line()
		if n := len(parts); n == 0 || len(parts[n-1])+len(line) > MaxSize {
			parts = append(parts, nil)
		}
		last := &parts[len(parts)-1]
		*last = append(*last, line...)
	}
	if len(parts) > MaxInventoryParts {
		return nil, fmt.Errorf("%w: inventory of %d parts, at most %d are allowed", ErrTooLarge, len(parts), MaxInventoryParts)
	}
	return parts, nil
}

// ParseInventory reads a part of an inventory, which must be exactly what
// [MarshalInventory] makes: at least one line, paths ascending in the order of
// bytes. The error is an [ErrMalformed] or [ErrTooLarge]. The caller compares
// the digest first, and that paths ascend from one part to the next.
func ParseInventory(part []byte) ([]Inventoried, error) {
	if len(part) > MaxSize {
		return nil, fmt.Errorf("%w: inventory of %d bytes, at most %d are allowed", ErrTooLarge, len(part), MaxSize)
	}
	if len(part) == 0 {
		return nil, fmt.Errorf("%w: inventory without a line", ErrMalformed)
	}
	all := make([]Inventoried, 0, bytes.Count(part, []byte("\n")))
	for text := string(part); text != ""; {
		line, rest, ended := strings.Cut(text, "\n")
		sum, path, _ := strings.Cut(line, inventoryGap)
		digest, ok := parseHex(sum, digestSize)
		if !ended || !ok {
			return nil, fmt.Errorf("%w: inventory, line %d is not one of sha256sum", ErrMalformed, len(all)+1)
		}
		if _, _, _, ok := ParseKeyPath(path); !ok {
			return nil, fmt.Errorf("%w: inventory, line %d: %q is not the path of a key blob", ErrMalformed, len(all)+1, shorten(path))
		}
		if n := len(all); n > 0 && path <= all[n-1].Path {
			return nil, fmt.Errorf("%w: inventory, line %d: %s does not come after the path before it", ErrMalformed, n+1, path)
		}
		all = append(all, Inventoried{path, [digestSize]byte(digest)})
		text = rest
	}
	return all, nil
}

// InventoryPath gives the path of the part of an inventory with this SHA-256:
// inventory/<64 lower-case hexadecimal digits>.sha256.
func InventoryPath(digest [32]byte) string {
	return fmt.Sprintf("%s%x%s", inventoryPrefix, digest, inventorySuffix)
}

// ParseInventoryPath is the inverse of [InventoryPath].
func ParseInventoryPath(path string) (digest [32]byte, ok bool) {
	rest, isInventory := strings.CutPrefix(path, inventoryPrefix)
	rest, isObject := strings.CutSuffix(rest, inventorySuffix)
	sum, isDigest := parseHex(rest, len(digest))
	if !isInventory || !isObject || !isDigest {
		return digest, false
	}
	return [32]byte(sum), true
}

// parseHex reads size bytes in the one way they are written: lower case.
func parseHex(s string, size int) ([]byte, bool) {
	if len(s) != hex.EncodedLen(size) || s != strings.ToLower(s) {
		return nil, false
	}
	out, err := hex.DecodeString(s)
	return out, err == nil
}
