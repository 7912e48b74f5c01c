package hsmkeys

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/token/sharing"
)

// A Custodian is a keyring as the custodian of a quorum sees it, who is no member: it can prove that its
// token opens its share, and approve a recovery.
type Custodian struct {
	Quorum blob.Member
	Self   blob.Member

	k     *Keyring
	index int // of the share, from 0
}

// A QuorumName names a quorum, by its label or by the SHA-256 of its certificate; the zero value names the
// only one.
type QuorumName struct {
	Label       string
	Certificate [sha256.Size]byte
}

func (n QuorumName) of(m blob.Member) bool {
	return m.Quorum != nil && (n.Label == "" || n.Label == m.Label) && (n.Certificate == [sha256.Size]byte{} || n.Certificate == sha256.Sum256(m.Certificate.Raw))
}

// OpenCustodian opens a keyring with the token of a custodian of a quorum.
//
// Trust starts at the pin, as in [Open]. A token that has no pin yet needs a Voucher or a Checkpoint, as
// in [Join], and pins the head. Recoveries since the pin have to be accepted, see [Custodian.Accept].
func OpenCustodian(ctx context.Context, o Options, of QuorumName) (*Custodian, error) {
	k, err := openAnybody(ctx, o, false)
	if err == nil && k.state.Older != nil {
		err = k.Trusted()
	}
	if errors.Is(err, ErrNotJoined) {
		err = withFacts(err, ErrCustodianNew)
	}
	if err != nil {
		return nil, recorderOf(o).refused(ctx, Use{Operation: OpOpen, Keyring: o.Keyring}, "", err)
	}
	c, err := k.custodian(of)
	if err != nil {
		return nil, err
	}
	if o.Voucher != nil {
		if err := k.checkVoucher(o.Voucher); err != nil {
			return nil, err
		}
	}
	if k.state.Before.Number == 0 { // the first time, all recoveries so far are accepted
		k.acceptRecoveries()
	}
	k.state.Unpinned = k.state.Unpinned && o.Voucher == nil && o.Checkpoint == nil
	if len(k.state.Recoveries) > 0 || k.state.Unpinned {
		return c, nil
	}
	return c, k.keepPin(ctx, onToken)
}

// custodian returns the custodian that the pair is.
func (k *Keyring) custodian(of QuorumName) (*Custodian, error) {
	var found []*Custodian
	for _, m := range k.Members() {
		if !of.of(m) {
			continue
		}
		i := slices.IndexFunc(m.Quorum.Custodians, func(c blob.Member) bool { return keyID(c) == string(k.self) })
		if i >= 0 {
			found = append(found, &Custodian{Quorum: m, Self: m.Quorum.Custodians[i], k: k, index: i})
		}
	}
	switch {
	case len(found) == 1:
		return found[0], nil
	case len(found) > 1:
		return nil, withFacts(fmt.Errorf("this token's pair is a custodian of several quorums: %w", blob.ErrNotFound), ErrSeveralQuorums)
	case of.Label != "":
		if _, err := k.Quorum(of.Label); err != nil {
			return nil, err
		}
	}
	return nil, withFacts(fmt.Errorf("list of members %d: this token's pair is no custodian's: %w", k.ListNumber(), blob.ErrUntrusted), ErrNoCustodian)
}

// Keyring returns the keyring. It can be looked at, and opens and signs nothing.
func (c *Custodian) Keyring() *Keyring { return c.k }

// Accept accepts the recoveries that State of the keyring has, and pins the head.
func (c *Custodian) Accept(ctx context.Context) error {
	return c.k.recorder.changing(ctx, Use{Operation: OpAccept}, "", func(ctx context.Context, i *intent) error {
		i.about(Use{}, c.k.view().At())
		if err := i.begin(Use{}); err != nil {
			return err
		}
		c.k.acceptRecoveries()
		return c.k.keepPin(ctx, onToken)
	})
}

// Check opens the custodian's share, holds it against the commitments, and stores a signed proof that it
// has done so, which [Keyring.Coverage] counts.
func (c *Custodian) Check(ctx context.Context) error {
	return c.k.recorder.changing(ctx, Use{Operation: OpProve, To: c.Quorum.Label}, "", func(ctx context.Context, i *intent) error {
		if err := c.maySign("record proofs"); err != nil {
			return err
		}
		if err := i.begin(Use{}); err != nil {
			return err
		}
		s, share, err := c.share(ctx)
		if err != nil {
			return err
		}
		clear(share)
		now := time.Now()
		p := blob.Proof{KeyringID: c.k.ID(), Created: now, Opened: []blob.Opened{{Blob: c.Quorum.Quorum.Shares, KeyID: s.ID}}}
		signed, err := blob.SignProof(p, c.signs(), now)
		if err != nil {
			return err
		}
		err = c.k.store.Put(ctx, blob.ProofPath(c.k.signer, signed.Digest()), signed.Bytes())
		if errors.Is(err, blob.ErrExists) {
			err = nil // this very proof
		}
		return err
	})
}

