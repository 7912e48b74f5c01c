package hsmkeys

import (
	"crypto/x509"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Options are how a keyring is opened.
type Options struct {
	Store blob.Store
	Pair  Pair  // the member's; nil for [OpenWithCertificate] and [OpenVouched]
	Pins  *Pins // nil: in the records of the pair alone

	// Keyring is the identifier that the keyring must have; the zero value means any.
	Keyring blob.ID
	// Checkpoint is believed beside the pin, or in place of one that is missing.
	Checkpoint *ledger.Point
	// Voucher is the certificate of a member who has signed a checkpoint, for those who have
	// not joined. It must not come from the storage.
	Voucher *x509.Certificate

	// Propose is called with each change of members, which is not recorded then: another owner
	// approves it, see [Keyring.ApproveChange], within ProposeFor.
	Propose    ProposeFunc
	ProposeFor time.Duration

	// OlderState allows to decrypt with what is there if the newest state is missing, or no
	// longer has the pair as a member.
	OlderState bool
	// MaxAge is the age of the newest checkpoint above which nothing is encrypted; 0 means any.
	MaxAge time.Duration

	// Once declares that the keyring is opened for a single operation. The store is checked for a newer
	// checkpoint when the keyring is opened, when a file is completed, and otherwise at most every five
	// seconds. If the pinned checkpoint is the newest, earlier ones are not read.
	Once bool

	// Password returns the passwords of keys that come from one; if it is nil they cannot be
	// opened.
	Password PasswordFunc
	// Warn is called with errors that do not stop the work, such as for a revision of a key that
	// cannot be opened, so that the one before it is used. It may be called by several goroutines
	// at once, and may be nil.
	Warn func(error)
	// Record is called with each use of a key, when the token is done with it, and with each change of
	// the keyring, before it is made and after. If it returns an error, the result of the use is
	// overwritten, or the change is not made, and the error is an [Unrecorded]. It may be called by
	// several goroutines at once, with a context that has no end, and may be nil.
	Record RecordFunc
	// Progress is called in an operation over many keys when the token is done with one of them, before
	// that is recorded. It may be called by several goroutines at once, and may be nil.
	Progress func()
	// NoReadBack turns off the check before a key is stored: what the token has wrapped to its own
	// pair is unwrapped again and compared, at the cost of one private key operation for each key.
	NoReadBack bool
}
