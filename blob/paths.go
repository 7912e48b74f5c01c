package blob

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
)

// What the paths of each kind of object begin with, for [Store.List].
const (
	KeysPrefix        = "keys/"
	MembersPrefix     = "members/"
	CheckpointsPrefix = "checkpoints/"
	SlotsPrefix       = "state/"
	PacksPrefix       = "packs/"
	ChangesPrefix     = "changes/"
	ProofsPrefix      = "proofs/"
	QuorumsPrefix     = "quorums/"
	RehearsalsPrefix  = "rehearsals/"
)

const (
	cmsSuffix     = ".cms"
	membersSuffix = ".der"
	packSuffix    = ".pack"
	changesSuffix = ".changes"
)

// MaxPack is the size limit of a pack and of a record of changes, in bytes.
const MaxPack = 16 << 20

// slotsPerDirectory is how many slots share a directory, so that a reader can list
// the slots near the head and no others.
const slotsPerDirectory = 1000

// KeyPath returns the path of a key blob:
// keys/<name>/<version>.<revision>.<64 lower-case hexadecimal digits of its SHA-256>.cms.
func KeyPath(name string, version, revision int, digest [32]byte) string {
	return fmt.Sprintf("%s%s/%d.%d.%x%s", KeysPrefix, name, version, revision, digest, cmsSuffix)
}

// ParseKeyPath is the inverse of [KeyPath]. It accepts valid names, and numbers of
// 1..MaxNumber without leading zeros.
func ParseKeyPath(path string) (name string, version, revision int, digest [32]byte, ok bool) {
	rest, isKey := cutPath(path, KeysPrefix, cmsSuffix)
	slash := strings.LastIndexByte(rest, '/')
	if !isKey || slash < 0 || ValidName(rest[:slash]) != nil {
		return "", 0, 0, digest, false
	}
	v, after, _ := strings.Cut(rest[slash+1:], ".")
	r, sum, _ := strings.Cut(after, ".")
	version, okVersion := parseNumber(v)
	revision, okRevision := parseNumber(r)
	if !okVersion || !okRevision || !parseHex(digest[:], sum) {
		return "", 0, 0, [32]byte{}, false
	}
	return rest[:slash], version, revision, digest, true
}

// MembersPath returns the path of a list of members:
// members/<64 lower-case hexadecimal digits of its SHA-256>.der.
func MembersPath(digest [32]byte) string {
	return fmt.Sprintf("%s%x%s", MembersPrefix, digest, membersSuffix)
}

// ParseMembersPath is the inverse of [MembersPath].
func ParseMembersPath(path string) (digest [32]byte, ok bool) {
	return parseDigestPath(path, MembersPrefix, membersSuffix)
}

// CheckpointPath returns the path of a checkpoint:
// checkpoints/<64 lower-case hexadecimal digits of its SHA-256>.cms.
func CheckpointPath(digest [32]byte) string {
	return fmt.Sprintf("%s%x%s", CheckpointsPrefix, digest, cmsSuffix)
}

// ParseCheckpointPath is the inverse of [CheckpointPath].
func ParseCheckpointPath(path string) (digest [32]byte, ok bool) {
	return parseDigestPath(path, CheckpointsPrefix, cmsSuffix)
}

// SlotPath returns the path of the slot of a checkpoint, 1..MaxNumber: the number in
// ten digits, with a slash before the last three, as state/0001234/567.
func SlotPath(number int) string {
	return fmt.Sprintf("%s%07d/%03d", SlotsPrefix, number/slotsPerDirectory, number%slotsPerDirectory)
}

// ParseSlotPath is the inverse of [SlotPath].
func ParseSlotPath(path string) (number int, ok bool) {
	rest, isSlot := strings.CutPrefix(path, SlotsPrefix)
	dir, slot, _ := strings.Cut(rest, "/")
	thousands, okDir := parseDigits(dir, 7)
	ones, okSlot := parseDigits(slot, 3)
	// In 64 bits, as ten digits are more than an int may hold.
	n := int64(thousands)*slotsPerDirectory + int64(ones)
	if !isSlot || !okDir || !okSlot || n < 1 || n > MaxNumber {
		return 0, false
	}
	return int(n), true
}

