package hsmkeys

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/ledger"
	"github.com/hsmkeys/hsmkeys/token/sharing"
	"github.com/hsmkeys/hsmkeys/token/softpair"
)

// ProposeRecovery returns the proposal of a recovery by a quorum, for its custodians to approve until a
// time, not more than [MaxApproval] from now: the list of members that puts a new owner in the place of one whose pair was lost. They seal their
// shares to recipient, a key that the recovering machine has made for this recovery. The keyring needs no
// token. One that is only rehearsed, see [Keyring.Rehearse], is marked as such.
func (k *Keyring) ProposeRecovery(quorum blob.Member, from *x509.Certificate, to blob.Member, reason string, recipient *ecdh.PublicKey, expires time.Time, rehearsal bool) (blob.Proposal, error) {
	const op = "propose a recovery"
	old, err := k.ownerOf(from)
	if err != nil {
		return blob.Proposal{}, fmt.Errorf("%s: %w", op, err)
	}
	if err := checkMember(to); err != nil {
		return blob.Proposal{}, fmt.Errorf("%s to %q: %w", op, to.Label, err)
	}
	to.Role = blob.Owner
	if recorded, ok := k.recordedTo(quorum, old, to); ok && !rehearsal {
		return blob.Proposal{Expires: expires, List: recorded, Recovery: &blob.ProposedRecovery{Quorum: sha256.Sum256(quorum.Certificate.Raw), Recipient: recipient}}, nil
	}
	next := k.view().NextList()
	next.Number++
	digest := k.view().Head().Checkpoint().List.Digest
	next.Previous, next.Created = digest[:], time.Now()
	note := k.recoveryNote(next.Number, old, reason)
	note.Rehearsal = rehearsal
	if err := replaceOwner(&next, k.members(), to, note); err != nil {
		return blob.Proposal{}, fmt.Errorf("%s: %w", op, err)
	}
	return blob.Proposal{
		Expires: expires, List: next,
		Recovery: &blob.ProposedRecovery{Quorum: sha256.Sum256(quorum.Certificate.Raw), Recipient: recipient},
	}, nil
}

// MaxApproval is how long a custodian's approval can hold.
const MaxApproval = 366 * 24 * time.Hour

// recordedTo returns the list of members by which a quorum has put a new owner in the place of another
// already, without its approvals, if there is one: a recovery that was interrupted goes on with that.
func (k *Keyring) recordedTo(quorum blob.Member, old []byte, to blob.Member) (blob.MemberList, bool) {
	all := k.members()
	for number := all.List().Number; number > 1; number-- {
		l := all.ListNumber(number)
		if l.Recovery == nil || !bytes.Equal(l.Recovery.From, old) || keyID(all.RecoveredTo(number)) != keyID(to) || all.RecoveredBy(number) != sha256.Sum256(quorum.Certificate.Raw) {
			continue
		}
		l.Approvals = nil
		return l, true
	}
	return blob.MemberList{}, false
}

// A Gathering collects the approvals of a recovery by a quorum, and the shares of its private key, in the
// memory of the recovering machine.
type Gathering struct {
	Quorum blob.Member // as of the list of members before the recovery

	k         *Keyring
	proposal  blob.Proposal
	key       *softpair.Pair // to which the shares are sealed
	sharing   blob.Shares
	approvals map[int][]byte // by the index of the share, from 1
	shares    map[int][]byte
}

// Gather begins to collect the approvals of a proposal, with the private key of its recipient. Close must
// be called.
//
// The recovery may have been recorded already, by a process that was stopped: the same approvals serve to
// go on with it.
func (k *Keyring) Gather(ctx context.Context, p blob.Proposal, recipient *ecdh.PrivateKey) (*Gathering, error) {
	if p.Recovery == nil {
		return nil, fmt.Errorf("%w: it is no recovery", ErrProposal)
	}
	if !p.Recovery.Recipient.Equal(recipient.PublicKey()) {
		return nil, fmt.Errorf("%w: this machine has not made it", ErrProposal)
	}
	if recorded, err := k.isRecorded(p); err != nil {
		return nil, err
	} else if !recorded {
		if err := k.CheckProposal(p); err != nil {
			return nil, err
		}
	}
	before := k.members().ListNumber(p.List.Number - 1).Members
	i := slices.IndexFunc(before, func(m blob.Member) bool {
		return m.Quorum != nil && sha256.Sum256(m.Certificate.Raw) == p.Recovery.Quorum
	})
	if i < 0 {
		return nil, fmt.Errorf("%w: its quorum is none of this keyring", ErrProposal)
	}
	g := &Gathering{Quorum: before[i], k: k, proposal: p, approvals: map[int][]byte{}, shares: map[int][]byte{}}
	private, err := ecdsa.ParseRawPrivateKey(elliptic.P384(), recipient.Bytes())
	if err != nil {
		return nil, err
	}
	if g.key, err = softpair.New(private); err != nil {
		return nil, err
	}
	g.sharing, err = k.shares(ctx, g.Quorum)
	return g, err
}

