package hint

import (
	"errors"
	"fmt"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// keyring returns hints for errors of the root package: keys, files, members and pins.
func keyring(err error) string {
	if done := (*hsmkeys.Recorded)(nil); errors.As(err, &done) {
		what := "what the command was to do is done, and must not be done again; only the pin is missing"
		if mend := For(done.Err); mend != "" {
			what += ": " + mend
		}
		return what
	}
	for _, hint := range []func(error) string{ofDetails, ofQuorums, ofOpening, ofKeys, ofFiles, ofMembers} {
		if text := hint(err); text != "" {
			return text
		}
	}
	return ""
}

// ofDetails returns a hint that names a key, a file or a checkpoint.
func ofDetails(err error) string {
	if about := (*hsmkeys.BlobGone)(nil); errors.As(err, &about) {
		if about.Replaced {
			return "somebody has replaced it, or it is damaged: put " + about.Path + " back from a copy of the store"
		}
		return "put " + about.Path + " back from a copy of the store"
	}
	if about := (*hsmkeys.NoCurrentVersion)(nil); errors.As(err, &about) {
		return fmt.Sprintf("hsmkeys rotate %s makes one; hsmkeys history %s shows the others", about.Name, about.Name)
	}
	if about := (*hsmkeys.NoSuchVersion)(nil); errors.As(err, &about) {
		return fmt.Sprintf("hsmkeys history %s shows its versions", about.Name)
	}
	if about := (*hsmkeys.KeyRenamed)(nil); errors.As(err, &about) {
		return fmt.Sprintf("it is called %s now", about.Name)
	}
	if about := (*hsmkeys.NamePrefix)(nil); errors.As(err, &about) {
		return fmt.Sprintf("there are keys whose names start with %s; hsmkeys list %s shows them", about.Prefix, about.Prefix)
	}
	if about := (*hsmkeys.Expired)(nil); errors.As(err, &about) {
		return fmt.Sprintf("hsmkeys describe %s --expires WHEN sets another date", about.Name)
	}
	if about := (*hsmkeys.NotActive)(nil); errors.As(err, &about) {
		if text := ofStatus(err, about); text != "" {
			return text
		}
	}
	if about := (*hsmkeys.SimilarName)(nil); errors.As(err, &about) {
		return fmt.Sprintf("did you mean %q?", about.Name)
	}
	if about := (*hsmkeys.DoesNotOpen)(nil); errors.As(err, &about) {
		return fmt.Sprintf("another holder's token may open it: an owner makes it anew with hsmkeys rewrap --damaged %s, in a recovery the authority with hsmkeys recover --damaged", about.Name)
	}
	if about := (*hsmkeys.NotMember)(nil); errors.As(err, &about) {
		if about.Recovered {
			return "hsmkeys log of another member shows which backup authority did it; if this token is not lost, another owner removes the new one and adds this one again; hsmkeys decrypt --older-state opens files meanwhile"
		}
		return "an owner can add it again (" + roleCommand(about.Role) + " add); hsmkeys decrypt --older-state opens what it could open before"
	}
	if about := (*hsmkeys.NoSuchMember)(nil); errors.As(err, &about) {
		return roleCommand(about.Role) + " list shows them"
	}
	if about := (*hsmkeys.NotAccepted)(nil); errors.As(err, &about) {
		return fmt.Sprintf("hsmkeys accept %v shows it and asks", about.At)
	}
	if about := (*hsmkeys.PinFile)(nil); errors.As(err, &about) {
		return "put the file back from a copy, or delete it: the pin on the token counts then, and if that has none, hsmkeys join makes one"
	}
	return ""
}

// ofStatus returns a hint for a key that is not active.
func ofStatus(err error, about *hsmkeys.NotActive) string {
	switch {
	case errors.Is(err, hsmkeys.ErrBlobsLeft):
		again := "nobody who reads the state uses them; run hsmkeys destroy again when the store can delete"
		if missing := grant(err); missing != "" {
			again += ": " + missing
		}
		return again
	case errors.Is(err, hsmkeys.ErrNameDestroyed):
		return fmt.Sprintf("hsmkeys create %s --reuse-name makes a new key of that name", about.Ref.Name)
	case errors.Is(err, hsmkeys.ErrTransition):
		return fmt.Sprintf("hsmkeys history %s shows the status of each version", about.Ref.Name)
	case about.Status == ledger.Destroyed:
		return "it is lost, unless a backup of the store still has its blob and a holder's token opens that (docs/recovery.md)"
	case about.Status == ledger.Deactivated:
		return fmt.Sprintf("hsmkeys rotate %s makes a version that encrypts, hsmkeys activate %s lets this one", about.Ref.Name, about.Ref)
	case about.Status == ledger.Compromised:
		return fmt.Sprintf("hsmkeys rotate %s makes a version that encrypts", about.Ref.Name)
	}
	return ""
}

// roleCommand returns the command for members in a role.
func roleCommand(role blob.Role) string {
	if role == blob.BackupAuthority {
		return "hsmkeys authority"
	}
	return "hsmkeys owner"
}

func ofOpening(err error) string {
	switch {
	case errors.Is(err, hsmkeys.ErrNoKeyring):
		return "hsmkeys init founds one; is this the right --store?"
	case errors.Is(err, hsmkeys.ErrHasKeyring):
		return "the store has a keyring; choose another --store"
	case errors.Is(err, hsmkeys.ErrNotJoined):
		return "hsmkeys join --vouched-by CERTIFICATE, of an owner or backup authority who has signed a checkpoint; or the lists name another key that signs for this token (--signing-key); or somebody put another keyring into the storage"
	case errors.Is(err, ledger.ErrUnpinned):
		return "use the certificate of the signing key of an owner who has signed a checkpoint"
	case errors.Is(err, hsmkeys.ErrNotOwner):
		return "use the certificate of a current owner"
	case errors.Is(err, hsmkeys.ErrNotPinned):
		return "hsmkeys join, or --checkpoint with the checkpoint that another member shows"
	case errors.Is(err, hsmkeys.ErrTooOld):
		return "an owner's hsmkeys checkpoint --fresh makes a new one"
	case errors.Is(err, hsmkeys.ErrIsSigningKey):
		return "name its key exchange pair, and this one with --signing-key"
	case errors.Is(err, hsmkeys.ErrNeverNamed):
		return "an owner adds it (hsmkeys owner add or hsmkeys authority add), a recovery names it (hsmkeys recover --to)"
	case errors.Is(err, hsmkeys.ErrStateDir):
		return "XDG_STATE_HOME names a directory that this user can write to"
	case errors.Is(err, hsmkeys.ErrNoStateDir):
		return "set HOME or XDG_STATE_HOME to an absolute path"
	}
	return ""
}

func ofKeys(err error) string {
	switch {
	case errors.Is(err, hsmkeys.ErrNameTaken):
		return "hsmkeys rotate makes a new version of it"
	case errors.Is(err, hsmkeys.ErrNameDestroyed):
		return "hsmkeys create --reuse-name makes a new key of that name"
	case errors.Is(err, hsmkeys.ErrNewNameTaken):
		return "choose another name"
	case errors.Is(err, hsmkeys.ErrAsksPassword):
		return "rotate it by itself"
	case errors.Is(err, hsmkeys.ErrCompromised):
		return "hsmkeys reencrypt does that"
	case errors.Is(err, hsmkeys.ErrNoKeys):
		return "the keyring has no key; hsmkeys create NAME makes one"
	case errors.Is(err, hsmkeys.ErrNoSuchName):
		return "hsmkeys list shows the names"
	case errors.Is(err, hsmkeys.ErrLegacyUse):
		return "a legacy key only opens data of its time, elsewhere: hsmkeys load puts it on the token, hsmkeys reveal gives it to a program"
	case errors.Is(err, hsmkeys.ErrLegacyNew):
		return "keep it for the data that is there; hsmkeys create makes a key for new data"
	case errors.Is(err, hsmkeys.ErrFilePurpose):
		return `files are encrypted under a key with the purpose "wrap"`
	case errors.Is(err, hsmkeys.ErrNotExportable):
		return "stored AES and legacy keys can be exported; hsmkeys show tells what the key is"
	case errors.Is(err, hsmkeys.ErrVersionNumber):
		return "without a version the newest is meant"
	case errors.Is(err, hsmkeys.ErrNotHolder):
		return "hsmkeys show lists the holders; one who is an owner can rewrap it, an authority can recover it"
	case errors.Is(err, hsmkeys.ErrShortKey):
		return "recover it to an owner with an RSA pair, or reveal it with the authority's token"
	case errors.Is(err, hsmkeys.ErrEarlierRevision):
		return "hsmkeys rewrap --damaged makes it anew"
	case errors.Is(err, hsmkeys.ErrNotInState):
		return "hsmkeys merge takes it in"
	}
	return ""
}

func ofFiles(err error) string {
	switch {
	case errors.Is(err, hsmkeys.ErrFileToPair):
		return "it is to a key exchange pair, which anybody can encrypt to: hsmkeys decrypt --pair"
	case errors.Is(err, hsmkeys.ErrFileOfOthers):
		return "it is encrypted for somebody else, or with another tool"
	case errors.Is(err, hsmkeys.ErrFileUnderKey):
		return "it is under a key of the keyring: hsmkeys decrypt"
	case errors.Is(err, hsmkeys.ErrOtherKeyNamed):
		return "it was encrypted with another keyring; choose its --store"
	case errors.Is(err, hsmkeys.ErrNoPairCurve):
		return "encrypt under a key of the keyring: hsmkeys age recipient NAME"
	case errors.Is(err, hsmkeys.ErrSimpleBlob):
		return "it is for another pair, or with another padding (--oaep), or holds a key of another length or check value, or is damaged; which of these is not told, as that would help to open others"
	}
	return ""
}

func ofMembers(err error) string {
	switch {
	case errors.Is(err, hsmkeys.ErrSameKeys):
		return "a signing certificate is for members who sign with another key"
	case errors.Is(err, hsmkeys.ErrSignsItself):
		return "it is the key exchange pair itself: leave --signing-key out; or another owner removes this member and adds it with its signing certificate"
	case errors.Is(err, hsmkeys.ErrSigningKey):
		return "name it with --signing-key"
	case errors.Is(err, hsmkeys.ErrLabelTaken):
		return "choose another with --label"
	case errors.Is(err, hsmkeys.ErrIdentifierTaken):
		return "have a certificate issued with the identifier of its own key"
	case errors.Is(err, hsmkeys.ErrNeverMember):
		return "hsmkeys owner list and hsmkeys authority list show the members"
	case errors.Is(err, hsmkeys.ErrLastOwner):
		return "nobody could sign any more; add another owner first"
	case errors.Is(err, hsmkeys.ErrOwnPair):
		return "another owner removes it"
	case errors.Is(err, hsmkeys.ErrAuthorityActs):
		return "an owner's token can; the signature of an authority counts only in a recovery"
	case errors.Is(err, hsmkeys.ErrAuthoritySigned):
		return "the signature of an authority counts only in a recovery"
	case errors.Is(err, hsmkeys.ErrStranger):
		return "somebody put a blob into the storage that no member of this keyring has signed"
	case errors.Is(err, hsmkeys.ErrOwnerRecovers):
		return "an owner adds the new one (hsmkeys owner add), removes the old one, and rewraps"
	case errors.Is(err, hsmkeys.ErrRecoveredOwner):
		return "--from is the certificate of the owner whose token was lost"
	case errors.Is(err, hsmkeys.ErrRecoveryKey):
		return "name the new owner's certificates as they were when the recovery began"
	case errors.Is(err, hsmkeys.ErrSignedMeanwhile):
		return "maybe by the owner who is said to be lost: hsmkeys log shows by whom; start again to look at it again"
	}
	return ""
}

// ofStates returns hints for errors of package ledger.
func ofStates(err error) string {
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