// PackPath returns the path of a pack: packs/<32 lower-case hexadecimal digits>.pack.
func PackPath(id PackID) string { return fmt.Sprintf("%s%x%s", PacksPrefix, id, packSuffix) }

// ParsePackPath is the inverse of [PackPath].
func ParsePackPath(path string) (id PackID, ok bool) {
	rest, isPack := cutPath(path, PacksPrefix, packSuffix)
	if !isPack || !parseHex(id[:], rest) {
		return PackID{}, false
	}
	return id, true
}

// ChangesPath returns the path of a record of changes:
// changes/<64 lower-case hexadecimal digits of its SHA-256>.changes.
func ChangesPath(digest [32]byte) string {
	return fmt.Sprintf("%s%x%s", ChangesPrefix, digest, changesSuffix)
}

// ParseChangesPath is the inverse of [ChangesPath].
func ParseChangesPath(path string) (digest [32]byte, ok bool) {
	return parseDigestPath(path, ChangesPrefix, changesSuffix)
}

// ProofPath returns the path of a proof: proofs/<40 lower-case hexadecimal digits of
// the signer's [keyspec.SubjectKeyID]>/<64 of the proof's SHA-256>.cms.
func ProofPath(keyID []byte, digest [32]byte) string {
	return fmt.Sprintf("%s%x/%x%s", ProofsPrefix, keyID, digest, cmsSuffix)
}

// ParseProofPath is the inverse of [ProofPath]. It accepts identifiers of 20 bytes.
func ParseProofPath(path string) (keyID []byte, digest [32]byte, ok bool) {
	return parseSignedPath(path, ProofsPrefix)
}

// RehearsalPath returns the path of a rehearsal: rehearsals/, and then as [ProofPath].
func RehearsalPath(keyID []byte, digest [32]byte) string {
	return fmt.Sprintf("%s%x/%x%s", RehearsalsPrefix, keyID, digest, cmsSuffix)
}

// ParseRehearsalPath is the inverse of [RehearsalPath].
func ParseRehearsalPath(path string) (keyID []byte, digest [32]byte, ok bool) {
	return parseSignedPath(path, RehearsalsPrefix)
}

// parseSignedPath parses the path of an object that lies under the key that has signed it.
func parseSignedPath(path, prefix string) (keyID []byte, digest [32]byte, ok bool) {
	rest, is := cutPath(path, prefix, cmsSuffix)
	signer, sum, _ := strings.Cut(rest, "/")
	keyID = make([]byte, keyIDSize)
	if !is || !parseHex(keyID, signer) || !parseHex(digest[:], sum) {
		return nil, [32]byte{}, false
	}
	return keyID, digest, true
}

// SharesPath returns the path of the [Shares] of a quorum: quorums/<64 lower-case hexadecimal digits of
// their SHA-256>.cms.
func SharesPath(digest [32]byte) string {
	return fmt.Sprintf("%s%x%s", QuorumsPrefix, digest, cmsSuffix)
}

// ParseSharesPath is the inverse of [SharesPath].
func ParseSharesPath(path string) (digest [32]byte, ok bool) {
	return parseDigestPath(path, QuorumsPrefix, cmsSuffix)
}

// ValidPath reports whether path can be that of an object. The error is an [ErrName].
func ValidPath(path string) error {
	if MaxSizeOf(path) == 0 {
		return fmt.Errorf("%w: object path %q", ErrName, shorten(path))
	}
	return nil
}

// MaxSizeOf returns how many bytes the object at path may have: [MaxPack] for packs and
// records of changes, [MaxSize] for all others, and 0 for what is no path of an object.
func MaxSizeOf(path string) int {
	kind, _, _ := strings.Cut(path, "/")
	most, ok := MaxSize, false
	switch kind + "/" {
	case KeysPrefix:
		_, _, _, _, ok = ParseKeyPath(path)
	case MembersPrefix:
		_, ok = ParseMembersPath(path)
	case CheckpointsPrefix:
		_, ok = ParseCheckpointPath(path)
	case SlotsPrefix:
		_, ok = ParseSlotPath(path)
	case ProofsPrefix:
		_, _, ok = ParseProofPath(path)
	case RehearsalsPrefix:
		_, _, ok = ParseRehearsalPath(path)
	case QuorumsPrefix:
		_, ok = ParseSharesPath(path)
	case PacksPrefix:
		_, ok = ParsePackPath(path)
		most = MaxPack
	case ChangesPrefix:
		_, ok = ParseChangesPath(path)
		most = MaxPack
	}
	if !ok {
		return 0
	}
	return most
}

