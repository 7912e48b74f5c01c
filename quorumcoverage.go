package hsmkeys

import (
	"context"
	"encoding/hex"
	"errors"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// QuorumCoverage is what is known about the custodians of a quorum.
type QuorumCoverage struct {
	Threshold  int                 `json:"threshold"`
	Custodians []CustodianCoverage `json:"custodians"`
	Used       int                 `json:"used,omitempty"`      // list of members by which it has recovered: its key has to be replaced
	Rehearsed  bool                `json:"rehearsed,omitempty"` // its key was put together for a rehearsal, and has to be replaced too
	Broken     string              `json:"broken,omitempty"`    // why nobody could put its key together
}

// CustodianCoverage is what is known about a custodian.
type CustodianCoverage struct {
	Label        string    `json:"label"`
	SubjectKeyID string    `json:"subject_key_id"`
	Proven       time.Time `json:"proven,omitzero"` // when its token last opened its share
}

// Proven counts the custodians whose tokens have opened their shares since a time.
func (q *QuorumCoverage) Proven(since time.Time) (n int) {
	for _, c := range q.Custodians {
		if c.Proven.After(since) {
			n++
		}
	}
	return n
}

// QuorumCoverage reads the shares of a quorum and the proofs of its custodians, or returns nil for another
// member. A proof that does not verify is reported to failed, and counts for nothing.
func (k *Keyring) QuorumCoverage(ctx context.Context, m blob.Member, failed func(error)) (*QuorumCoverage, error) {
	if m.Quorum == nil {
		return nil, nil
	}
	q := &QuorumCoverage{Threshold: m.Quorum.Threshold, Used: k.members().QuorumUsed(m)}
	if _, err := k.shares(ctx, m); err != nil {
		if !errors.Is(err, blob.ErrIntegrity) {
			return nil, err
		}
		q.Broken = err.Error()
		failed(err)
	}
	rehearsals, err := k.Rehearsals(ctx, m, func(error) {})
	if err != nil {
		return nil, err
	}
	q.Rehearsed = len(rehearsals) > 0
	for _, c := range m.Quorum.Custodians {
		proven, err := k.proofs(ctx, c, failed)
		if err != nil {
			return nil, err
		}
		q.Custodians = append(q.Custodians, CustodianCoverage{c.Label, hex.EncodeToString([]byte(keyID(c))), proven.of(m.Quorum.Shares)})
	}
	return q, nil
}
