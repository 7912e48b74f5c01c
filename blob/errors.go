package blob

import (
	"errors"

	"github.com/hsmkeys/hsmkeys/blob/keyspec"
)

// Errors of objects read from storage. [errors.Is] finds each of them, and
// their parent ErrIntegrity, in what Parse, Verify and a [Store] return.
var (
	// ErrIntegrity is the parent of every error for bytes that are not what a holder of a trusted
	// key stored in this place.
	ErrIntegrity = errors.New("integrity check failed")

	// ErrMalformed means that the bytes are not the one DER encoding of an object.
	ErrMalformed = keyspec.NewKind("malformed", ErrIntegrity)

	// ErrTooLarge means that the object has more bytes than [MaxSizeOf] its path.
	ErrTooLarge = keyspec.NewKind("too large", ErrIntegrity)

	// ErrUnknown is the error for an algorithm, a type or a key that is not in the closed list.
	ErrUnknown = keyspec.NewKind("unsupported", ErrIntegrity)

	// ErrNewer, a kind of ErrUnknown, means that whoever made the object used a newer
	// version of the format. In a signed object the signature holds.
	ErrNewer = keyspec.NewKind("made by a newer version of this program", ErrUnknown)

	// ErrUntrusted means that the signer is not among the trusted keys.
	ErrUntrusted = keyspec.NewKind("untrusted signer", ErrIntegrity)

	// ErrSignature means that the signature, or the digest it covers, does not hold.
	ErrSignature = keyspec.NewKind("signature does not verify", ErrIntegrity)

	// ErrOccupied means that what is at this path is no object, such as a symbolic link, and
	// nothing can be stored there until it is taken away.
	ErrOccupied = keyspec.NewKind("something that is no object is in the way", ErrIntegrity)

	// ErrShort means that the object ends before what was asked of it.
	ErrShort = keyspec.NewKind("the object is shorter", ErrIntegrity)

	// ErrMisplaced means that the object was signed by a trusted key, but for another keyring, name,
	// version, revision or number than where it was found; or that it is
	// another object than the one whose digest is known.
	ErrMisplaced = keyspec.NewKind("misplaced", ErrIntegrity)
)

// Errors of a [Store].
var (
	// ErrExists means that there is an object at this path already. It is durable: what
	// the caller stores next may rely on it.
	ErrExists = errors.New("already exists")

	// ErrNotFound means that there is no object at this path.
	ErrNotFound = errors.New("not found")

	// ErrNotExclusive means that the storage cannot store an object only where there is none,
	// so that one writer could replace what another has stored. A file system needs hard links
	// or renameat2(2) with RENAME_NOREPLACE, and a bucket the header If-None-Match.
	ErrNotExclusive = errors.New("the storage does not store an object only where there is none")

	// ErrUnavailable means that the service behind a store kept failing until the limit for
	// retries was reached.
	ErrUnavailable = errors.New("the service does not answer as it should")

	// ErrName is the error for a key name or an object path that breaks a rule.
	ErrName = errors.New("invalid name")
)
