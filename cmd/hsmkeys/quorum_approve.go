package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/proposal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/urfave/cli/v2"
)

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
