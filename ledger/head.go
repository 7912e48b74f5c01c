package ledger

import (
	"context"
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

const slotsPerThousand = 1000

// maxListings bounds how often slots are listed anew, because others fill them meanwhile.
const maxListings = 16

// head returns the number of the newest checkpoint: the last slot before the first one
// from number on that is empty. The slot of number itself is not looked at.
//
// The rest of that thousand is looked at too, and by a writer the next: a slot that is
// filled there is an [ErrIncomplete].
func (r *objects) head(ctx context.Context, number int, write bool) (int, error) {
	for range maxListings {
		if !write { // most often there is nothing new, and the next slot shows that
			if there, err := r.filled(ctx, number+1); err != nil || !there {
				return number, err
			}
		}
		last, beyond, err := r.run(ctx, number, write)
		if err != nil {
			return 0, err
		}
		// A list may lag, or contain the later of two slots filled during it but not the
		// earlier.
		next, err := r.probe(ctx, last)
		if err != nil {
			return 0, err
		}
		switch {
		case next > last:
			number = next
		case beyond > 0:
			return 0, fmt.Errorf("checkpoint %d is missing, number %d is there: %w", last+1, beyond, ErrIncomplete)
		default:
			return last, nil
		}
	}
	return 0, fmt.Errorf("look for the newest checkpoint, after number %d: %w", number, ErrRace)
}

// run returns the last of the slots after number without a gap, and one beyond the gap
// that is filled, or 0.
func (r *objects) run(ctx context.Context, number int, write bool) (last, beyond int, err error) {
	for last = number; ; {
		from := last
		there, err := r.slots(ctx, min(last+1, blob.MaxNumber))
		if err != nil {
			return 0, 0, err
		}
		for there[last+1] {
			last++
		}
		if last > from && (last+1)%slotsPerThousand == 0 && last < blob.MaxNumber {
			continue // the thousand is full
		}
		if write && last+1+slotsPerThousand <= blob.MaxNumber {
			after, err := r.slots(ctx, last+1+slotsPerThousand)
			if err != nil {
				return 0, 0, err
			}
			for n := range after {
				there[n] = true
			}
		}
		for n := range there {
			if n > last+1 && (beyond == 0 || n < beyond) {
				beyond = n
			}
		}
		return last, beyond, nil
	}
}

// probe returns the last filled slot before the first empty one after number. It looks at most 1,000 slots ahead.
func (r *objects) probe(ctx context.Context, number int) (int, error) {
	for range slotsPerThousand {
		there, err := r.filled(ctx, number+1)
		if err != nil {
			return 0, err
		}
		if !there {
			break
		}
		number++
	}
	return number, nil
}

func (r *objects) filled(ctx context.Context, number int) (bool, error) {
	if number > blob.MaxNumber {
		return false, nil
	}
	_, err := r.store.Get(ctx, blob.SlotPath(number))
	if errors.Is(err, blob.ErrNotFound) {
		return false, nil
	}
	if err != nil {
		return false, inCheckpoint(number, err)
	}
	return true, nil
}
