package hsmkeys

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"iter"
	"maps"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token"
)

// Coverage tells, for each version of each key, who can open it and who has proven
// that. Its JSON form is stable.
type Coverage struct {
	Keyring string        `json:"keyring"`
	List    int           `json:"list"` // number of the list of members
	Time    time.Time     `json:"time"`
	Holders []Stake       `json:"holders"`
	Keys    []KeyCoverage `json:"keys"`
	Lost    int           `json:"lost"` // keys that one single loss would take, or that do not verify

	// PasswordOnly counts the keys that no token has: who forgets the password loses
	// them, and no backup authority can help.
	PasswordOnly int `json:"password_only"`
}

// Stake is what depends on one member.
type Stake struct {
	Holder
	Opens  int       `json:"opens"`           // so many keys
	Proven int       `json:"proven"`          // of these
	Latest time.Time `json:"latest,omitzero"` // proof of these

	// Where none of these is proven, Outdated counts the revisions that were: those before a
	// rewrap, and those of keys that are not looked at.
	Outdated       int       `json:"outdated,omitempty"`
	LatestOutdated time.Time `json:"latest_outdated,omitzero"`

	Alone int `json:"alone"` // keys that nobody else opens: lost with this member
}

// KeyCoverage is one version of a key against the members, in the order of
// Coverage.Holders.
type KeyCoverage struct {
	Name     string `json:"name"`
	Version  int    `json:"version"`
	Revision int    `json:"revision"`
	Cells    []Cell `json:"cells"`
	Lost     bool   `json:"lost"` // with the one member who can open it, or already

	PasswordOnly bool `json:"password_only,omitempty"` // it comes from a password: no member can open it

	Error string `json:"error,omitempty"` // it does not verify, so nobody opens it
}

// Cell is one version of a key against one member.
type Cell struct {
	Opens  bool      `json:"opens"`
	Proven time.Time `json:"proven,omitzero"` // when the member's token last unwrapped this very blob
}

// Coverage looks at the newest revisions of keys and at the proofs in the store.
// It needs no token. A key, or a proof, that does not verify is told of through
// failed; the key counts as lost, the proof for nothing.
func (k *Keyring) Coverage(ctx context.Context, refs []Ref, failed func(error)) (Coverage, error) {
	members := k.chain.newest.Members
	c := Coverage{Keyring: k.ID().String(), List: k.chain.newest.Number, Time: time.Now().UTC().Truncate(time.Second), Keys: []KeyCoverage{}}
	proofs := make([]proven, len(members))
	for i, m := range members {
		var err error
		if proofs[i], err = k.proofs(ctx, m, failed); err != nil {
			return c, err
		}
		c.Holders = append(c.Holders, Stake{Holder: k.holder([]byte(keyID(m)))})
	}
	all := patterns{}
	c.Keys = slices.Grow(c.Keys, len(refs)) // there may be a million
	for r := range inOrder(ctx, these(refs), func(ref Ref, err error) keyOrError {
		if err != nil {
			return keyOrError{err: err}
		}
		b, err := k.loadRef(ctx, ref)
		if err != nil {
			return keyOrError{KeyCoverage{Name: ref.Name, Version: ref.Version, Cells: make([]Cell, len(members)), Lost: true, Error: err.Error()}, err}
		}
		return keyOrError{k.coverageOf(ref, b, members, proofs), nil}
	}) {
		if r.err != nil {
			failed(r.err)
		}
		if r.key.Name != "" { // or else it is about all of them
			r.key.Cells = all.once(r.key.Cells)
			c.Keys = append(c.Keys, r.key)
		}
	}
	if err := ctx.Err(); err != nil {
		return c, err
	}
	slices.SortFunc(c.Keys, func(a, b KeyCoverage) int { return compareRefs(Ref{a.Name, a.Version}, Ref{b.Name, b.Version}) })
	c.count()
	for i := range c.Holders {
		if h := &c.Holders[i]; h.Proven == 0 {
			h.Outdated, h.LatestOutdated = len(proofs[i]), proofs[i].latest()
		}
	}
	return c, nil
}

type keyOrError struct {
	key KeyCoverage
	err error
}

