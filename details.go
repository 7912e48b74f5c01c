package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Details are what an owner may say of a key.
type Details struct {
	Description string    // at most [ledger.MaxDescription] bytes of UTF-8 that print
	Expires     time.Time // the key encrypts nothing after it; the zero time: never
	RotateEvery int       // days after which a version is to be replaced; 0: no rule
}

// ErrDetails is the error for a description or a date that a key cannot have.
var ErrDetails = errors.New("a key cannot have that")

// check returns an [ErrDetails] unless a key can have the details. A date in the past would be a
// mistake: what is not to encrypt any more is deactivated.
func (d Details) check(now time.Time) error {
	switch {
	case d.Description != "" && blob.ValidReason(d.Description) != nil:
		return fmt.Errorf("the description %w: %w", blob.ValidReason(d.Description), ErrDetails)
	case !d.Expires.IsZero() && !d.Expires.After(now):
		return fmt.Errorf("the date of expiry, %s, is in the past: %w", d.Expires.UTC().Format(time.RFC3339), ErrDetails)
	case d.Expires.Year() > 9999:
		return fmt.Errorf("the date of expiry is after the year 9999: %w", ErrDetails)
	case d.RotateEvery < 0 || d.RotateEvery > MaxRotateEvery:
		return fmt.Errorf("rotation is every %d days, not 1 to %d: %w", d.RotateEvery, MaxRotateEvery, ErrDetails)
	}
	return nil
}

// MaxRotateEvery is the longest time after which a key is to be rotated, 100 years in days.
const MaxRotateEvery = 36525

// set sets the details in an entry.
func (d Details) set(e *ledger.Entry) {
	e.Description, e.RotateEvery = d.Description, d.RotateEvery
	if e.Expires = d.Expires; !e.Expires.IsZero() {
		e.Expires = e.Expires.UTC().Truncate(time.Second)
	}
}

// A NewDetails changes the details of a key. What is nil stays.
type NewDetails struct {
	Description *string
	Expires     *time.Time
	RotateEvery *int
}

// Describe changes the details of keys, all versions of each.
func (k *Keyring) Describe(ctx context.Context, names []string, d NewDetails, reason string) iter.Seq[Result] {
	return k.changeAll(ctx, ledger.Describe.String(), "describe a key", reason, refsTo(names), inFile, func(ctx context.Context, ref Ref) (Result, error) {
		return k.describeResult(ctx, ref.Name, d, reason)
	})
}

func (k *Keyring) describeResult(ctx context.Context, name string, d NewDetails, reason string) (Result, error) {
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return Result{}, err
	}
	details := d.onto(e)
	if d.Expires == nil {
		details.Expires = time.Time{} // one that has passed may stay
	}
	if err := details.check(time.Now()); err != nil {
		return Result{}, fmt.Errorf("key %q: %w", name, err)
	}
	versions, err := k.chosen(ctx, e, false)
	if err != nil {
		return Result{}, err
	}
	after := e
	d.onto(e).set(&after)
	r := Result{Entry: k.lister().entry(after, versions[0])}
	if len(detailChanges(&e, &after, reason)) > 0 {
		edit := detailsEdit(name, d, reason)
		r.Done, r.edit = true, &edit
	}
	return r, nil
}

// onto returns the details of an entry, with what is changed.
func (d NewDetails) onto(e ledger.Entry) Details {
	all := Details{e.Description, e.Expires, e.RotateEvery}
	if d.Description != nil {
		all.Description = *d.Description
	}
	if d.Expires != nil {
		all.Expires = *d.Expires
	}
	if d.RotateEvery != nil {
		all.RotateEvery = *d.RotateEvery
	}
	return all
}

func detailsEdit(name string, d NewDetails, reason string) ledger.Edit {
	return ledger.Edit{Name: name, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), _ int, _ time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil {
			return ledger.Update{}, nil, errStaleEntry
		}
		e := *old
		d.onto(e).set(&e)
		return ledger.Update{Entry: e}, detailChanges(old, &e, reason), nil
	}}
}

// detailChanges returns what is recorded about a change of details.
func detailChanges(old, e *ledger.Entry, reason string) (changes []ledger.Change) {
	if old.Description != e.Description {
		changes = append(changes, ledger.Change{Op: ledger.Describe, Name: e.Name, Reason: reason})
	}
	if !old.Expires.Equal(e.Expires) || old.RotateEvery != e.RotateEvery {
		changes = append(changes, ledger.Change{Op: ledger.SetDates, Name: e.Name, Reason: reason})
	}
	return changes
}

// due returns when the current version of a key is to be rotated or, if that is earlier, when the key
// expires; the zero time if neither is ever.
func due(e ledger.Entry, current ledger.Version) time.Time {
	at := e.Expires
	if e.RotateEvery > 0 {
		if rotate := current.Created.AddDate(0, 0, e.RotateEvery); at.IsZero() || rotate.Before(at) {
			at = rotate
		}
	}
	return at
}

// RotationDue reports whether the current version of a key is older than it is to become, so that the
// key is to be rotated.
func (e Entry) RotationDue(now time.Time) bool {
	return e.Current && e.RotateEvery > 0 && !now.Before(e.Created.AddDate(0, 0, e.RotateEvery))
}
