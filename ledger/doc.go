// Package ledger keeps the state of a keyring: who its members are, and what there is of
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
// Each checkpoint names a record ([Record]) of what it has changed. [State.Apply] is the state
// machine: it takes a step from one checkpoint to the next if the signer was entitled to it
// and the record is exactly what has changed, each change as its operation allows.
//
// # Trust
//
// [Found] makes a keyring, and [Open] opens one at its head, from a point that the caller has
// accepted before ([Pin]). A reader checks the head's signature, the way by which each list of
// members came into force since, and, by a proof in the log of all checkpoints (RFC 9162 §2.1.3),
// that the head descends from that point. A writer checks every step.
//
// The errors have the facts: a [Rollback] what was accepted and what is there, a [Fork] both
// sides, a [RecoveryEvent] who has put whom in the place of whom.
//
// # Changes
//
// [Ledger.Commit] makes the next checkpoint. Only the slot of its number is where writers
// meet: the store lets one of them fill it, and the others make their changes anew on top of
// that. So an [Edit] is a function of the entry that it finds.
package ledger