// isRecorded reports whether the list of members of a proposal is in force, or was.
func (k *Keyring) isRecorded(p blob.Proposal) (bool, error) {
	if p.List.Number > k.ListNumber() {
		return false, nil
	}
	want, err := blob.ProposedDigest(p.List)
	if err != nil {
		return false, err
	}
	there, err := blob.ProposedDigest(k.members().ListNumber(p.List.Number))
	return there == want, err
}

// Add takes an approval, and returns the custodian who has made it. An approval that is not for this
// recovery, or of a custodian whose approval is there, is a [ledger.ErrApproval]; a share that does not
// fit is a [blob.ErrIntegrity]. Each error names the custodian, as far as the signature tells who it is.
func (g *Gathering) Add(ctx context.Context, a Approval) (blob.Member, error) {
	at := time.Now()
	if recorded, err := g.k.isRecorded(g.proposal); err != nil {
		return blob.Member{}, err
	} else if recorded {
		at = time.Time{} // it was in time
	}
	who, approved, err := g.k.view().CheckApproval(a.Signed, g.proposal.List, g.Quorum, at)
	if err != nil {
		return blob.Member{}, err
	}
	refuse := func(err error) (blob.Member, error) {
		return blob.Member{}, fmt.Errorf("custodian %q: %w", who.Label, err)
	}
	index := 1 + slices.IndexFunc(g.Quorum.Quorum.Custodians, func(c blob.Member) bool { return keyID(c) == keyID(who) })
	if g.approvals[index] != nil {
		return refuse(fmt.Errorf("its approval is there already: %w", ledger.ErrApproval))
	}
	if err := g.checkApproved(approved, a.Share); err != nil {
		return refuse(err)
	}
	share, err := sharing.Open(ctx, g.key, sealedOf(a.Share))
	if err != nil {
		return refuse(fmt.Errorf("%w: %w", blob.ErrIntegrity, err))
	}
	if err := sharing.Check(index, share, g.sharing.Commitments); err != nil {
		clear(share)
		return refuse(fmt.Errorf("%w: %w", blob.ErrIntegrity, err))
	}
	g.approvals[index], g.shares[index] = bytes.Clone(a.Signed), share
	return who, nil
}

// checkApproved checks that an approval, whose signature was verified, is for this machine and for the
// share that came with it.
func (g *Gathering) checkApproved(approved blob.Approval, share blob.Sealed) error {
	want, err := approvedOf(g.proposal, share)
	if err != nil {
		return err
	}
	switch of := approved.Quorum; {
	case of.Recipient != want.Recipient:
		return fmt.Errorf("the approval is for another machine: %w", ledger.ErrApproval)
	case of.Share != want.Share:
		return fmt.Errorf("the share is not the one that came with the approval: %w", blob.ErrIntegrity)
	}
	return nil
}

// Trusted returns the checkpoint that the recovering machine trusts.
func (g *Gathering) Trusted() ledger.Point { return g.k.view().At() }

// Missing returns how many more approvals are needed.
func (g *Gathering) Missing() int { return max(g.Quorum.Quorum.Threshold-len(g.shares), 0) }

// Pair puts the quorum's private key together. It is in memory for as long as the pair is used.
func (g *Gathering) Pair() (Pair, error) {
	if n := g.Missing(); n > 0 {
		return nil, fmt.Errorf("quorum %q: %d of %d: %w", g.Quorum.Label, n, g.Quorum.Quorum.Threshold, ErrApprovalsMissing)
	}
	return sharing.Combine(g.shares, g.sharing.Commitments)
}

// Close overwrites the shares.
func (g *Gathering) Close() {
	for _, share := range g.shares {
		clear(share)
	}
	clear(g.shares)
}

// BeginApproved records the recovery that a quorum's custodians have approved, in a keyring that was opened
// with the quorum's pair, see [Gathering.Pair]. A recovery that was recorded already is taken up again.
// What owners have recorded since does not matter, as long as they have not changed the members: then the
// error is an [ErrProposal].
func (k *Keyring) BeginApproved(ctx context.Context, g *Gathering) (r *Recovery, err error) {
	p := g.proposal
	to := p.List.Recovery
	err = k.recorder.changing(ctx, Use{Operation: OpBeginRecovery, To: g.Quorum.Label}, to.Reason, func(ctx context.Context, _ *intent) (err error) {
		r, err = k.beginApproved(ctx, g)
		return err
	})
	return r, err
}

func (k *Keyring) beginApproved(ctx context.Context, g *Gathering) (*Recovery, error) {
	const op = "begin the recovery"
	list := g.proposal.List
	r := &Recovery{k, *list.Recovery}
	if recorded, err := k.isRecorded(g.proposal); err != nil || recorded {
		return r, err
	}
	if err := k.maySign(op); err != nil {
		return nil, err
	}
	for _, approval := range g.approvals {
		list.Approvals = append(list.Approvals, approval)
	}
	slices.SortFunc(list.Approvals, bytes.Compare)
	err := k.recordOther(ctx, ledger.Proposal{List: func(l *ledger.Ledger) (*blob.MemberList, error) {
		if now := l.Head().Checkpoint().List; now.Number+1 != list.Number || !bytes.Equal(now.Digest[:], list.Previous) {
			return nil, fmt.Errorf("%w: the members have changed since: list %d is in force", ErrProposal, now.Number)
		}
		return &list, nil
	}}, onToken)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", op, err)
	}
	return r, nil
}
