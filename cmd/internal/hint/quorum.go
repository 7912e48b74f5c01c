package hint

import (
	"errors"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// ofQuorums returns hints for errors about quorums, custodians and approvals.
func ofQuorums(err error) string {
	switch {
	case errors.Is(err, hsmkeys.ErrOwnerRehearses):
		return "run it with the token of a backup authority (--token), or with --quorum LABEL and its custodians"
	case errors.Is(err, hsmkeys.ErrNoCanary):
		return "an owner makes it, for nothing else: hsmkeys create canary"
	case errors.Is(err, hsmkeys.ErrCustodianNew):
		return "the first time a custodian's token needs --vouched-by CERTIFICATE, of an owner, from outside the storage"
	case errors.Is(err, hsmkeys.ErrNoCustodian):
		return "hsmkeys quorum list, with the token of a member, shows the custodians and their key ids; is this the right --token?"
	case errors.Is(err, hsmkeys.ErrSeveralQuorums):
		return "name the quorum: hsmkeys quorum check LABEL"
	case errors.Is(err, hsmkeys.ErrNoQuorum):
		return "hsmkeys quorum list shows the quorums, hsmkeys quorum create makes one"
	case errors.Is(err, hsmkeys.ErrMemberIsCustodian):
		return "a member opens every key by itself; a custodian's pair is one of its own, on any token (hsmkeys init --pair-only --label NAME)"
	case errors.Is(err, hsmkeys.ErrQuorumVouches):
		return "take the certificate of an owner, also of the one whose token was lost, or --checkpoint with what the machine that has recovered has printed"
	case errors.Is(err, hsmkeys.ErrSecondOwner):
		return "add --propose FILE, and have another owner run hsmkeys approve FILE"
	case errors.Is(err, hsmkeys.ErrQuorumOnly):
		return "hsmkeys recover --quorum LABEL, with the tokens of its custodians"
	case errors.Is(err, hsmkeys.ErrForCustodians):
		return "hsmkeys quorum approve, with the token of a custodian"
	case errors.Is(err, hsmkeys.ErrOwnProposal):
		return "another owner approves it, with hsmkeys approve"
	case errors.Is(err, blob.ErrPolicy):
		return "first add what the policy wants (hsmkeys owner add, hsmkeys quorum create), or change the policy (hsmkeys policy)"
	case errors.Is(err, hsmkeys.ErrApprovalsMissing):
		return "hsmkeys quorum list shows the custodians; each approves once"
	case errors.Is(err, hsmkeys.ErrProposal):
		return "have it made anew (--propose, or hsmkeys quorum request): it holds for the members as they were, and for a time"
	case errors.Is(err, ledger.ErrApproval):
		return "an approval serves for one proposal, and counts once"
	}
	return ""
}
