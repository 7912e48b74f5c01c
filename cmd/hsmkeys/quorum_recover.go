package main

import (
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/proposal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// lastSignedRow returns when an owner who is said to be lost has last signed.
func lastSignedRow(ctx context.Context, k *hsmkeys.Keyring, old blob.Member) ([][]string, error) {
	last, err := k.LastSigned(ctx, old)
	if err != nil {
		return nil, err
	}
	row := []string{"  last signed", "nothing that is there"}
	if last.At.Number > 0 {
		row[1] = fmt.Sprintf("checkpoint %d, on %s", last.At.Number, text.Time(last.Created))
	}
	return [][]string{row}, nil
}

// A quorumRecovery is a recovery by a quorum, and the keyring as the recovering machine sees it.
type quorumRecovery struct {
	s      *settings.Settings
	store  place.Store
	k      *hsmkeys.Keyring // without a token
	quorum blob.Member
	from   *x509.Certificate
	to     blob.Member
	reason string

	rehearsal bool
}

// withQuorumRecovery opens the keyring as a certificate from outside the storage vouches for it, reads
// what is to be recovered from the command line, has it confirmed, and calls f.
func withQuorumRecovery(ctx context.Context, s *settings.Settings, c *cli.Context, label string, f func(*quorumRecovery) error) error {
	r := &quorumRecovery{s: s, reason: c.String("reason")}
	if err := blob.ValidReason(r.reason); err != nil {
		return failure.Usage("--reason %v", err)
	}
	var err error
	if r.to, err = memberFrom(c.String("to"), memberOptionsOf(c), blob.Owner); err != nil {
		return err
	}
	if r.from, err = certificateOrLabel(c.String("from")); err != nil {
		return err
	}
	voucher := r.from
	if path := c.String("vouched-by"); path != "" {
		if voucher, err = keyfile.ReadCertificate(path); err != nil {
			return err
		}
	}
	if voucher == nil {
		return failure.Usage("--from %q is no file; with a label, --vouched-by CERTIFICATE tells which keyring it is", c.String("from"))
	}
	if r.store, err = session.OpenStore(ctx, s); err != nil {
		return err
	}
	defer r.store.Close()
	if err := r.open(ctx, voucher, label); err != nil {
		return err
	}
	if r.from == nil {
		old, err := r.k.Member(blob.Owner, c.String("from"))
		if err != nil {
			return meantMember(r.k, blob.Owner, c.String("from"), fmt.Errorf("--from: %w", err))
		}
		r.from = old.Certificate
	}
	if err := r.confirm(ctx, voucher, c.Bool("yes")); err != nil {
		return err
	}
	return f(r)
}

// open opens the keyring of the store as a certificate vouches for it, and finds the quorum.
func (r *quorumRecovery) open(ctx context.Context, voucher *x509.Certificate, label string) error {
	o, err := session.Options(r.s, r.store)
	if err != nil {
		return err
	}
	o.Voucher = voucher
	if r.k, err = hsmkeys.OpenVouched(ctx, o); err != nil {
		return session.ExplainCheckpoint(o, err)
	}
	r.quorum, err = r.k.Quorum(label)
	return err
}

// confirm shows whose keys go to whom, and why the keyring is trusted.
func (r *quorumRecovery) confirm(ctx context.Context, voucher *x509.Certificate, yes bool) error {
	old, err := r.k.MemberWith(r.from.PublicKey)
	if err != nil {
		return fmt.Errorf("--from: %w", err)
	}
	vouched, err := show.VoucherRows(r.k, voucher)
	if err != nil {
		return err
	}
	if yes {
		show.WarnFormerVoucher(r.k, voucher)
	}
	last, err := lastSignedRow(ctx, r.k, old)
	if err != nil {
		return err
	}
	opens, all, _, err := r.k.HeldBy(ctx, func(m blob.Member) bool { return m.Certificate.Equal(r.quorum.Certificate) })
	if err != nil {
		return err
	}
	keys := fmt.Sprintf("%d of %s are wrapped to the quorum", opens, text.Plural(all, "version", "versions"))
	if opens < all {
		message.Warn(fmt.Errorf("%s: it cannot recover the others (an owner who is left brings them with hsmkeys rewrap)", keys))
	}
	shown := slices.Concat(show.Party("from", old), last, show.Party("to", r.to), vouched,
		[][]string{{"keyring", fmt.Sprintf("%s, checkpoint %d, list of members %d", r.k.ID(), r.k.State().At.Number, r.k.State().List)}}, show.KeyringRows(r.k),
		[][]string{{"by", "quorum " + text.Printable(r.quorum.Label)}}, show.QuorumRows(r.quorum), [][]string{{"keys", keys}, {"reason", text.Printable(r.reason)}})
	return confirm.Ask(ctx, yes, shown, "Ask the custodians to put the new owner in the place of the old one?")
}

// propose makes the proposal, and the key to which custodians seal their shares.
func (r *quorumRecovery) propose(expires time.Time) (blob.Proposal, *ecdh.PrivateKey, error) {
	key, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		return blob.Proposal{}, nil, err
	}
	p, err := r.k.ProposeRecovery(r.quorum, r.from, r.to, r.reason, key.PublicKey(), expires, r.rehearsal)
	return p, key, err
}

// inPersonFor is how long the approvals of custodians who come to one machine hold.
const inPersonFor = 24 * time.Hour

