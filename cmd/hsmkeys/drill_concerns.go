package main

import (
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// A concern is something that is to be done soon, about one holder. No key is in danger yet.
type concern struct {
	holder int // index
	Text   string
}

// concernsOf returns what is to be done soon. Proofs of custodians and rehearsals count for as long as age; if
// strict, an authority has to have rehearsed. A quorum has not: its key has to be replaced afterwards.
func concernsOf(c hsmkeys.Coverage, age time.Duration, strict bool) (all []concern) {
	since := c.Time.Add(-age)
	for i, h := range c.Holders {
		add := func(format string, args ...any) {
			all = append(all, concern{i, fmt.Sprintf("%s: ", text.Printable(h.Label)) + fmt.Sprintf(format, args...)})
		}
		switch last := h.Rehearsed(); {
		case last.IsZero() && strict && h.Role == blob.BackupAuthority.String() && h.Quorum == nil:
			add("no recovery was ever rehearsed; hsmkeys drill --rehearse with its token")
		case last.After(c.Time.Add(time.Hour)):
			add("its last rehearsal is dated %s, which is to come", text.Time(last))
		case !last.IsZero() && last.Before(since):
			add("the last rehearsal was on %s, more than %s ago; hsmkeys drill --rehearse", text.Time(last), text.Age(age))
		}
		q := h.Quorum
		if q == nil || q.Broken != "" { // which is said as an error
			continue
		}
		replace := fmt.Sprintf("the owner replaces it (hsmkeys quorum replace %s)", text.ShellQuote(h.Label))
		switch {
		case q.Used > 0:
			add("it has recovered, by list of members %d, and its private key was in the memory of a machine: %s", q.Used, replace)
		case q.Rehearsed:
			add("it has rehearsed a recovery, and its private key was in the memory of a machine: %s", replace)
		}
		if n := q.Proven(since); n < q.Threshold {
			add("%d of %d custodians are needed, and %d have proven their shares in the last %s; hsmkeys quorum check with the token of each", q.Threshold, len(q.Custodians), n, text.Age(age))
		}
	}
	return all
}

// quorumText describes a quorum: how many are needed, and how many have proven their shares.
func quorumText(q *hsmkeys.QuorumCoverage) string {
	if q.Broken != "" {
		return "nobody can put its key together: " + text.Line(q.Broken)
	}
	return fmt.Sprintf("%d of %d needed, %d proven", q.Threshold, len(q.Custodians), q.Proven(time.Time{}))
}
