package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Rename gives a key another name. All that is known of it stays, files that name it by the old name
// still open, and the old name is free. It refuses with [blob.ErrExists] if a key has the new name,
// also one that was destroyed, and with [ErrRenames] if the key was renamed [ledger.MaxEarlier] times.
func (k *Keyring) Rename(ctx context.Context, name, to, reason string) (Entry, error) {
	use := Use{Operation: ledger.Rename.String(), Key: name, To: to}
	err := k.refresh(ctx)
	if err == nil {
		err = k.mustOwn("rename a key")
	}
	if err == nil {
		err = errors.Join(blob.ValidNewName(to), validReason(reason))
	}
	if err != nil {
		return Entry{}, k.recorder.refused(ctx, use, reason, err)
	}
	return retryStale(ctx, k, use, reason, func(ctx context.Context) (Entry, error) { return k.renameOnce(ctx, name, to, reason) })
}

// ErrRenames is the error for a key that has had too many names.
var ErrRenames = fmt.Errorf("it has had %d other names, and can have no more", ledger.MaxEarlier)

func (k *Keyring) renameOnce(ctx context.Context, name, to, reason string) (Entry, error) {
	failed := func(err error) error { return fmt.Errorf("rename key %q to %q: %w", name, to, err) }
	e, err := k.entryNamed(ctx, name)
	if err != nil {
		return Entry{}, err
	}
	if len(e.Earlier) == ledger.MaxEarlier {
		return Entry{}, failed(ErrRenames)
	}
	switch _, err := k.view().Entry(ctx, to); {
	case err == nil:
		return Entry{}, withFacts(failed(blob.ErrExists), ErrNewNameTaken)
	case !errors.Is(err, blob.ErrNotFound) || errors.Is(err, blob.ErrIntegrity):
		return Entry{}, err
	}
	versions, err := k.chosen(ctx, e, false)
	if err != nil {
		return Entry{}, err
	}
	edit := recorded{edit: renameEdit(e, to, reason), where: onToken, intent: intentOf(ctx)}
	// In a checkpoint of its own: if somebody takes the name meanwhile, the whole proposal fails.
	k.recordMany(ctx, []*recorded{&edit})
	if isStale(edit.err) {
		return Entry{}, edit.err
	}
	if edit.err != nil {
		return Entry{}, failed(edit.err)
	}
	e.Name, e.Earlier = to, append(slices.Clone(e.Earlier), name)
	return k.lister().entry(e, versions[0]), nil
}

// renameEdit returns the edit that renames a key, if it has changed its name by nothing else since.
func renameEdit(was ledger.Entry, to, reason string) ledger.Edit {
	return ledger.Edit{Name: was.Name, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), _ int, _ time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil || !slices.Equal(old.Earlier, was.Earlier) {
			return ledger.Update{}, nil, errStaleEntry
		}
		e := *old
		e.Name, e.Earlier = to, append(slices.Clone(old.Earlier), old.Name)
		return ledger.Update{Entry: e, From: old.Name}, []ledger.Change{{Op: ledger.Rename, Name: to, Reason: reason}}, nil
	}}
}