// share returns the shares of the quorum, and the custodian's own, which the caller must overwrite.
func (c *Custodian) share(ctx context.Context) (blob.Shares, []byte, error) {
	s, err := c.k.shares(ctx, c.Quorum)
	if err != nil {
		return s, nil, err
	}
	share, err := ownShare(ctx, c.k.pair, s, c.index)
	if err != nil {
		return s, nil, fmt.Errorf("share of the custodian %q: %w", c.Self.Label, err)
	}
	return s, share, nil
}

// maySign returns an error if the state was not accepted, or if the list of members has another signing
// key for the custodian.
func (c *Custodian) maySign(doing string) error {
	if err := c.k.Trusted(); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	if known := signerID(c.Self); known != string(c.k.signer) {
		return fmt.Errorf("%s: %w: %x, and not %x", doing, ErrSigningKey, known, c.k.signer)
	}
	return nil
}

func (c *Custodian) signs() blob.Signer {
	return signerOf(c.k.pair, c.Self.Signing, c.Self.Certificate)
}

// An Approval is a custodian's approval of a recovery, with the share that goes to the recovering machine.
type Approval struct {
	Signed []byte      // the signed [blob.Approval]
	Share  blob.Sealed // the custodian's share, sealed to the machine's key
}

// Approve approves a recovery: it signs that, and seals the custodian's share to the key of the recovering
// machine. The caller has shown the proposal to a person. The error is an [ErrProposal] if the proposal
// does not follow the state that the token knows, or has expired.
func (c *Custodian) Approve(ctx context.Context, p blob.Proposal) (a Approval, err error) {
	err = c.k.recorder.changing(ctx, Use{Operation: OpApprove, To: c.Quorum.Label}, reasonOf(p), func(ctx context.Context, i *intent) (err error) {
		if err := c.mayApprove(p); err != nil {
			return err
		}
		if err := i.begin(Use{}); err != nil {
			return err
		}
		a, err = c.approve(ctx, p)
		return err
	})
	return a, err
}

func reasonOf(p blob.Proposal) string {
	if p.List.Recovery == nil {
		return ""
	}
	return p.List.Recovery.Reason
}

// mayApprove returns an error unless the custodian may approve a proposal.
func (c *Custodian) mayApprove(p blob.Proposal) error {
	if err := c.maySign("approve a recovery"); err != nil {
		return err
	}
	if p.Recovery == nil {
		return fmt.Errorf("%w: it is no recovery", ErrProposal)
	}
	if p.Recovery.Quorum != sha256.Sum256(c.Quorum.Certificate.Raw) {
		return fmt.Errorf("%w: it is for another quorum than %q", ErrProposal, c.Quorum.Label)
	}
	if p.Expires.After(time.Now().Add(MaxApproval)) {
		return fmt.Errorf("%w: it would hold until %s", ErrProposal, p.Expires.Format(time.RFC3339))
	}
	if recorded, err := c.k.isRecorded(p); err != nil || recorded && !time.Now().After(p.Expires) {
		return err // it goes on, maybe on another machine
	}
	return c.k.CheckProposal(p)
}

// MayApprove returns an [ErrProposal] if [Custodian.Approve] would refuse a proposal. Recorded reports whether
// the recovery was recorded already, and only the keys are to be recovered.
func (c *Custodian) MayApprove(p blob.Proposal) (recorded bool, err error) {
	if err := c.mayApprove(p); err != nil {
		return false, err
	}
	return c.k.isRecorded(p)
}

func (c *Custodian) approve(ctx context.Context, p blob.Proposal) (Approval, error) {
	_, share, err := c.share(ctx)
	if err != nil {
		return Approval{}, err
	}
	defer clear(share)
	to, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), p.Recovery.Recipient.Bytes())
	if err != nil {
		return Approval{}, err
	}
	sealed, err := sharing.Seal(ctx, share, to, 0)
	if err != nil {
		return Approval{}, err
	}
	id, err := blob.PublicKeyID(to)
	if err != nil {
		return Approval{}, err
	}
	a := Approval{Share: sealedTo(string(id), sealed)}
	approved, err := approvedOf(p, a.Share)
	if err != nil {
		return Approval{}, err
	}
	a.Signed, err = signApproval(p, approved, c.signs())
	return a, err
}

// approvedOf returns what a custodian approves beyond the list of members.
func approvedOf(p blob.Proposal, share blob.Sealed) (*blob.Approved, error) {
	recipient, err := p.Recovery.RecipientInfo()
	if err != nil {
		return nil, err
	}
	der, err := share.Marshal()
	return &blob.Approved{Certificate: p.Recovery.Quorum, Recipient: sha256.Sum256(recipient), Share: sha256.Sum256(der)}, err
}

// signApproval signs the approval of a proposal.
func signApproval(p blob.Proposal, of *blob.Approved, signer blob.Signer) ([]byte, error) {
	proposed, err := blob.ProposedDigest(p.List)
	if err != nil {
		return nil, err
	}
	now := time.Now()
	signed, err := blob.SignApproval(blob.Approval{
		KeyringID: p.List.KeyringID, Created: now, Expires: p.Expires, List: [sha256.Size]byte(p.List.Previous), Proposed: proposed, Quorum: of,
	}, signer, now)
	if err != nil {
		return nil, err
	}
	return signed.Bytes(), nil
}
