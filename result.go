package hsmkeys

import (
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Result is the outcome for one version of a key in an operation on many.
type Result struct {
	Ref   Ref
	Entry Entry // as it is now; empty when Err is not nil
	Done  bool  // something was done; false if nothing had to be
	Err   error

	// Unproven are the holders of the new blob who are not known to be able to open it, see
	// [Keyring.Unproven].
	Unproven []Holder

	blob *blob.Blob   // that was made, or looked at
	edit *ledger.Edit // that is to be recorded before the result is true

	merged *Merged // what a merge does
}

// storedResult returns the result for a blob that was made and stored.
func (k *Keyring) storedResult(b *blob.Blob) Result {
	e := k.entry(b)
	return Result{Entry: e, Done: true, Unproven: k.Unproven(e), blob: b}
}
