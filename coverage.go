package hsmkeys

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/blob/keyspec"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Coverage is who can open each version of each key, and who has proven it. Its JSON form is
// stable.
type Coverage struct {
	Keyring string           `json:"keyring"`
	List    int              `json:"list"` // number of the list of members
	Time    time.Time        `json:"time"`
	Holders []HolderCoverage `json:"holders"`
	Keys    []KeyCoverage    `json:"keys"`
	Lost    int              `json:"lost"` // keys that only one member can open

	// PasswordOnly counts the keys that no token has: whoever forgets the password loses them, and
	// no backup authority can help.
	PasswordOnly int `json:"password_only"`
}

// HolderCoverage is how many keys one member can open and has proven to open.
type HolderCoverage struct {
	Holder
	Opens  int       `json:"opens"`           // keys that the member can open
	Proven int       `json:"proven"`          // of these
	Latest time.Time `json:"latest,omitzero"` // proof of one of them

	// Outdated counts the keys that the member has proven to open, but not as they are
	// wrapped now: before a rewrap, or a change of members.
	Outdated       int       `json:"outdated,omitempty"`
	LatestOutdated time.Time `json:"latest_outdated,omitzero"`

	Alone int `json:"alone"` // keys that nobody else opens: lost with this member

	Quorum     *QuorumCoverage `json:"quorum,omitempty"`     // of a member that is one
	Rehearsals []Rehearsed     `json:"rehearsals,omitempty"` // that a backup authority has signed, oldest first
	Proofs     []time.Time     `json:"proofs,omitempty"`     // when it has signed proofs, oldest first
}

// Rehearsed is a rehearsal of a recovery, see [Keyring.Rehearse].
type Rehearsed struct {
	Time       time.Time `json:"time"`
	Seconds    int       `json:"seconds"` // that it took
	Checkpoint int       `json:"checkpoint"`
	List       int       `json:"list"`
	From       string    `json:"from"`   // label of the owner who was taken for lost
	Canary     string    `json:"canary"` // the key, as NAME@VERSION
	Program    string    `json:"program"`
	Spare      string    `json:"spare"` // the throw-away token
}

// Rehearsed returns when a member has last rehearsed a recovery, or the zero time.
func (h *HolderCoverage) Rehearsed() time.Time {
	if n := len(h.Rehearsals); n > 0 {
		return h.Rehearsals[n-1].Time
	}
	return time.Time{}
}

// rehearsed returns the rehearsals of a backup authority.
func (k *Keyring) rehearsed(ctx context.Context, m blob.Member, failed func(error)) ([]Rehearsed, error) {
	if m.Role != blob.BackupAuthority {
		return nil, nil
	}
	all, err := k.Rehearsals(ctx, m, failed)
	var out []Rehearsed
	for _, r := range all {
		out = append(out, Rehearsed{r.Created.UTC(), r.Seconds, r.Checkpoint, r.List, k.holder(r.From).Label, Ref{Name: r.Canary, Version: r.Version}.String(), r.Program, r.Spare})
	}
	return out, err
}

// KeyCoverage is one version of a key against the members, in the order of
// Coverage.Holders.
type KeyCoverage struct {
	Name     string `json:"name"`
	Version  int    `json:"version"`
	Revision int    `json:"revision"`
	Cells    []Cell `json:"cells"`
	Lost     bool   `json:"lost"` // with the one member who can open it

	PasswordOnly bool `json:"password_only,omitempty"` // it comes from a password: no member can open it
}

// Cell is one version of a key against one member.
type Cell struct {
	Opens   bool      `json:"opens"`
	Proven  time.Time `json:"proven,omitzero"`  // when the member's token last unwrapped this very blob
	Earlier time.Time `json:"earlier,omitzero"` // when it last unwrapped the same key, as it was wrapped before
}

