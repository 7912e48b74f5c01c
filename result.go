package hsmkeys

import (
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// A Result is the outcome for one version of a key in an operation on many.
type Result struct {
	Ref   Ref
	Entry Entry // as it is now; empty when Err is not nil
	Done  bool  // something was done; false if nothing had to be

	Versions []int // whose status was set, ascending
	Err      error

	// Unproven are the holders of the new blob who are not known to be able to open it, see
	// [Keyring.Unproven].
	Unproven []Holder

	blob *blob.Blob   // that was made, or looked at
	edit *ledger.Edit // that is to be recorded before the result is true

	order int // of the key among those that were asked for

	merged *Merged // what a merge does
	intent *intent // whose outcome is to be recorded
}

// failed returns the result if the operation failed in the end.
func (r Result) failed(err error) Result {
	return Result{Ref: r.Ref, Err: err, order: r.order, intent: r.intent}
}

// at returns the result for the key with that number among those that were asked for.
func (r Result) at(order int) Result {
	r.order = order
	return r
}

// preparedResult returns the result for a blob that was made and stored, with the edit that records it,
// and what the state will say of the key then.
func (k *Keyring) preparedResult(after ledger.Entry, v ledger.Version, b *blob.Blob, edit ledger.Edit) Result {
	r := k.storedResult(b)
	v.ChangedAt = time.Now().UTC().Truncate(time.Second) // the clock of the checkpoint
	r.Entry.setState(after, v)
	r.Ref, r.edit = Ref{after.Name, v.Number}, &edit
	return r
}

// storedResult returns the result for a blob that was made and stored.
func (k *Keyring) storedResult(b *blob.Blob) Result {
	e := k.entry(b)
	return Result{Entry: e, Done: true, Unproven: k.Unproven(e), blob: b}
}
