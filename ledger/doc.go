// Package ledger keeps the state of a keyring: its members, and the versions and status of
// each key. It needs no token, and a program that only reads or verifies a keyring needs
// nothing else. There is no clock, no file and no random number in it: the caller brings
// the time, the nonces and a [blob.Store], which is never trusted.
//
// # Checkpoints
//
// The state is a map from names to entries ([Entry]), kept as a hash trie ([Trie]). Its root
// stands in a checkpoint ([blob.Checkpoint]), which is numbered, names the list of members in
// force, is chained to the one before it, and is signed by an owner. What the newest checkpoint,
// the head, reaches by digests is genuine and current; what it does not reach is not.
//
// Each checkpoint names a record ([Record]) of what it has changed. The state machine, in state.go,
// takes a step from one checkpoint to the next if the signer was entitled to it
// and the record is exactly what has changed, each change as its operation allows.
//
// # Trust
//
// [Init] makes a keyring, and [Open] opens one at its head, from a point that the caller has
// accepted before ([Pin]). A reader checks the head's signature, the way by which each list of
// members came into force since, and, by a proof in the log of all checkpoints (RFC 9162 §2.1.3),
// that the head descends from that point. A writer checks every step.
//
// Errors carry the facts: a [Rollback] the accepted state and the one found, a [Fork] both
// sides, a [RecoveryEvent] the authority, the lost owner and the new one.
//
// # Changes
//
// [Ledger.Commit] makes the next checkpoint. Only the slot of its number is where writers
// meet: the store lets one of them fill it, and the others make their changes anew on top of
// that. So an [Edit] is a function of the entry that it finds.
//
// # Form of nodes
//
// The path of an entry is the SHA-256 of its name, four bits for each level. A subtree of at
// most 32 entries is a leaf; a larger one is an inner node with 16 children. The digest of a
// node is the SHA-256 of "hsmkeys node 1", a zero byte, and the node up to its hints. So the
// root depends on the entries alone, and not on the order of updates or on where nodes lie.
//
// Numbers are the varints of package encoding/binary, unsigned unless said otherwise;
// texts follow their length; times are signed numbers of seconds. Whatever is read is encoded
// again and must be the same.
//
//	leaf   1, number of entries 1..32, entries sorted by path
//	inner  2, 16 times the number of keys and, unless it is 0, the digest of the child
//	block  3, number of versions before the block, and, unless it is 0, the digest of the
//	       block before; versions
//	patch  4, digest of the base, number of replaced children 1..5, and for each its index
//	       and what an inner node has of it
//
//	entry     name; a byte of flags; former names, description, expiry (since 2026),
//	          days between rotations, number and digest of older versions, each if its flag
//	          1, 2, 4, 8, 16 is set; current version; versions
//	versions  number of versions, and each: number, less the number of the version before;
//	          revision; list of members; algorithm (byte); purpose + 8*status + 64 if derived
//	          + 128 if imported (byte); key size (byte), if the algorithm is a legacy one;
//	          key id (16 bytes); digest of the blob (32 bytes); creation (since 2026);
//	          checkpoint of the last change; its time (since the creation)
//
// Behind all that a node has a hint for each digest of another node, in the same order: 0 if
// that is in the same pack, i if it is in the i-th pack that hints of this node name, or one
// more than these and the 16 bytes of a PackID; its offset; its length. Hints are not hashed.
//
// A version of an entry goes into a block when 16 newer ones are in the entry. The block of
// index i has the versions 256i to 256i+255 of the list of all, counted from 0.
//
// A pack has nodes one after the other, each behind those that it refers to. A patch is what
// an inner node is stored as when few of its children differ from another one's, which is
// stored whole; its digest is that of the inner node.
//
// # Form of records
//
//	number of reasons, the reasons in the order of bytes; number of changes, and each: name,
//	operation (byte), version, index of the reason from 1, or 0; number of hashes, the hashes
//
// Changes are sorted by name, version and operation.
package ledger
