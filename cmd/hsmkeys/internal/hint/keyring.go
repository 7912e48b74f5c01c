package hint

import (
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// keyring returns hints for errors of the root package and of package ledger: keys, members and
// states.
func keyring(err error) string {
	switch {
	case errors.Is(err, ledger.ErrCompacted):
		return "the state that this token has accepted last was compacted away: hsmkeys join --replace-pin --checkpoint N:DIGEST, as another member's hsmkeys checkpoint prints it"
	case errors.Is(err, ledger.ErrIncomplete):
		return "a part of the store is missing; complete it from a copy"
	case errors.Is(err, ledger.ErrDoubt):
		return "the storage did not answer: hsmkeys log shows whether it was done; do it again only then"
	case errors.Is(err, ledger.ErrRace), errors.Is(err, hsmkeys.ErrMovedOn):
		return "nothing was done; run it again"
	}
	return ""
}
