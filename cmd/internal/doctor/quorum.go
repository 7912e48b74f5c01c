package doctor

import (
	"fmt"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// quorum checks that the custodians of a quorum could recover, and that its private key was not in the
// memory of a machine.
func (d *doctor) quorum(k *hsmkeys.Keyring, m blob.Member) {
	name := text.ShellQuote(m.Label)
	replace := d.ownersCommand(k, fmt.Sprintf("quorum replace %s --threshold %d CERTIFICATE…", name, m.Quorum.Threshold))
	for _, c := range m.Quorum.Custodians {
		d.validity(d.warn, "quorum", "the certificate of the custodian "+text.Printable(c.Label), "the share opens all the same, but quorum replace does not take it again", replace, c.Certificate, time.Now())
	}
	q, err := k.QuorumCoverage(d.ctx, m, message.Warn)
	switch {
	case err != nil:
		d.fail("quorum", "hsmkeys verify", "%v", err)
	case q.Broken != "":
		d.fail("quorum", "put the shares back from a copy of the store, or "+replace, "nobody can put the key of %s together: %s", text.Printable(m.Label), q.Broken)
	case q.Used > 0:
		d.warn("quorum", replace, "%s has recovered, by list of members %d: its private key was in the memory of a machine", text.Printable(m.Label), q.Used)
	case q.Rehearsed:
		d.warn("quorum", replace, "%s has rehearsed a recovery: its private key was in the memory of a machine", text.Printable(m.Label))
	case q.Proven(time.Time{}) < q.Threshold:
		d.warn("quorum", "hsmkeys quorum check "+name+", with the token of each custodian", "%s: %d of %d needed, %d proven", text.Printable(m.Label), q.Threshold, len(q.Custodians), q.Proven(time.Time{}))
	default:
		d.ok("quorum", "%s: %d of %d needed, %d proven", text.Printable(m.Label), q.Threshold, len(q.Custodians), q.Proven(time.Time{}))
	}
}
