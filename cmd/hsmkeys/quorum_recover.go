package main

import (
	"bufio"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"
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
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func quorumRequestCommand() *cli.Command {
	return &cli.Command{
		Name: "request", Usage: "begin a recovery whose custodians are far apart: write what each of them approves", ArgsUsage: "[LABEL]",
		Description: "Run it on the machine that will recover, offline and from read-only media. It keeps a private key for this\n" +
			"recovery, until hsmkeys recover --request has used it. It needs no token.",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "from", Usage: "`CERTIFICATE` of the owner whose token was lost, or its label"},
			&cli.StringFlag{Name: "to", Usage: "`CERTIFICATE` of the new owner"},
			&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; it is signed with every key"},
			&cli.StringFlag{Name: "withdraw", Usage: "only delete the private key of the request in `FILE`: its approvals are of no use then"},
			voucherFlag(), memberLabelFlag(), signingFlag(), expiresFlag(), outputFlag(), yesFlag(),
		},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.IsSet("withdraw") {
				return withdraw(c)
			}
			label, err := quorumArgument(c)
			if err != nil {
				return err
			}
			for _, name := range []string{"from", "to", "reason"} {
				if c.String(name) == "" {
					return failure.Usage("quorum request needs --from CERTIFICATE, --to CERTIFICATE and --reason WORDS")
				}
			}
			for_, err := expires(c)
			if err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return withQuorumRecovery(ctx, s, c, label, func(r *quorumRecovery) error {
				p, key, err := r.propose(time.Now().Add(for_))
				if err != nil {
					return err
				}
				if err := (proposal.Key{Private: key, Trusted: r.k.State().At}).Keep(p); err != nil {
					return err
				}
				out := c.String("output")
				if err := proposal.Write(ctx, out, p); err != nil {
					return errors.Join(err, proposal.Forget(p))
				}
				print, err := proposal.Fingerprint(p)
				if err != nil {
					return err
				}
				if out == "" || out == "-" {
					message.Note("request %s: read it out to each custodian", print)
					return nil
				}
				if s.JSON {
					return output.JSON(map[string]any{"request": out, "fingerprint": print, "expires": text.Time(p.Expires), "needed": r.quorum.Quorum.Threshold})
				}
				if err := output.Line("request %s: read it out to each custodian, with the fingerprint of the new owner, over another channel", print); err != nil {
					return err
				}
				return output.Line("%d custodians of %s approve it until %s: hsmkeys quorum approve %s -o APPROVAL; then here: hsmkeys recover --request %s --approval APPROVAL…",
					r.quorum.Quorum.Threshold, text.Printable(r.quorum.Label), text.Time(p.Expires), text.ShellQuote(out), text.ShellQuote(out))
			})
		}),
	}
}

// withdraw deletes the private key of a request.
func withdraw(c *cli.Context) error {
	if c.NArg() > 0 || c.IsSet("from") || c.IsSet("to") || c.IsSet("reason") || c.IsSet("output") {
		return failure.Usage("--withdraw takes the file of the request, and nothing else")
	}
	p, err := proposal.Read(c.String("withdraw"))
	if err != nil {
		return err
	}
	if _, err := proposal.KeyOf(p); err != nil {
		return err
	}
	if err := proposal.Forget(p); err != nil {
		return err
	}
	return output.Line("the private key of the request is deleted: its approvals are of no use now")
}

func quorumApproveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "with a custodian's token: approve a recovery, and seal the share to the machine that recovers", ArgsUsage: "REQUEST",
		Description: "Compare the fingerprint of the new owner, and ask whether the old one is lost, over another channel than the\n" +
			"one by which the request came. The approval serves for this one recovery and this one machine.",
		Flags: []cli.Flag{outputFlag(), voucherFlag(), yesFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			path, err := oneArgument(c, "the file of a REQUEST")
			if err != nil {
				return err
			}
			p, err := proposal.Read(path)
			if err != nil {
				return err
			}
			if p.Recovery == nil {
				return failure.UsageHint("hsmkeys approve, with the token of an owner", "%s is no recovery, but an owner's proposal", path)
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			as := session.AsCustodian{Quorum: hsmkeys.QuorumName{Certificate: p.Recovery.Quorum}, VouchedBy: c.String("vouched-by"), Yes: c.Bool("yes"), Recoveries: recoveryRows}
			return session.WithCustodian(ctx, s, as, func(q *hsmkeys.Custodian) error {
				a, err := askCustodian(ctx, q, p, c.Bool("yes"))
				if err != nil {
					return err
				}
				out := c.String("output")
				if err := proposal.WriteApproval(ctx, out, a); err != nil || out == "" || out == "-" {
					return err
				}
				if s.JSON {
					return output.JSON(map[string]any{"approval": out, "custodian": q.Self.Label, "expires": text.Time(p.Expires)})
				}
				return output.Line("%s has approved the recovery; the machine that recovers needs %s", text.Printable(q.Self.Label), text.Printable(out))
			})
		}),
	}
}

