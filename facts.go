package hsmkeys

import (
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Situations that a caller may want to explain to a person, found with [errors.Is] in the errors
// of this package. They are facts beside the message, which does not contain them.
var (
	// Of opening a keyring.
	ErrNoKeyring    = errors.New("the store has no keyring")
	ErrNotPinned    = errors.New("no pin of the keyring was found")
	ErrTooOld       = errors.New("the newest checkpoint is older than the caller allows")
	ErrNotOwner     = errors.New("the key is not that of an owner in force")
	ErrStateDir     = errors.New("the directory of the pins cannot be written")
	ErrNoStateDir   = errors.New("there is no directory for the pins")
	ErrIsSigningKey = errors.New("the pair is the signing key of a member")
	ErrNeverNamed   = errors.New("no list of members has named the pair")

	// Of keys.
	ErrNameTaken       = errors.New("a key has the name")
	ErrNameDestroyed   = errors.New("a key that was destroyed has the name")
	ErrNewNameTaken    = errors.New("a key has the new name")
	ErrAsksPassword    = errors.New("the key needs its password")
	ErrCompromised     = errors.New("the key is compromised")
	ErrExpiresSoon     = errors.New("the key expires soon")
	ErrNoKeys          = errors.New("the keyring has no keys")
	ErrNoSuchName      = errors.New("no key has the name, or one like it")
	ErrLegacyUse       = errors.New("a key of a legacy algorithm is not used here")
	ErrLegacyNew       = errors.New("no keys of a legacy algorithm are made")
	ErrFilePurpose     = errors.New("files are encrypted under keys that wrap keys")
	ErrNotExportable   = errors.New("a SIMPLEBLOB holds stored AES and legacy keys")
	ErrVersionNumber   = errors.New("a version is a number from 1")
	ErrNotHolder       = errors.New("the pair is not a holder of the key")
	ErrShortKey        = errors.New("the key is too short for the EC pair of the new owner")
	ErrEarlierRevision = errors.New("an earlier revision of the key was used")
	ErrNotInState      = errors.New("the state of the keyring does not know the key")

	// Of files.
	ErrFileOfOthers  = errors.New("the file is for somebody else")
	ErrFileToPair    = errors.New("the file is for a key exchange pair")
	ErrFileUnderKey  = errors.New("the file is under a key of a keyring")
	ErrOtherKeyNamed = errors.New("another key has the same name")
	ErrNoPairCurve   = errors.New("age knows no recipients on the curve")
	ErrSimpleBlob    = errors.New("the SIMPLEBLOB cannot be decrypted, or holds another key")

	// Of members and recoveries.
	ErrSameKeys        = errors.New("the signing key is the key exchange key")
	ErrSignsItself     = errors.New("the keyring knows the pair as one that signs itself")
	ErrLabelTaken      = errors.New("another member has the label")
	ErrIdentifierTaken = errors.New("another member has the identifier")
	ErrNeverMember     = errors.New("no member has ever had the key")
	ErrLastOwner       = errors.New("the keyring would have no owner")
	ErrOwnPair         = errors.New("the member is this one")
	ErrAuthorityActs   = errors.New("a backup authority does what owners do")
	ErrAuthoritySigned = errors.New("a backup authority has signed outside a recovery")
	ErrStranger        = errors.New("no member has signed")
	ErrOwnerRecovers   = errors.New("an owner does what backup authorities do")
	ErrRecoveredOwner  = errors.New("the key is not that of an owner who could be replaced")
	ErrRecoveryKey     = errors.New("the recovery has begun with another signing key")
	ErrSignedMeanwhile = errors.New("a checkpoint was signed meanwhile")

	// Of quorums and approvals.
	ErrNoQuorum          = errors.New("no quorum has the label")
	ErrSeveralQuorums    = errors.New("the pair is a custodian of several quorums")
	ErrNoCustodian       = errors.New("the pair is no custodian's")
	ErrCustodianNew      = errors.New("the token of a custodian has not accepted the keyring")
	ErrMemberIsCustodian = errors.New("a member is no custodian")
	ErrForCustodians     = errors.New("the proposal is for custodians")
	ErrApprovalsMissing  = errors.New("approvals are missing")
	ErrOwnProposal       = errors.New("this owner has proposed it")
	ErrOwnerRehearses    = errors.New("an owner rehearses what backup authorities do")
	ErrQuorumVouches     = errors.New("a quorum vouches for nothing: its key was in the memory of a machine")
	ErrSecondOwner       = errors.New("the policy wants a second owner's approval")
	ErrQuorumOnly        = errors.New("the policy wants every recovery to be a quorum's")
)

// Situations with details, found with [errors.As].

// NoCurrentVersion is about a key of which no version encrypts.
type NoCurrentVersion struct{ Name string }

// NoSuchVersion is about a version that a key does not have.
type NoSuchVersion struct{ Name string }

// SimilarName is about a key that does not exist.
type SimilarName struct{ Name string } // of a key that exists

// NamePrefix is about a name that no key has, and that is the beginning of others.
type NamePrefix struct{ Prefix string }

// KeyRenamed is about a key that had the name, and now has another.
type KeyRenamed struct{ Name string } // of today

// NotActive is about a version of a key that encrypts nothing.
type NotActive struct {
	Ref    Ref
	Status ledger.Status
}

// Expired is about a key that has expired.
type Expired struct{ Name string }

// BlobGone is about a key blob that the store should have.
type BlobGone struct {
	Path     string // in the store
	Replaced bool   // another object is in its place
}

// DoesNotOpen is about a key blob whose signature verifies, and whose key does not open.
type DoesNotOpen struct{ Name string }

// NotMember is about a pair that is no longer a member.
type NotMember struct {
	Role      blob.Role // what it was
	Recovered bool      // a recovery has put another in its place
}

// NoSuchMember is about a label that no member in a role has.
type NoSuchMember struct{ Role blob.Role }

// NotAccepted is about a recovery that was not accepted.
type NotAccepted struct{ At ledger.Point }

// PinFile is about a file that should hold a pin.
type PinFile struct{ Path string }

// Recorded is about a change that was recorded before something else failed.
type Recorded struct{ Err error } // what failed

func (f *NoCurrentVersion) Error() string { return fmt.Sprintf("no version of %q encrypts", f.Name) }
func (f *NoSuchVersion) Error() string    { return fmt.Sprintf("no such version of %q", f.Name) }
func (f *SimilarName) Error() string      { return fmt.Sprintf("there is a key %q", f.Name) }
func (f *NamePrefix) Error() string       { return fmt.Sprintf("names start with %q", f.Prefix) }
func (f *KeyRenamed) Error() string       { return fmt.Sprintf("it is called %q now", f.Name) }
func (f *NotActive) Error() string        { return fmt.Sprintf("%v is %v", f.Ref, f.Status) }
func (f *Expired) Error() string          { return fmt.Sprintf("%q has expired", f.Name) }
func (f *BlobGone) Error() string         { return fmt.Sprintf("%s is gone or replaced", f.Path) }
func (f *DoesNotOpen) Error() string      { return fmt.Sprintf("a blob of %q does not open", f.Name) }
func (f *NotMember) Error() string        { return fmt.Sprintf("no longer an %v", f.Role) }
func (f *NoSuchMember) Error() string     { return fmt.Sprintf("no such %v", f.Role) }
func (f *NotAccepted) Error() string      { return fmt.Sprintf("checkpoint %v is not accepted", f.At) }
func (f *PinFile) Error() string          { return fmt.Sprintf("%s is no pin", f.Path) }
func (f *Recorded) Error() string         { return fmt.Sprintf("recorded, and then: %v", f.Err) }

// withFacts returns err with facts that [errors.Is] and [errors.As] find, and that its message
// does not contain.
func withFacts(err, facts error) error { return &factsError{err, facts} }

type factsError struct{ err, facts error }

func (e *factsError) Error() string   { return e.err.Error() }
func (e *factsError) Unwrap() []error { return []error{e.err, e.facts} }
