package hsmkeys

import (
	"cmp"
	"context"

	"github.com/hsmkeys/hsmkeys/blob"
)

// A Use is what is done with a key or to a keyring, and for what. A command says what it is about with
// [WithUse]; the Keyring adds the rest to the context of each call of a [Pair], so that one behind a
// network can pass it on, and to each [Event].
type Use struct {
	Command string // of the program, such as "decrypt"
	File    string // that the command reads, an absolute path; "" for none
	Output  string // that it writes, an absolute path; "" for none
	Request string // identifier of the request that a service handles; "" for none

	Operation string  // see the constants
	Keyring   blob.ID // zero as long as it is not known
	Pair      string  // that does it: the subject key identifier in hexadecimal
	Key       string  // name of the key; "" for none
	Version   int     // 0 for all versions, and as long as it is not known
	KeyID     blob.ID // zero for all versions, and as long as it is not known
	To        string  // new name, label on the token, member, or peer that gets the key; "" for none
}

// Operations that use a key.
const (
	OpEncrypt = "encrypt" // wrap a file key or another data key
	OpDecrypt = "decrypt" // unwrap it
	OpMAC     = "mac"
	OpReveal  = "reveal"
	OpExport  = "export" // for another program, wrapped to its public key
	OpCheck   = "check"  // open a key to see whether it opens
	OpProve   = "prove"  // rehearse its recovery
	OpOpen    = "open"   // open a key, or a keyring if no key is named; only recorded if it fails
)

// Operations that change a keyring or what is on a token. Changes of keys have the names of [ledger.Op].
const (
	OpInit          = "init"
	OpJoin          = "join"
	OpAccept        = "accept"
	OpCheckpoint    = "checkpoint" // sign one that changes nothing
	OpAddMember     = "add-member"
	OpRemoveMember  = "remove-member"
	OpBeginRecovery = "begin-recovery"
	OpRecover       = "recover"
	OpReplaceQuorum = "replace-quorum"
	OpSetPolicy     = "set-policy"
	OpPropose       = "propose"  // a change of members, to another owner
	OpRehearse      = "rehearse" // a recovery, in a copy
	OpApprove       = "approve"  // a recovery by a quorum, or another owner's change of members
	OpImport        = "import"
	OpDeleteBlobs   = "delete-blobs" // of a key that is destroyed
	OpLoad          = "load"
	OpUnload        = "unload"
)

type useKey struct{}

// WithUse returns a context with a use. Fields that are empty in u stay as they are in ctx.
func WithUse(ctx context.Context, u Use) context.Context {
	return context.WithValue(ctx, useKey{}, UseOf(ctx).with(u))
}

// UseOf returns the use in a context.
func UseOf(ctx context.Context) Use {
	u, _ := ctx.Value(useKey{}).(Use)
	return u
}

// with returns the use with the fields of another one that are not empty.
func (u Use) with(o Use) Use {
	return Use{
		Command: cmp.Or(o.Command, u.Command), File: cmp.Or(o.File, u.File), Output: cmp.Or(o.Output, u.Output), Request: cmp.Or(o.Request, u.Request),
		Operation: cmp.Or(o.Operation, u.Operation), Keyring: cmp.Or(o.Keyring, u.Keyring), Pair: cmp.Or(o.Pair, u.Pair),
		Key: cmp.Or(o.Key, u.Key), Version: cmp.Or(o.Version, u.Version), KeyID: cmp.Or(o.KeyID, u.KeyID), To: cmp.Or(o.To, u.To),
	}
}
