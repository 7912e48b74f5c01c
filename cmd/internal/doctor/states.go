package doctor

import (
	"fmt"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// keyStates counts the keys by the status of their newest version, and those that are due.
type keyStates struct {
	count map[string]int
	due   []string // names
}

func (s *keyStates) add(e hsmkeys.Entry, now time.Time) {
	if s.count == nil {
		s.count = map[string]int{}
	}
	s.count[e.Status]++
	if !e.Due.IsZero() && !e.Due.After(now) {
		s.due = append(s.due, e.Name)
	}
}

// states reports the status of the keys, and those that are due.
func (d *doctor) states(k *hsmkeys.Keyring, s keyStates) {
	if len(s.due) > 0 {
		d.warn("dates", "hsmkeys list --due", "%s to be rotated or has expired, such as %q; %s", text.Plural(len(s.due), "key is", "keys are"), s.due[0], d.ownersCommand(k, "rotate --due"))
		return
	}
	var all []string
	for status := ledger.Active; status <= ledger.Destroyed; status++ {
		if n := s.count[status.String()]; n > 0 {
			all = append(all, fmt.Sprintf("%d %s", n, status))
		}
	}
	if len(all) > 0 {
		d.ok("dates", "no key is due; %s", strings.Join(all, ", "))
	}
}