// these hands refs on, for inOrder.
func these(refs []Ref) iter.Seq2[Ref, error] {
	return func(yield func(Ref, error) bool) {
		for _, ref := range refs {
			if !yield(ref, nil) {
				return
			}
		}
	}
}

// patterns are the rows of cells that there have been: most keys have the same as others,
// and share them.
type patterns map[string][]Cell

func (p patterns) once(cells []Cell) []Cell {
	var key []byte
	for _, c := range cells {
		key = binary.AppendVarint(append(key, fmt.Sprint(c.Opens)[0]), c.Proven.Unix())
	}
	if was, ok := p[string(key)]; ok {
		return was
	}
	p[string(key)] = cells
	return cells
}

func (k *Keyring) coverageOf(ref Ref, b *blob.Blob, members []blob.Member, proofs []proven) KeyCoverage {
	key := KeyCoverage{Name: ref.Name, Version: b.Descriptor().Version, Revision: b.Descriptor().Revision}
	if isDerived(b) {
		key.Cells, key.PasswordOnly = make([]Cell, len(members)), true
		return key
	}
	opens := 0
	for i, m := range members {
		var cell Cell
		if _, cell.Opens = k.recipient(b, keyID(m)); cell.Opens {
			opens++
			cell.Proven = proofs[i].when(b.Digest())
		}
		key.Cells = append(key.Cells, cell)
	}
	key.Lost = opens < 2
	return key
}

// count sums up the keys for each holder.
func (c *Coverage) count() {
	for _, key := range c.Keys {
		if key.Lost {
			c.Lost++
		}
		if key.PasswordOnly {
			c.PasswordOnly++
		}
		for i, cell := range key.Cells {
			s := &c.Holders[i]
			if !cell.Opens {
				continue
			}
			s.Opens++
			if key.Lost {
				s.Alone++
			}
			if !cell.Proven.IsZero() {
				s.Proven++
			}
			if cell.Proven.After(s.Latest) {
				s.Latest = cell.Proven
			}
		}
	}
}

// proven gives when a member's token last unwrapped a blob, in seconds since 1970.
type proven map[[sha256.Size]byte]int64

func (p proven) when(digest [sha256.Size]byte) time.Time {
	if seconds, ok := p[digest]; ok {
		return time.Unix(seconds, 0).UTC()
	}
	return time.Time{}
}

// latest returns when that was for any blob.
func (p proven) latest() time.Time {
	if len(p) == 0 {
		return time.Time{}
	}
	return time.Unix(slices.Max(slices.Collect(maps.Values(p))), 0).UTC()
}

// proofs reads the proofs of a member. They are stored under the key that signs them:
// what a former signing key says does not count any more.
func (k *Keyring) proofs(ctx context.Context, m blob.Member, failed func(error)) (proven, error) {
	all := proven{}
	signer := []byte(signerID(m))
	numbers, err := k.proofNumbers(ctx, signer)
	if err != nil {
		return nil, err
	}
	for _, number := range numbers {
		path := blob.ProofPath(signer, number)
		proof, err := k.proof(ctx, path, m)
		if err != nil {
			failed(fmt.Errorf("proof %s: %w", path, err))
			continue
		}
		for _, digest := range proof.Blobs {
			all[digest] = max(all[digest], proof.Created.Unix())
		}
	}
	return all, nil
}

func (k *Keyring) proof(ctx context.Context, path string, m blob.Member) (blob.Proof, error) {
	der, err := k.store.Get(ctx, path)
	if err != nil {
		return blob.Proof{}, err
	}
	unverified, err := blob.ParseProof(der)
	if err != nil {
		return blob.Proof{}, err
	}
	v, err := unverified.Verify(k.chain.names.of(signerID(m)), k.ID())
	if err != nil {
		return blob.Proof{}, err
	}
	return v.Proof(), nil
}

// proofNumbers lists the proofs under a signer.
func (k *Keyring) proofNumbers(ctx context.Context, id []byte) ([]int, error) {
	var numbers []int
	for path, err := range k.store.List(ctx, "proofs/"+hex.EncodeToString(id)+"/") {
		if err != nil {
			return nil, fmt.Errorf("look for proofs: %w", err)
		}
		if _, number, ok := blob.ParseProofPath(path); ok {
			numbers = append(numbers, number)
		}
	}
	slices.Sort(numbers)
	return numbers, nil
}

