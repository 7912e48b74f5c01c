package show

import (
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// RecoveryRows returns all about a recovery.
func RecoveryRows(r ledger.RecoveryEvent) [][]string {
	rows := [][]string{
		{"recovery", "checkpoint " + r.At.String()},
		{"  when", text.Time(r.Created)},
		{"  reason", text.Printable(r.Reason)},
		{"  the old owner", session.LastSigned(r)},
	}
	if len(r.Approved) > 0 {
		rows = append(rows, []string{"  approved by", session.Labels(r.Approved)})
	}
	rows = append(rows, Party("by", r.Authority)...)
	rows = append(rows, Party("from", r.From)...)
	return append(rows, Party("to", r.To)...)
}

// A Recovery is a recovery in JSON. Its form is stable.
type Recovery struct {
	Checkpoint     string   `json:"checkpoint"`
	Time           string   `json:"time"`
	Authority      Member   `json:"authority"`
	From           Member   `json:"from"`
	To             Member   `json:"to"`
	Reason         string   `json:"reason"`
	Approved       []Member `json:"approved,omitempty"`    // custodians, if the authority is a quorum
	LastSigned     string   `json:"last_signed,omitempty"` // checkpoint; none since this token looked last
	LastSignedTime string   `json:"last_signed_time,omitempty"`
}

// RecoveryOf returns a recovery in the form for JSON.
func RecoveryOf(r ledger.RecoveryEvent) Recovery {
	j := Recovery{
		Checkpoint: r.At.String(), Time: text.Time(r.Created), Reason: r.Reason,
		Authority: MemberOf(r.Authority), From: MemberOf(r.From), To: MemberOf(r.To),
	}
	for _, m := range r.Approved {
		j.Approved = append(j.Approved, MemberOf(m))
	}
	if r.LastSigned.Number > 0 {
		j.LastSigned, j.LastSignedTime = r.LastSigned.String(), text.Time(r.LastTime)
	}
	return j
}
