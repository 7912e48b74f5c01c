package ledger

import (
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A RehearsalStore is a copy of a keyring in which a recovery is rehearsed. The backup authority signs
// that recovery, and whoever has the throw-away token is an owner there. So the recovery is marked, and
// its list of members counts in a RehearsalStore and nowhere else: carried into the keyring itself it is
// an [ErrRehearsal].
type RehearsalStore struct{ blob.Store }

// IsRehearsal reports whether a store is a [RehearsalStore].
func IsRehearsal(store blob.Store) bool {
	_, ok := store.(RehearsalStore)
	return ok
}

func refuseRehearsal(store blob.Store, l blob.MemberList) error {
	if l.Recovery == nil || !l.Recovery.Rehearsal || IsRehearsal(store) {
		return nil
	}
	return fmt.Errorf("list of members %d: %w", l.Number, ErrRehearsal)
}
