package blob

// A PackID names a pack of trie nodes: the first 16 bytes of its SHA-256.
type PackID [16]byte

// A Hint is where a node lies: Length bytes from Offset of a pack. It is never
// hashed and never trusted: what is read there counts only if its digest is the
// one that was wanted.
type Hint struct {
	Pack           PackID
	Offset, Length int
}
