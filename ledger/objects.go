package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"path"
	"slices"

	"github.com/hsmkeys/hsmkeys/blob"
)

// objects reads the objects of a keyring that are not nodes. What it returns is as its
// digest says, where it is asked for by one, and otherwise not trusted.
type objects struct {
	store blob.Store
	added map[int][]Digest // what checkpoints add to the log, by number; see logReader
}

func newObjects(store blob.Store) *objects { return &objects{store, map[int][]Digest{}} }

// A stored is a checkpoint as it lies in the store, and what it claims.
type stored struct {
	blob.Checkpoint
	at         Point
	unverified *blob.UnverifiedCheckpoint
	verified   *blob.VerifiedCheckpoint // by its own digest: as it lies there
}

func parseStored(der []byte) (*stored, error) {
	u, err := blob.ParseCheckpoint(der)
	if err != nil {
		return nil, err
	}
	v, err := u.VerifyDigest(u.Digest())
	if err != nil {
		return nil, err
	}
	c := v.Checkpoint()
	return &stored{c, Point{c.Number, u.Digest()}, u, v}, nil
}

// slot returns the checkpoint in a slot. None is a [blob.ErrNotFound].
func (r *objects) slot(ctx context.Context, number int) (*stored, error) {
	der, err := r.store.Get(ctx, blob.SlotPath(number))
	if err != nil {
		return nil, inCheckpoint(number, err)
	}
	s, err := parseStored(der)
	if err != nil {
		return nil, inCheckpoint(number, err)
	}
	if s.Number != number {
		return nil, inCheckpoint(number, fmt.Errorf("signed as number %d: %w", s.Number, blob.ErrMisplaced))
	}
	return s, nil
}

// checkpoint returns the checkpoint with a digest, whether it is in its slot or not.
func (r *objects) checkpoint(ctx context.Context, at Point) (*stored, error) {
	der, err := r.byDigest(ctx, at.Digest, blob.CheckpointPath(at.Digest))
	if errors.Is(err, blob.ErrNotFound) {
		if other, err2 := r.byDigest(ctx, at.Digest, blob.SlotPath(at.Number)); err2 == nil {
			der, err = other, nil
		}
	}
	if err != nil {
		return nil, inCheckpoint(at.Number, err)
	}
	s, err := parseStored(der)
	if err == nil && s.Number != at.Number {
		err = fmt.Errorf("signed as number %d: %w", s.Number, blob.ErrMisplaced)
	}
	if err != nil {
		return nil, inCheckpoint(at.Number, err)
	}
	return s, nil
}

// byDigest returns an object that has to have a digest.
func (r *objects) byDigest(ctx context.Context, digest Digest, path string) ([]byte, error) {
	data, err := r.store.Get(ctx, path)
	if err == nil && sha256.Sum256(data) != digest {
		err = fmt.Errorf("%s is not what its name says: %w", path, blob.ErrMisplaced)
	}
	return data, err
}

// changes returns the record of changes of a checkpoint, as it is stored.
func (r *objects) changes(ctx context.Context, c blob.Checkpoint) ([]byte, error) {
	data, err := r.byDigest(ctx, c.Changes, blob.ChangesPath(c.Changes))
	if err != nil {
		return nil, inCheckpoint(c.Number, fmt.Errorf("record of changes: %w", missing(err)))
	}
	return data, nil
}

// step reads what a checkpoint refers to.
func (r *objects) step(ctx context.Context, s *stored, src Source) (transition, error) {
	changes, err := r.changes(ctx, s.Checkpoint)
	if err != nil {
		return transition{}, err
	}
	step := transition{Checkpoint: s.unverified, Changes: changes, Source: src}
	if s.List.Introduced == s.Number {
		step.Members, err = r.members(ctx, s.List.Number, s.List.Digest)
	}
	return step, err
}

func (r *objects) members(ctx context.Context, number int, digest Digest) ([]byte, error) {
	der, err := r.byDigest(ctx, digest, blob.MembersPath(digest))
	if err != nil {
		return nil, fmt.Errorf("list of members %d: %w", number, missing(err))
	}
	return der, nil
}

// lists returns the list of members that a checkpoint names and all before it, each as the
// next one names it by its digest.
func (r *objects) lists(ctx context.Context, c blob.Checkpoint) ([]blob.MemberList, error) {
	var lists []blob.MemberList // the newest first
	for digest, number := c.List.Digest, c.List.Number; number > 0; number-- {
		der, err := r.members(ctx, number, digest)
		if err != nil {
			return nil, err
		}
		l, err := blob.ParseMembers(der)
		if err != nil {
			return nil, fmt.Errorf("list of members %d: %w", number, err)
		}
		if l.Number != number || l.KeyringID != c.KeyringID {
			return nil, fmt.Errorf("list of members %d: it is number %d of keyring %s: %w", number, l.Number, l.KeyringID, blob.ErrMisplaced)
		}
		if err := refuseRehearsal(r.store, l); err != nil {
			return nil, err
		}
		lists = append(lists, l)
		copy(digest[:], l.Previous)
	}
	slices.Reverse(lists)
	return lists, nil
}

// missing makes of an object that is not there an [ErrIncomplete]: something that is there
// refers to it. It is no [blob.ErrNotFound], which would say that there is no such key.
func missing(err error) error {
	if errors.Is(err, blob.ErrNotFound) {
		return fmt.Errorf("%w: %v", ErrIncomplete, err)
	}
	return err
}

// slots returns the numbers of the slots that are there in the thousand of a number.
func (r *objects) slots(ctx context.Context, number int) (map[int]bool, error) {
	there := map[int]bool{}
	for p, err := range r.store.List(ctx, path.Dir(blob.SlotPath(number))+"/") {
		if err != nil {
			return nil, fmt.Errorf("look for checkpoints: %w", err)
		}
		if n, ok := blob.ParseSlotPath(p); ok {
			there[n] = true
		}
	}
	return there, nil
}

type object struct {
	path string
	data []byte
}

// put stores an object under a path that has its digest. One that is there already has to be
// the same: what an attacker has left there would make the checkpoint unreadable.
func (o object) put(ctx context.Context, store blob.Store) error {
	err := store.Put(ctx, o.path, o.data)
	if !errors.Is(err, blob.ErrExists) {
		return err
	}
	there, err := store.Get(ctx, o.path)
	if err == nil && !bytes.Equal(there, o.data) {
		err = fmt.Errorf("%s is not what its name says: %w", o.path, blob.ErrMisplaced)
	}
	return err
}

// next applies the step to a checkpoint.
func (r *objects) next(ctx context.Context, s ledgerState, to Point, src Source) (ledgerState, error) {
	c, err := r.checkpoint(ctx, to)
	if err != nil {
		return s, missing(err)
	}
	if c.previous() != s.At && s.At.Number > 0 {
		return s, &inconsistent{to, s.At}
	}
	step, err := r.step(ctx, c, src)
	if err != nil {
		return s, err
	}
	next, err := s.apply(ctx, step)
	if errors.Is(err, ErrIncomplete) {
		err = fmt.Errorf("%w: %w", ErrCompacted, err)
	}
	return next, err
}
