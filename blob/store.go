package blob

import (
	"context"
	"fmt"
	"iter"
	"strconv"
	"strings"
)

// A Store keeps immutable objects under paths. It is never trusted: whatever
// it returns goes through [Parse], [ParseMembers] or [ParseProof] and their
// Verify, or is compared with a digest that was signed and goes through
// [ParseInventory].
//
// Paths are those that [KeyPath], [MembersPath], [InventoryPath] and
// [ProofPath] make; any other is an [ErrName]. Implementations are safe for
// concurrent use, by several processes too.
type Store interface {
	// Put stores data, at most [MaxSize] bytes, under a path where nothing is
	// yet, whole or not at all. When it returns nil the object is durable.
	// When there is an object already, the error is an [ErrExists], and that
	// object is durable; of several writers exactly one gets nil. Where something
	// is that no Put has made, it is an [ErrOccupied]. After any other error the
	// object may be there, whole, as when a disk fails in the end.
	Put(ctx context.Context, path string, data []byte) error

	// Get gives an object, or an [ErrNotFound], [ErrTooLarge] or [ErrOccupied].
	Get(ctx context.Context, path string) ([]byte, error)

	// List gives the paths that start with prefix. The blobs of one name come
	// together, before those of names below it; there is no other order. It
	// gives whole objects, and the paths of objects at which Get gives another
	// error than ErrNotFound: what is there must not be passed over. An error
	// with a path is about the directory there, of which all or a part is missing
	// in the list, which goes on; one with an empty path ends it. What is stored
	// meanwhile may be in it or not.
	//
	// "keys/" lists all key blobs, "keyring/" all lists of members,
	// "inventory/" all parts of inventories, "proofs/" all proofs, and
	// "keys/payroll/" the blobs of payroll, followed by those of names below
	// it, such as payroll/eu. What ProofPath gives, up to the number, lists the
	// proofs of one holder. Only directories that can hold a match are read.
	List(ctx context.Context, prefix string) iter.Seq2[string, error]
}

const (
	keysPrefix    = "keys/"
	membersPrefix = "keyring/"
	proofsPrefix  = "proofs/"
	suffix        = ".cms"
)

// KeyPath gives the path of a key blob: keys/<name>/<version>.<revision>.cms.
func KeyPath(name string, version, revision int) string {
	return fmt.Sprintf("%s%s/%d.%d%s", keysPrefix, name, version, revision, suffix)
}

// ParseKeyPath is the inverse of [KeyPath]. It accepts valid names, and
// numbers of 1..MaxNumber without leading zeros, and nothing else.
func ParseKeyPath(path string) (name string, version, revision int, ok bool) {
	rest, isKey := strings.CutPrefix(path, keysPrefix)
	rest, isObject := strings.CutSuffix(rest, suffix)
	slash := strings.LastIndexByte(rest, '/')
	if !isKey || !isObject || slash < 0 || ValidName(rest[:slash]) != nil {
		return "", 0, 0, false
	}
	v, r, _ := strings.Cut(rest[slash+1:], ".")
	version, okVersion := parseNumber(v)
	revision, okRevision := parseNumber(r)
	if !okVersion || !okRevision {
		return "", 0, 0, false
	}
	return rest[:slash], version, revision, true
}

// MembersPath gives the path of a list of members: keyring/<number>.cms.
func MembersPath(number int) string {
	return fmt.Sprintf("%s%d%s", membersPrefix, number, suffix)
}

// ParseMembersPath is the inverse of [MembersPath].
func ParseMembersPath(path string) (number int, ok bool) {
	rest, isMembers := strings.CutPrefix(path, membersPrefix)
	rest, isObject := strings.CutSuffix(rest, suffix)
	if !isMembers || !isObject {
		return 0, false
	}
	return parseNumber(rest)
}

// parseNumber reads a number in the one way it is written.
func parseNumber(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != s {
		return 0, false
	}
	return int(n), true
}

// validPath says whether path can be that of an object.
func validPath(path string) error {
	if _, _, _, ok := ParseKeyPath(path); ok {
		return nil
	}
	if _, ok := ParseMembersPath(path); ok {
		return nil
	}
	if _, _, ok := ParseProofPath(path); ok {
		return nil
	}
	return fmt.Errorf("%w: object path %q", ErrName, shorten(path))
}
