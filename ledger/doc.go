// Package ledger keeps the state of a keyring: who its members are and what there is of
// each key, as numbered, signed and chained checkpoints in a store that is never trusted.
package ledger