// askCustodian shows a custodian what is asked, and approves it.
func askCustodian(ctx context.Context, q *hsmkeys.Custodian, p blob.Proposal, yes bool) (hsmkeys.Approval, error) {
	recorded, err := q.MayApprove(p)
	if err != nil {
		return hsmkeys.Approval{}, err
	}
	print, err := proposal.Fingerprint(p)
	if err != nil {
		return hsmkeys.Approval{}, err
	}
	from, to := q.Keyring().RecoveryOf(p)
	last, err := lastSignedRow(ctx, q.Keyring(), from)
	if err != nil {
		return hsmkeys.Approval{}, err
	}
	shown := slices.Concat([][]string{{"keyring", q.Keyring().ID().String()}, {"asked", text.Printable(q.Self.Label) + ", custodian of " + text.Printable(q.Quorum.Label)}},
		show.Party("from", from), last, show.Party("to", to),
		[][]string{{"reason", text.Printable(p.List.Recovery.Reason)}, {"asked on", text.Time(p.List.Created)}, {"expires", text.Time(p.Expires)}, {"request", print}})
	if recorded {
		shown = append(shown, []string{"recorded", fmt.Sprintf("by list of members %d: the new owner is in force, and keys are still to be recovered", p.List.Number)})
	}
	if err := confirm.Ask(ctx, yes, shown, "Approve that the new owner gets every key, in the place of the old one?"); err != nil {
		return hsmkeys.Approval{}, err
	}
	return q.Approve(ctx, p)
}

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
	if err != nil {
		return p, nil, err
	}
	// As others will read it: to the second.
	der, err := blob.MarshalProposal(p)
	if err != nil {
		return p, nil, err
	}
	p, err = blob.ParseProposal(der)
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

// gather has custodians come to this machine until there are enough of them. The caller closes what it
// returns.
func (r *quorumRecovery) gather(ctx context.Context, within time.Duration, tokens []string, yes bool) (*hsmkeys.Gathering, error) {
	lockMemory()
	p, key, err := r.propose(time.Now().Add(within))
	if err != nil {
		return nil, err
	}
	g, err := r.k.Gather(ctx, p, key)
	if err != nil {
		return nil, err
	}
	if err := gatherHere(ctx, r.s, g, p, tokens, yes); err != nil {
		g.Close()
		return nil, err
	}
	return g, nil
}

// mayGather returns an error if custodians can come to this machine neither by --custodian nor at a
// terminal.
func mayGather(tokens []string, yes bool) error {
	if len(tokens) > 0 {
		return confirm.Possible(yes)
	}
	tty, err := terminal.Open()
	if err != nil {
		return failure.Usage("there is no terminal to ask the custodians at; --custodian TOKEN names the token of each, or use hsmkeys quorum request")
	}
	return tty.Close()
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

// gatherHere has custodians come to this machine one after the other until there are enough of them.
func gatherHere(ctx context.Context, s *settings.Settings, g *hsmkeys.Gathering, p blob.Proposal, tokens []string, yes bool) error {
	var failed error
	for ctx.Err() == nil && g.Missing() > 0 {
		var label string
		switch {
		case len(tokens) > 0:
			label, tokens = tokens[0], tokens[1:]
		case failed != nil && yes:
			return failed
		default:
			var err error
			if label, err = askForToken(ctx, g); err != nil {
				return errors.Join(failed, err)
			}
		}
		if err := oneCustodian(ctx, s, g, p, label, yes); err != nil {
			message.Error(err) // another one may come
			failed = errors.Join(failed, failure.ErrReported, err)
		}
		if len(tokens) == 0 && g.Missing() > 0 && terminalGone() {
			return errors.Join(failed, nothingDone(g, failed))
		}
	}
	return ctx.Err()
}

// nothingDone returns the error for too few approvals. If others were printed before it, it is printed too.
func nothingDone(g *hsmkeys.Gathering, printed error) error {
	_, err := g.Pair()
	err = fmt.Errorf("nothing was changed: %w", err)
	if printed != nil {
		message.Error(err)
	}
	return err
}

// confirmApproved shows what custodians have approved, before it is done.
func confirmApproved(ctx context.Context, k *hsmkeys.Keyring, g *hsmkeys.Gathering, p blob.Proposal, yes bool) error {
	from, to := k.RecoveryOf(p)
	shown := slices.Concat(show.Party("from", from), show.Party("to", to), [][]string{
		{"keyring", k.ID().String()}, {"by", "quorum " + text.Printable(g.Quorum.Label)}, {"reason", text.Printable(p.List.Recovery.Reason)},
	})
	return confirm.Ask(ctx, yes, shown, "Put the new owner in the place of the old one, and bring it the keys?")
}

func terminalGone() bool {
	tty, err := terminal.Open()
	if err == nil {
		_ = tty.Close()
	}
	return err != nil
}

// askForToken asks for the token of the next custodian.
func askForToken(ctx context.Context, g *hsmkeys.Gathering) (string, error) {
	tty, err := terminal.Open()
	if err != nil {
		return "", err
	}
	defer tty.Close()
	fmt.Fprintf(tty, "%s of %s still needed: insert the token of the next custodian; its label, or nothing for the only token that is there: ",
		text.Plural(g.Missing(), "custodian", "custodians"), text.Printable(g.Quorum.Label))
	ended := context.AfterFunc(ctx, func() { fmt.Fprintln(tty) })
	defer ended()
	line, err := bufio.NewReader(tty).ReadString('\n')
	if err != nil {
		return "", errors.New("nothing was recovered: the input ended")
	}
	return strings.TrimSpace(line), nil
}

// oneCustodian has the custodian with a token approve.
func oneCustodian(ctx context.Context, s *settings.Settings, g *hsmkeys.Gathering, p blob.Proposal, label string, yes bool) error {
	of, err := s.For(label)
	if err != nil {
		return err
	}
	trusted := g.Trusted()
	as := session.AsCustodian{Quorum: hsmkeys.QuorumName{Certificate: p.Recovery.Quorum}, Trusted: &trusted, Yes: yes, Recoveries: recoveryRows}
	return session.WithCustodian(ctx, of, as, func(q *hsmkeys.Custodian) error {
		a, err := askCustodian(ctx, q, p, yes)
		if err != nil {
			return err
		}
		who, err := g.Add(ctx, a)
		if err == nil {
			message.Note("approved by %s", text.Printable(who.Label))
		}
		return err
	})
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