// Coverage looks at the newest revisions of the named keys, or of all, as the state of the keyring
// has them, and at the proofs in the store. It needs no token and reads no blob: that all are there
// and hold, [Keyring.Verify] finds out. A proof that does not verify is reported to failed, and
// counts for nothing.
func (k *Keyring) Coverage(ctx context.Context, names []string, failed func(error)) (Coverage, error) {
	if err := k.refresh(ctx); err != nil {
		return Coverage{}, err
	}
	members := k.Members()
	c := Coverage{Keyring: k.ID().String(), List: k.ListNumber(), Time: time.Now().UTC().Truncate(time.Second)}
	room := len(names)
	if room == 0 {
		room = min(k.view().Len(), 1<<20) // the count is not checked yet
	}
	c.Keys = make([]KeyCoverage, 0, room)
	proofs := make([]*proven, len(members))
	for i, m := range members {
		var err error
		if proofs[i], err = k.proofs(ctx, m, failed); err != nil {
			return c, err
		}
		quorum, err := k.QuorumCoverage(ctx, m, failed)
		if err != nil {
			return c, err
		}
		h := HolderCoverage{Holder: k.holder([]byte(keyID(m))), Quorum: quorum, Proofs: proofs[i].dates()}
		if h.Rehearsals, err = k.rehearsed(ctx, m, failed); err != nil {
			return c, err
		}
		c.Holders = append(c.Holders, h)
	}
	cover := coverer{k: k, members: members, coverage: c.Holders, proofs: proofs, held: map[holderSet][]bool{}, all: cellRows{}}
	for e, err := range k.entries(ctx, names) {
		if err != nil {
			return c, err
		}
		versions, err := k.chosen(ctx, e, true)
		if err != nil {
			return c, err
		}
		for _, v := range versions {
			if v.Status != ledger.Destroyed {
				c.Keys = append(c.Keys, cover.version(e.Name, v))
			}
		}
	}
	slices.SortFunc(c.Keys, func(a, b KeyCoverage) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Version, b.Version))
	})
	c.count()
	return c, ctx.Err()
}

// entries returns the named entries, or all, in no order: to sort them takes memory.
func (k *Keyring) entries(ctx context.Context, names []string) iter.Seq2[ledger.Entry, error] {
	if len(names) == 0 {
		view := k.view()
		return view.Trie().All(ctx, view.Source())
	}
	return func(yield func(ledger.Entry, error) bool) {
		for _, name := range slices.Compact(slices.Sorted(slices.Values(names))) {
			e, err := k.entryNamed(ctx, name)
			if !yield(e, err) || err != nil {
				return
			}
		}
	}
}

// A coverer compares versions of keys with members.
type coverer struct {
	k        *Keyring
	members  []blob.Member
	coverage []HolderCoverage // of the members
	proofs   []*proven
	held     map[holderSet][]bool
	all      cellRows
}

// A holderSet is what determines which members hold a key.
type holderSet struct {
	list int
	spec keyspec.Key
}

func (c *coverer) version(name string, v ledger.Version) KeyCoverage {
	key := KeyCoverage{Name: name, Version: v.Number, Revision: v.Revision}
	cells := make([]Cell, len(c.members))
	if v.Derived {
		key.PasswordOnly = true
	} else {
		opens := 0
		for i, held := range c.holders(v) {
			if held {
				opens++
				cells[i] = Cell{Opens: true, Proven: c.proofs[i].of(v.Blob), Earlier: c.proofs[i].ofKey(v.KeyID)}
			}
		}
		key.Lost = opens < 2
	}
	key.Cells = c.all.shared(cells)
	return key
}

// holders returns for each of the members whether it holds a version.
func (c *coverer) holders(v ledger.Version) []bool {
	h := holderSet{v.List, v.Key()}
	if held, ok := c.held[h]; ok {
		return held
	}
	held := make([]bool, len(c.members))
	for _, m := range c.k.members().ListNumber(v.List).Members {
		for i, now := range c.members {
			if quorum := c.coverage[i].Quorum; keyID(now) == keyID(m) && (quorum == nil || quorum.Broken == "") {
				held[i] = h.spec.WrapsTo(m.Certificate.PublicKey)
			}
		}
	}
	c.held[h] = held
	return held
}

// cellRows are the rows of cells that there have been: most keys have the same as others,
// and share them.
type cellRows map[string][]Cell

func (p cellRows) shared(cells []Cell) []Cell {
	var key []byte
	for _, c := range cells {
		key = binary.AppendVarint(append(key, fmt.Sprint(c.Opens)[0]), c.Proven.Unix())
		key = binary.AppendVarint(key, c.Earlier.Unix())
	}
	if was, ok := p[string(key)]; ok {
		return was
	}
	p[string(key)] = cells
	return cells
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
			if cell.Proven.IsZero() && !cell.Earlier.IsZero() {
				s.Outdated++
				if cell.Earlier.After(s.LatestOutdated) {
					s.LatestOutdated = cell.Earlier
				}
			}
		}
	}
}