// HasDigest reports whether the SHA-256 of data is the one in path, or for a pack, starts with its
// PackID. It is false for slots, whose paths contain no digest.
func HasDigest(path string, data []byte) bool {
	sum := sha256.Sum256(data)
	switch kind, _, _ := strings.Cut(path, "/"); kind + "/" {
	case KeysPrefix:
		_, _, _, digest, ok := ParseKeyPath(path)
		return ok && digest == sum
	case MembersPrefix:
		digest, ok := ParseMembersPath(path)
		return ok && digest == sum
	case CheckpointsPrefix:
		digest, ok := ParseCheckpointPath(path)
		return ok && digest == sum
	case ChangesPrefix:
		digest, ok := ParseChangesPath(path)
		return ok && digest == sum
	case ProofsPrefix:
		_, digest, ok := ParseProofPath(path)
		return ok && digest == sum
	case RehearsalsPrefix:
		_, digest, ok := ParseRehearsalPath(path)
		return ok && digest == sum
	case QuorumsPrefix:
		digest, ok := ParseSharesPath(path)
		return ok && digest == sum
	case PacksPrefix:
		id, ok := ParsePackPath(path)
		return ok && id == PackID(sum[:len(id)])
	}
	return false
}

// ValidDir reports whether dir, without a slash at its end, can be part of the path of
// an object: nothing else need be looked at to find all objects.
func ValidDir(dir string) bool {
	kind, below, deep := strings.Cut(dir, "/")
	switch kind + "/" {
	case KeysPrefix:
		return !deep || ValidName(below) == nil
	case SlotsPrefix:
		thousands, ok := parseDigits(below, 7)
		return !deep || ok && thousands <= MaxNumber/slotsPerDirectory
	case ProofsPrefix, RehearsalsPrefix:
		return !deep || parseHex(make([]byte, keyIDSize), below)
	case MembersPrefix, CheckpointsPrefix, PacksPrefix, ChangesPrefix, QuorumsPrefix:
		return !deep
	}
	return false
}

// cutPath returns what is between a prefix and a suffix.
func cutPath(path, prefix, suffix string) (string, bool) {
	rest, hasPrefix := strings.CutPrefix(path, prefix)
	rest, hasSuffix := strings.CutSuffix(rest, suffix)
	return rest, hasPrefix && hasSuffix
}

func parseDigestPath(path, prefix, suffix string) (digest [32]byte, ok bool) {
	rest, isPath := cutPath(path, prefix, suffix)
	if !isPath || !parseHex(digest[:], rest) {
		return [32]byte{}, false
	}
	return digest, true
}

// parseNumber parses a number of 1..MaxNumber without leading zeros.
func parseNumber(s string) (int, bool) {
	n, err := strconv.ParseInt(s, 10, 32)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != s {
		return 0, false
	}
	return int(n), true
}

// parseDigits reads a number of exactly width decimal digits, at most nine.
func parseDigits(s string, width int) (n int, ok bool) {
	if len(s) != width {
		return 0, false
	}
	for _, digit := range []byte(s) {
		if digit < '0' || digit > '9' {
			return 0, false
		}
		n = 10*n + int(digit-'0')
	}
	return n, true
}

// parseHex fills dst with the bytes of s, lower-case hexadecimal digits. It is called for every
// path of every list, so it allocates nothing.
func parseHex(dst []byte, s string) bool {
	if len(s) != hex.EncodedLen(len(dst)) {
		return false
	}
	for i := range dst {
		high, low := hexDigit(s[2*i]), hexDigit(s[2*i+1])
		if high|low > 15 {
			return false
		}
		dst[i] = high<<4 | low
	}
	return true
}

// hexDigit returns the value of a digit, or 255.
func hexDigit(c byte) byte {
	switch {
	case '0' <= c && c <= '9':
		return c - '0'
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10
	}
	return 255
}
