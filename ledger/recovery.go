package ledger

import (
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A RecoveryEvent is a checkpoint by which a backup authority has put a new owner in the
// place of one whose key was lost.
type RecoveryEvent struct {
	At        Point
	Created   time.Time // by the authority's clock
	Authority blob.Member
	From, To  blob.Member
	Reason    string
	Approved  []blob.Member // the custodians who have approved it, where the authority is a quorum

	// LastSigned is the last checkpoint before At that From has signed, and LastTime its
	// time; zero where that was before trust started.
	LastSigned Point
	LastTime   time.Time
}

// An Unaccepted is an [ErrUnaccepted].
type Unaccepted struct{ Recoveries []RecoveryEvent }

func (e *Unaccepted) Error() string {
	last := e.Recoveries[len(e.Recoveries)-1]
	return fmt.Sprintf("checkpoint %d puts %q in the place of %q: %v", last.At.Number, last.To.Label, last.From.Label, ErrUnaccepted)
}

func (e *Unaccepted) Unwrap() error { return ErrUnaccepted }

// checkRecovery checks that a list of members which a backup authority has introduced does only
// what a recovery may do: put one new owner in the place of one old owner. Everybody else must
// stay, or an authority could bring in whomever it likes.
func checkRecovery(before, l blob.MemberList) error {
	refuse := func(format string, args ...any) error {
		return fmt.Errorf("not a recovery: "+format+": %w", append(args, ErrIllegal)...)
	}
	from := string(l.Recovery.From)
	if old, ok := memberWith(before.Members, from); !ok || old.Role != blob.Owner {
		return refuse("key %x was not an owner's", from)
	}
	if l.Policy != before.Policy {
		return refuse("it changes the policy")
	}
	added, stay := 0, 0
	for _, m := range l.Members {
		was, ok := memberWith(before.Members, KeyID(m))
		switch {
		case ok && same(was, m):
			stay++
		case ok:
			return refuse("it changes the member %q", was.Label)
		case m.Role != blob.Owner:
			return refuse("it brings in %q, who is no owner", m.Label)
		default:
			added++
		}
	}
	if added != 1 || stay != len(before.Members)-1 { // blob has checked that the old owner is not in the list
		return refuse("%d owners come in and %d members go", added, len(before.Members)-stay)
	}
	return nil
}

// recoveredTo returns the new owner of a list that is a recovery.
func recoveredTo(before, l blob.MemberList) blob.Member {
	i := slices.IndexFunc(l.Members, func(m blob.Member) bool {
		_, was := memberWith(before.Members, KeyID(m))
		return !was
	})
	if i < 0 {
		return blob.Member{} // checkRecovery has seen one
	}
	return l.Members[i]
}

// same reports whether nothing about a member has changed. Of certificates, what they
// say besides their key matters too, such as the OAEP hash to wrap with.
func same(a, b blob.Member) bool {
	return a.Role == b.Role && a.Label == b.Label && a.Certificate.Equal(b.Certificate) && a.Signing.Equal(b.Signing) &&
		sameQuorum(a.Quorum, b.Quorum)
}

func sameQuorum(a, b *blob.Quorum) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Threshold == b.Threshold && a.Shares == b.Shares && slices.EqualFunc(a.Custodians, b.Custodians, same)
}
