package ledger

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A draft is a checkpoint that is to be signed.
type draft struct {
	trie    Trie
	packs   []Pack // of the nodes that are new
	changes []Change
	list    *blob.MemberList // that it introduces, or nil
	now     time.Time
}

// draft returns what a proposal makes of the ledger, and the errors of its edits; nil where
// it changes nothing.
func (l *Ledger) draft(ctx context.Context, p Proposal, now time.Time) (*draft, []error, error) {
	d := &draft{trie: l.Trie(), changes: slices.Clone(p.Notes), now: now}
	updates, errs := d.edit(ctx, l, p.Edits)
	if err := ctx.Err(); err != nil {
		return nil, errs, err
	}
	var err error
	if len(updates) > 0 {
		if d.trie, d.packs, err = d.trie.Update(ctx, l.source, updates); err != nil {
			return nil, errs, err
		}
	}
	if p.Compact {
		if err := d.compact(ctx, l); err != nil {
			return nil, errs, err
		}
	}
	if p.List != nil {
		if d.list, err = l.nextList(p.List, now); err != nil {
			return nil, errs, err
		}
	}
	if len(d.changes) == 0 && d.list == nil && !p.Fresh {
		return nil, errs, nil
	}
	return d, errs, nil
}

// compact writes all nodes anew, unless the checkpoint before has done so.
func (d *draft) compact(ctx context.Context, l *Ledger) error {
	before, err := newObjects(l.store).changes(ctx, l.head.Checkpoint)
	if err != nil {
		return err
	}
	if compacts(before) && len(d.changes) == 0 {
		return nil
	}
	var packs []Pack
	trie, err := d.trie.Repack(ctx, withPacks(l.source, d.packs), func(p Pack) error {
		packs = append(packs, p)
		return nil
	})
	if err != nil {
		return err
	}
	d.trie, d.packs = trie, packs
	d.changes = append(d.changes, Change{Op: Compact})
	return nil
}

func (l *Ledger) nextList(edit func(*Ledger) (*blob.MemberList, error), now time.Time) (*blob.MemberList, error) {
	list, err := edit(l)
	if err != nil || list == nil {
		return nil, err
	}
	next := *list
	next.KeyringID, next.Number = l.ID(), l.head.List.Number+1
	if len(next.Approvals) == 0 { // or else what was approved has a time
		next.Created = now
	}
	next.Previous = bytes.Clone(l.head.List.Digest[:])
	if next.Recovery != nil {
		r := *next.Recovery
		r.List = next.Number
		next.Recovery = &r
	}
	return &next, nil
}

// An attempt is a signed checkpoint, and all that it refers to.
type attempt struct {
	*stored
	before, after ledgerState
	objects       []object // in the store before the slot is filled
}

// sign signs the draft as the next checkpoint after a state, and checks it as all others
// will: nobody can record what they would refuse.
func (d *draft) sign(ctx context.Context, s ledgerState, src Source, signer blob.Signer, nonce Nonce) (*attempt, error) {
	c, step, err := d.step(s)
	if err != nil {
		return nil, inCheckpoint(s.At.Number+1, err)
	}
	if c.Nonce, err = nonce(); err != nil {
		return nil, fmt.Errorf("checkpoint %d: random bytes: %w", c.Number, err)
	}
	v, err := blob.SignCheckpoint(c, signer, d.now)
	if err != nil {
		return nil, err
	}
	step.Source = withPacks(src, d.packs)
	return d.attempt(ctx, s, step, v.Bytes())
}

// step returns the checkpoint, but for its nonce, and what it refers to.
func (d *draft) step(s ledgerState) (c blob.Checkpoint, step transition, err error) {
	c = blob.Checkpoint{
		KeyringID: s.Keyring, Number: s.At.Number + 1, Created: d.created(), List: s.ListRef,
		Root: d.trie.Root, RootAt: d.trie.At, Keys: d.trie.Keys,
	}
	record, log := Record{Changes: d.changes}, s.log
	if s.At.Number > 0 {
		c.Previous = s.At.Digest[:]
		log, record.Log = s.log.add(s.At.Digest)
	}
	c.Log = log.hash()
	if step.Changes, err = MarshalRecord(record); err != nil {
		return c, step, err
	}
	c.Changes = sha256.Sum256(step.Changes)
	if d.list == nil {
		return c, step, nil
	}
	if step.Members, err = blob.MarshalMembers(*d.list); err != nil {
		return c, step, err
	}
	c.KeyringID = d.list.KeyringID
	c.List = blob.ListRef{Number: d.list.Number, Digest: sha256.Sum256(step.Members), Introduced: c.Number}
	return c, step, nil
}

// created is the time of the checkpoint, as it will be read back.
func (d *draft) created() time.Time { return d.now.UTC().Truncate(time.Second) }

func (d *draft) attempt(ctx context.Context, s ledgerState, step transition, der []byte) (*attempt, error) {
	c, err := parseStored(der)
	if err != nil {
		return nil, err
	}
	step.Checkpoint = c.unverified
	after, err := s.apply(ctx, step)
	if err != nil {
		return nil, fmt.Errorf("new %w", err)
	}
	a := &attempt{stored: c, before: s, after: after, objects: []object{
		{blob.ChangesPath(c.Changes), step.Changes},
		{blob.CheckpointPath(c.at.Digest), der},
	}}
	if d.list != nil {
		a.objects = append(a.objects, object{blob.MembersPath(c.List.Digest), step.Members})
	}
	for _, p := range d.packs {
		a.objects = append(a.objects, object{blob.PackPath(p.ID), p.Data})
	}
	return a, nil
}

// withPacks returns a source that has the nodes of packs that are not in the store yet.
func withPacks(src Source, packs []Pack) Source {
	if len(packs) == 0 {
		return src
	}
	m := packSource{src, map[blob.PackID][]byte{}}
	for _, p := range packs {
		m.packs[p.ID] = p.Data
	}
	return m
}

type packSource struct {
	Source
	packs map[blob.PackID][]byte
}

func (s packSource) forget() { forget(s.Source) }

func (s packSource) Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error) {
	data, ok := s.packs[at.Pack]
	if !ok {
		return s.Source.Node(ctx, digest, at)
	}
	if at.Offset < 0 || at.Length < 0 || at.Offset > len(data) || at.Length > len(data)-at.Offset {
		return nil, fmt.Errorf("node at %d of pack %x: %w", at.Offset, at.Pack, blob.ErrShort)
	}
	return data[at.Offset : at.Offset+at.Length], nil
}
