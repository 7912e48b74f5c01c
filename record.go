package hsmkeys

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hsmkeys/hsmkeys/ledger"
)

// recording puts the edits of many goroutines into one checkpoint: while one checkpoint is
// made, the edits that come wait for the next.
type recording struct {
	one sync.Mutex // makes a checkpoint

	mu    sync.Mutex
	queue []*recorded
}

// A recorded is an edit, with its outcome once it is recorded.
type recorded struct {
	edit   ledger.Edit
	where  pinPlaces
	intent *intent
	err    error
}

// recordEdit records one edit, in a checkpoint of its own or in one with those of others.
// It is durable, and pinned, when recordEdit returns nil.
func (k *Keyring) recordEdit(ctx context.Context, edit ledger.Edit, where pinPlaces) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	r := &recorded{edit: edit, where: where, intent: intentOf(ctx)}
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

// recordAll records edits in one checkpoint. The caller must hold recording.one. Others may wait
// for the outcome, so it does not end with ctx.
func (k *Keyring) recordAll(ctx context.Context, all []*recorded) {
	if len(all) == 0 {
		return
	}
	var p ledger.Proposal
	where := inFile
	begun := all[:0:0]
	for _, r := range all {
		if r.err = k.recorder.begin(r.intent, Use{}); r.err != nil {
			continue
		}
		begun = append(begun, r)
		p.Edits = append(p.Edits, r.edit)
		where = max(where, r.where)
	}
	if len(begun) == 0 {
		return
	}
	at, errs, err := k.commit(context.WithoutCancel(ctx), p, where)
	for i, r := range begun {
		if r.err = err; len(errs) > i && errs[i] != nil {
			r.err = errs[i]
			continue
		}
		r.intent.made(at)
	}
}

// recordOther records what is not the edit of a key.
func (k *Keyring) recordOther(ctx context.Context, p ledger.Proposal, where pinPlaces) error {
	k.recording.one.Lock()
	defer k.recording.one.Unlock()
	i := intentOf(ctx)
	if err := k.recorder.begin(i, Use{}); err != nil {
		return err
	}
	at, _, err := k.commit(ctx, p, where)
	i.made(at)
	return err
}

// commit makes a checkpoint, and pins it. It returns the checkpoint, the errors of the edits, and that
// of the whole.
func (k *Keyring) commit(ctx context.Context, p ledger.Proposal, where pinPlaces) (ledger.Point, []error, error) {
	p.Ready = k.storing.wait
	next, errs, err := k.view().Commit(ctx, p, k.signs(), time.Now(), nonce(k.pair))
	if err != nil {
		return ledger.Point{}, nil, err
	}
	k.moveTo(next)
	if err := k.keepPin(ctx, where); err != nil {
		return next.At(), errs, withFacts(fmt.Errorf("checkpoint %d is recorded: %w", next.At().Number, err), &Recorded{err})
	}
	return next.At(), errs, nil
}