// recoverInPerson recovers with custodians who come to this machine one after the other.
func recoverInPerson(ctx context.Context, s *settings.Settings, c *cli.Context) error {
	tokens, yes := c.StringSlice("custodian"), c.Bool("yes")
	if err := mayGather(tokens, yes); err != nil {
		return err
	}
	return withQuorumRecovery(ctx, s, c, c.String("quorum"), func(r *quorumRecovery) error {
		g, err := r.gather(ctx, inPersonFor, tokens, yes)
		if err != nil {
			return err
		}
		defer g.Close()
		return finishRecovery(ctx, s, r.store, r.k, g, c.Args().Slice())
	})
}

// recoverRequested recovers with approvals of a request.
func recoverRequested(ctx context.Context, s *settings.Settings, c *cli.Context) error {
	for _, name := range []string{"from", "to", "quorum", "vouched-by", "label", "signing-certificate", "reason", "damaged"} {
		if c.IsSet(name) {
			return failure.Usage("--%s is in the request: --request takes --approval, --custodian, and names of keys", name)
		}
	}
	p, err := proposal.Read(c.String("request"))
	if err != nil {
		return err
	}
	if p.Recovery == nil {
		return failure.UsageHint("hsmkeys approve, with the token of an owner", "%s is no recovery, but an owner's proposal", c.String("request"))
	}
	key, err := proposal.KeyOf(p)
	if err != nil {
		return err
	}
	if err := confirm.Possible(c.Bool("yes")); err != nil {
		return err
	}
	store, err := session.OpenStore(ctx, s)
	if err != nil {
		return err
	}
	defer store.Close()
	o, err := session.Options(s, store)
	if err != nil {
		return err
	}
	o.Checkpoint = &key.Trusted
	k, err := hsmkeys.OpenVouched(ctx, o)
	if err != nil {
		return session.ExplainCheckpoint(o, err)
	}
	lockMemory()
	g, err := k.Gather(ctx, p, key.Private)
	if err != nil {
		return err
	}
	defer g.Close()
	var refused error
	for _, path := range c.StringSlice("approval") {
		a, err := proposal.ReadApproval(path)
		if err != nil {
			return err
		}
		who, err := g.Add(ctx, a)
		if err != nil {
			err = fmt.Errorf("%s: %w", path, err)
			message.Error(err) // others may be enough
			refused = errors.Join(refused, failure.ErrReported, err)
			continue
		}
		message.Note("%s: approved by %s", path, text.Printable(who.Label))
	}
	if tokens := c.StringSlice("custodian"); len(tokens) > 0 && g.Missing() > 0 {
		if err := gatherHere(ctx, s, g, p, tokens, c.Bool("yes")); err != nil {
			return err
		}
	}
	if g.Missing() > 0 {
		return errors.Join(refused, nothingDone(g, refused))
	}
	if err := confirmApproved(ctx, k, g, p, c.Bool("yes")); err != nil {
		return err
	}
	if err := finishRecovery(ctx, s, store, k, g, c.Args().Slice()); err != nil {
		return err
	}
	if c.Args().Present() { // the other keys may be recovered later
		return nil
	}
	return proposal.Forget(p)
}

// confirmApproved shows what custodians have approved, before it is done.
func confirmApproved(ctx context.Context, k *hsmkeys.Keyring, g *hsmkeys.Gathering, p blob.Proposal, yes bool) error {
	from, to := k.RecoveryOf(p)
	shown := slices.Concat(show.Party("from", from), show.Party("to", to), [][]string{
		{"keyring", k.ID().String()}, {"by", "quorum " + text.Printable(g.Quorum.Label)}, {"reason", text.Printable(p.List.Recovery.Reason)},
	})
	return confirm.Ask(ctx, yes, shown, "Put the new owner in the place of the old one, and bring it the keys?")
}

// openWithQuorum puts the quorum's key together, and opens the keyring with it.
func openWithQuorum(ctx context.Context, s *settings.Settings, store place.Store, k *hsmkeys.Keyring, g *hsmkeys.Gathering) (*hsmkeys.Keyring, error) {
	pair, err := g.Pair()
	if err != nil {
		return nil, err
	}
	o, err := session.Options(s, store)
	if err != nil {
		return nil, err
	}
	at := k.State().At
	o.Pair, o.Checkpoint = pair, &at
	q, err := hsmkeys.Join(ctx, o)
	return q, session.Explain(err)
}

// finishRecovery puts the quorum's key together, and recovers with it.
func finishRecovery(ctx context.Context, s *settings.Settings, store place.Store, k *hsmkeys.Keyring, g *hsmkeys.Gathering, names []string) error {
	q, err := openWithQuorum(ctx, s, store, k, g)
	if err != nil {
		return err
	}
	refs, err := q.Versions(ctx, names...)
	if err != nil {
		return err
	}
	begun, err := q.BeginApproved(ctx, g)
	if err != nil {
		return err
	}
	if !s.JSON {
		if err := output.Line("list of members %d: owner %s in the place of %s, key %s", begun.Number(), text.Printable(begun.To().Label), text.Printable(begun.Lost().Label), begun.From()); err != nil {
			return err
		}
	}
	t, err := tally.Run(begun.Keys(ctx, refs), len(refs), "recover", nil)
	if err := errors.Join(t.Print(s, "recovered", "done before", ""), err); err != nil {
		return err
	}
	if s.JSON {
		return nil
	}
	at := q.State().At
	if err := output.Line("the new owner joins with this checkpoint, or with the certificate of the lost one: hsmkeys --checkpoint %v join", at); err != nil {
		return err
	}
	if len(names) > 0 {
		message.Note("other keys are still to be recovered: run it again without names")
		return nil
	}
	message.Note("the private key of the quorum was in the memory of this machine: once the new owner has run hsmkeys rewrap, it replaces it with hsmkeys quorum replace %s", text.ShellQuote(g.Quorum.Label))
	return nil
}