// Prove rehearses the recovery of keys with this token: each is unwrapped, wrapped
// again and unwrapped, and compared with itself and with its confirmation. Nothing
// is written but the proof, signed records of the blobs that held. A result
// is given when its record is stored.
//
// What this token has proven after since is left alone, so a rehearsal can be
// killed and started again.
func (k *Keyring) Prove(ctx context.Context, refs []Ref, since time.Time) iter.Seq[Result] {
	return func(yield func(Result) bool) {
		if err := k.maySign("record proofs"); err != nil {
			yield(Result{Err: err})
			return
		}
		done, err := k.proofs(ctx, k.chain.members[string(k.self)], func(error) {})
		if err != nil {
			yield(Result{Err: err})
			return
		}
		var held []Result // not yet in a record
		for r := range each(ctx, refs, func(ctx context.Context, ref Ref) Result { return k.rehearse(ctx, ref, done, since) }) {
			if r.Done {
				if held = append(held, r); len(held) < proofBatch {
					continue
				}
				if !k.record(ctx, held, yield) {
					return
				}
				held = nil
				continue
			}
			if r.Err == nil && r.Entry.Password != "" {
				continue // there is nothing that a token could prove
			}
			if !yield(r) {
				return
			}
		}
		// Also when ctx has ended: what was done is not lost.
		k.record(context.WithoutCancel(ctx), held, yield)
	}
}

// proofBatch is how many blobs share a record: so much of a rehearsal is lost when
// it is killed.
const proofBatch = 256

func (k *Keyring) rehearse(ctx context.Context, ref Ref, done proven, since time.Time) Result {
	b, err := k.loadRef(ctx, ref)
	if err != nil {
		return Result{Ref: ref, Err: err}
	}
	r := Result{Ref: ref, Entry: k.entry(b), blob: b}
	if done.when(b.Digest()).After(since) {
		return r
	}
	if isDerived(b) {
		return r
	}
	wrapped, err := k.ours(b)
	if err == nil {
		err = k.pair.Rehearse(ctx, specOf(b), wrapped)
	}
	if errors.Is(err, token.ErrWrapped) {
		err = hint(fmt.Errorf("%w: %w", doesNotOpen(b, err), blob.ErrIntegrity),
			fmt.Sprintf("an owner whose token opens it makes it anew: hsmkeys rewrap --damaged %s; or in a recovery the authority: hsmkeys recover --damaged", ref.Name))
	}
	if err != nil {
		return Result{Ref: ref, Err: fmt.Errorf("rehearse key %q: %w", ref, err)}
	}
	r.Done = true
	return r
}

// record signs and stores a proof of what held, and then gives the results.
func (k *Keyring) record(ctx context.Context, held []Result, yield func(Result) bool) bool {
	if len(held) == 0 {
		return true
	}
	err := k.putProof(ctx, held)
	for _, r := range held {
		if err != nil {
			r = Result{Ref: r.Ref, Err: fmt.Errorf("record the proof of key %q: %w", r.Ref, err)}
		}
		if !yield(r) {
			return false
		}
	}
	return true
}

func (k *Keyring) putProof(ctx context.Context, held []Result) error {
	now := time.Now()
	p := blob.Proof{KeyringID: k.ID(), Created: now}
	for _, r := range held {
		p.Blobs = append(p.Blobs, r.blob.Digest())
	}
	der, err := blob.SignProof(p, k.signs(), now)
	if err != nil {
		return err
	}
	return k.putNumbered(ctx, der)
}

// putNumbered stores a proof under a free number of this signer. Numbers are no dates,
// and the highest may be one that somebody has planted.
func (k *Keyring) putNumbered(ctx context.Context, der []byte) error {
	numbers, err := k.proofNumbers(ctx, k.signer)
	if err != nil {
		return err
	}
	for next := len(numbers) + 1; ; next++ {
		if err := k.store.Put(ctx, blob.ProofPath(k.signer, next), der); !errors.Is(err, blob.ErrExists) {
			return err
		}
	}
}
