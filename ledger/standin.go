package ledger

// Stand-ins for what is built beside this, deleted when it is merged.

import (
	"context"
	"iter"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

type Digest = [32]byte

type Status int

type Version struct {
	Number, Revision  int
	KeyID             blob.ID
	Blob              Digest
	List              int
	Algorithm         blob.Algorithm
	Purpose           blob.Purpose
	KeySize           int
	Derived, Imported bool
	Status            Status
	Created           time.Time
	Changed           int
	ChangedAt         time.Time
}

type Older struct {
	Digest Digest
	At     blob.Hint
	Count  int
}

type Entry struct {
	Name        string
	Earlier     []string
	Current     int
	Description string
	Expires     time.Time
	RotateEvery int
	Versions    []Version
	Older       Older
}

type Source interface {
	Node(ctx context.Context, digest Digest, at blob.Hint) ([]byte, error)
}

type Trie struct {
	Root Digest
	At   blob.Hint
	Keys int
}

type Update struct {
	Entry Entry
	Set   []Version
}

type Pack struct {
	ID   blob.PackID
	Data []byte
}

type VersionDifference struct{ Old, New *Version }

type Difference struct {
	Old, New *Entry
	Versions []VersionDifference
}

type Op int

type Change struct {
	Op      Op
	Name    string
	Version int
	Reason  string
}

type Record struct {
	Changes []Change
	Log     []Digest
}

func (t Trie) Get(ctx context.Context, src Source, name string) (Entry, bool, error) {
	panic("stand-in")
}
func (t Trie) Versions(ctx context.Context, src Source, e Entry) iter.Seq2[Version, error] {
	panic("stand-in")
}
func (t Trie) All(ctx context.Context, src Source) iter.Seq2[Entry, error] { panic("stand-in") }
