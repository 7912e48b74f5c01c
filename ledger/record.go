package ledger

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// maxPuts bounds how often the store is asked to fill the slot of one checkpoint.
const maxPuts = 4

// errLost means that the slot has the checkpoint of somebody else.
var errLost = errors.New("others were faster")

// record stores an attempt: first, side by side, all that it refers to and its copy under
// its digest, then, when ready returns nil, the slot.
func (a *attempt) record(ctx context.Context, store blob.Store, ready func() error) error {
	errs := make(chan error, len(a.objects))
	for _, o := range a.objects {
		go func() { errs <- o.put(ctx, store) }()
	}
	var failed error
	for range a.objects {
		if err := <-errs; err != nil && failed == nil {
			failed = err
		}
	}
	if failed == nil && ready != nil {
		failed = ready()
	}
	if failed != nil {
		return inCheckpoint(a.Number, failed)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return a.fill(ctx, store)
}

// fill puts the checkpoint into its slot: nil once it is durable there, errLost where the
// slot has another. When the store fails, what is in the slot tells whether it has taken
// the checkpoint; until that is known only the same bytes are put again. A bounded number
// of times later it is an [ErrDoubt].
func (a *attempt) fill(ctx context.Context, store blob.Store) error {
	ctx = context.WithoutCancel(ctx) // which would leave it in doubt
	path, der := blob.SlotPath(a.Number), a.verified.Bytes()
	var failed error
	for try := 1; try <= maxPuts; try++ {
		err := store.Put(ctx, path, der)
		if err == nil {
			return nil
		}
		if errors.Is(err, blob.ErrOccupied) { // by what no store has put there
			return inCheckpoint(a.Number, err)
		}
		failed = err
		if errors.Is(err, blob.ErrUnavailable) { // the store has already retried
			try = maxPuts
		}
		there, getErr := store.Get(ctx, path)
		switch {
		case getErr == nil && !bytes.Equal(there, der):
			return errLost
		case getErr == nil && errors.Is(err, blob.ErrExists): // which says that it is durable
			return nil
		}
	}
	return inCheckpoint(a.Number, fmt.Errorf("%w: %w", ErrDoubt, failed))
}
