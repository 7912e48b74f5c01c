package hsmkeys

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// errStaleEntry is for a key that somebody else has changed since it was read: what was to
// be done to it is done again.
var errStaleEntry = errors.New("the key was changed meanwhile")

// isStale reports whether what was to be done has to be done again, as others have changed
// the key, or the members that it was wrapped to.
func isStale(err error) bool { return errors.Is(err, errStaleEntry) || errors.Is(err, ledger.ErrList) }

// maxRaces is how often one key is begun again because somebody else was faster: of eight
// who change it all the time, each is the fastest once in eight times.
const maxRaces = 128

// recording puts the edits of many goroutines into one checkpoint: while one checkpoint is
// made, the edits that come wait for the next.
type recording struct {
	one sync.Mutex // makes a checkpoint

	mu    sync.Mutex
	queue []*recorded
}

// A recorded is an edit, and once it is done what became of it.
type recorded struct {
	edit  ledger.Edit
	where place
	err   error
}

// recordEdit records one edit, in a checkpoint of its own or in one with those of others.
// It is durable, and pinned, when recordEdit returns nil.
func (k *Keyring) recordEdit(ctx context.Context, edit ledger.Edit, where place) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &recorded{edit: edit, where: where}
	k.recording.mu.Lock()
	k.recording.queue = append(k.recording.queue, r)
	k.recording.mu.Unlock()
	k.recording.one.Lock()
	defer k.recording.one.Unlock()
	k.recording.mu.Lock()
	queue := k.recording.queue
	k.recording.queue = nil
	k.recording.mu.Unlock()
	k.recordAll(ctx, queue) // none, where another one has taken this edit along
	return r.err
}

// recordMany records edits that were collected, in one checkpoint.
func (k *Keyring) recordMany(ctx context.Context, all []*recorded) {
	k.recording.one.Lock()
	defer k.recording.one.Unlock()
	k.recordAll(ctx, all)
}

// recordAll is for who holds recording.one. Others may wait for the outcome, so it does not
// end with ctx.
func (k *Keyring) recordAll(ctx context.Context, all []*recorded) {
	if len(all) == 0 {
		return
	}
	var p ledger.Proposal
	where := inFile
	for _, r := range all {
		p.Edits = append(p.Edits, r.edit)
		where = max(where, r.where)
	}
	errs, err := k.commit(context.WithoutCancel(ctx), p, where)
	for i, r := range all {
		if r.err = err; len(errs) > i && errs[i] != nil {
			r.err = errs[i]
		}
	}
}

// recordOther records what is not the edit of a key.
func (k *Keyring) recordOther(ctx context.Context, p ledger.Proposal, where place) error {
	k.recording.one.Lock()
	defer k.recording.one.Unlock()
	_, err := k.commit(ctx, p, where)
	return err
}

// commit makes a checkpoint, and pins it. It returns the errors of the edits, and that of
// the whole.
func (k *Keyring) commit(ctx context.Context, p ledger.Proposal, where place) ([]error, error) {
	p.Ready = k.storing.wait
	next, errs, err := k.view().Commit(ctx, p, k.signs(), time.Now(), nonce(k.pair))
	if err != nil {
		return nil, err
	}
	k.moveTo(next)
	if err := k.keepPin(ctx, where); err != nil {
		return errs, withFacts(fmt.Errorf("checkpoint %d is recorded: %w", next.At().Number, err), &Recorded{err})
	}
	return errs, nil
}

func (k *Keyring) moveTo(head *ledger.Ledger) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if head.At().Number > k.head.At().Number {
		k.head = head
	}
}

// refresh looks for a newer head, and pins it.
func (k *Keyring) refresh(ctx context.Context) error {
	if s := k.known(); s.Older != nil || len(s.Recoveries) > 0 {
		return nil // it stays where it is
	}
	was := k.view()
	next, err := was.Refresh(ctx, false)
	if recovered := (*ledger.Unaccepted)(nil); errors.As(err, &recovered) {
		k.setRecoveries(recovered.Recoveries)
		return nil
	}
	if err != nil {
		return err
	}
	moved := next.At() != was.At()
	if moved {
		k.moveTo(next)
	}
	if _, ok := k.members().Member(string(k.self)); !ok && k.pair != nil { // also if an earlier call has moved
		return k.notNamed(k.self)
	}
	if !moved {
		return nil
	}
	return k.accept(ctx, inFile)
}

// known returns what is known of the state of the keyring.
func (k *Keyring) known() State {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.state
}

func (k *Keyring) setRecoveries(all []ledger.RecoveryEvent) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.state.Recoveries = all
}

// again does something to one key until nobody else is faster, a bounded number of times.
func again[T any](ctx context.Context, k *Keyring, do func() (T, error)) (T, error) {
	for range maxRaces {
		done, err := do()
		if !isStale(err) {
			return done, err
		}
		if err := k.refresh(ctx); err != nil {
			return done, err
		}
	}
	var none T
	return none, fmt.Errorf("%w, %d times: %w", errStaleEntry, maxRaces, ledger.ErrRace)
}

// version is what the state says of a blob: a version of a key, as of a checkpoint.
func (k *Keyring) version(b *blob.Blob, list int) ledger.Version {
	d := b.Descriptor()
	return ledger.Version{
		Number: d.Version, Revision: d.Revision, KeyID: d.KeyID, Blob: b.Digest(), List: list,
		Algorithm: b.Algorithm(), Purpose: d.Purpose, KeySize: b.KeySize(),
		Derived: isDerived(b), Imported: d.Imported, Status: ledger.Active, Created: d.Created,
	}
}

// creates is the edit that makes a key of its first version.
func creates(name string, v ledger.Version) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old != nil {
			return ledger.Update{}, nil, blob.ErrExists
		}
		v.Changed, v.ChangedAt = number, at
		e := ledger.Entry{Name: name, Current: v.Number}
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: ledger.Create, Name: name, Version: v.Number}}, nil
	}}
}

// rotates is the edit that adds a version, if last is still the highest.
func rotates(name string, last int, v ledger.Version) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, _ func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil || highest(*old) != last {
			return ledger.Update{}, nil, errStaleEntry
		}
		v.Changed, v.ChangedAt = number, at
		e := *old
		e.Current = v.Number
		return ledger.Update{Entry: e, Set: []ledger.Version{v}}, []ledger.Change{{Op: ledger.Rotate, Name: name, Version: v.Number}}, nil
	}}
}

// replaces is the edit that puts another blob of the same key in the place of one.
func replaces(op ledger.Op, name string, source [32]byte, v ledger.Version) ledger.Edit {
	return ledger.Edit{Name: name, List: v.List, Apply: func(old *ledger.Entry, get func(int) (ledger.Version, bool, error), number int, at time.Time) (ledger.Update, []ledger.Change, error) {
		if old == nil {
			return ledger.Update{}, nil, errStaleEntry
		}
		was, ok, err := get(v.Number)
		if err != nil {
			return ledger.Update{}, nil, err
		}
		if !ok || was.Blob != source {
			return ledger.Update{}, nil, errStaleEntry
		}
		was.Revision, was.Blob, was.List, was.Changed, was.ChangedAt = v.Revision, v.Blob, v.List, number, at
		return ledger.Update{Entry: *old, Set: []ledger.Version{was}}, []ledger.Change{{Op: op, Name: name, Version: v.Number}}, nil
	}}
}

// highest returns the number of the newest version of a key.
func highest(e ledger.Entry) int { return e.Versions[len(e.Versions)-1].Number }
