package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/proposal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// proposedFor is how long others can approve a proposal unless --expires says otherwise.
const proposedFor = "7d"

// maxProposedFor is the longest time for which a proposal can be approved: a year.
const maxProposedFor = 366 * 24 * time.Hour

// proposeFlags are for commands that change members.
func proposeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "propose", Usage: "change nothing, and write a proposal to `FILE`, which another owner approves (hsmkeys approve)"},
		expiresFlag(),
	}
}

func expiresFlag() cli.Flag {
	return &cli.StringFlag{Name: "expires", Usage: "`HOW-LONG` others can approve it, such as 12h or 30d", DefaultText: proposedFor}
}

// setPropose has changes of members be written as a proposal if --propose says so.
func setPropose(s *settings.Settings, c *cli.Context) (err error) {
	s.ProposeTo = c.String("propose")
	if c.IsSet("propose") && s.ProposeTo == "" {
		return failure.Usage("the value of option --propose is empty")
	}
	if c.IsSet("expires") && s.ProposeTo == "" {
		return failure.Usage("--expires goes with --propose")
	}
	s.ProposeFor, err = expires(c)
	return err
}

// expires returns how long a proposal can be approved.
func expires(c *cli.Context) (time.Duration, error) {
	value := c.String("expires")
	if value == "" {
		value = proposedFor
	}
	d, err := settings.ParseDuration(value)
	if err != nil || d < time.Minute || d > maxProposedFor {
		return 0, failure.Usage("--expires %q is not a time of a minute to 366 days, such as 12h or 30d", value)
	}
	return d, nil
}

// printProposed says what is to be done with a proposal.
func printProposed(s *settings.Settings) error {
	if s.ProposeTo == "-" {
		return nil
	}
	if s.JSON {
		return output.JSON(map[string]any{"proposal": s.ProposeTo, "expires": time.Now().Add(s.ProposeFor).UTC().Truncate(time.Second)})
	}
	return output.Line("nothing is changed yet; another owner approves it within %s: hsmkeys approve %s", text.Age(s.ProposeFor), text.Printable(s.ProposeTo))
}

func approveCommand() *cli.Command {
	return &cli.Command{
		Name: "approve", Usage: "approve a change of members or of the policy, which another owner has proposed, and make it", ArgsUsage: "PROPOSAL",
		Description: "The proposal is a file that an owner has made with the option --propose of owner, authority, quorum\n" +
			"or policy. It holds for the list of members in force: if that changes, it has to be made anew.",
		Flags: []cli.Flag{yesFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			path, err := oneArgument(c, "the file of a PROPOSAL")
			if err != nil {
				return err
			}
			p, err := proposal.Read(path)
			if err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				by, joined, left, err := k.Proposer(ctx, p)
				if err != nil {
					return err
				}
				var shown [][]string
				for _, m := range left {
					shown = append(shown, show.Party("leaves, or is changed", m)...)
				}
				for _, m := range joined {
					shown = append(shown, show.Party("joins, or is changed", m)...)
				}
				if p.List.Policy != k.Policy() {
					shown = append(shown, []string{"policy so far", show.Policy(k.Policy())}, []string{"from now on", show.Policy(p.List.Policy)})
				}
				shown = append(shown, []string{"proposed by", text.Printable(by.Label)}, []string{"expires", text.Time(p.Expires)})
				if err := confirm.Ask(ctx, c.Bool("yes"), shown, "Approve this change, and make it?"); err != nil {
					return err
				}
				if err := k.ApproveChange(ctx, p); err != nil {
					return err
				}
				if s.JSON {
					versions, err := k.Versions(ctx)
					if err != nil {
						return err
					}
					return output.JSON(changeJSON(k, len(versions)))
				}
				e := ledger.Event{Joined: joined, Left: left}
				if p.List.Policy != k.Policy() || len(joined)+len(left) == 0 {
					e.Policy = &p.List.Policy
				}
				return printChanged(k, fmt.Sprintf("approved, as %s has proposed: %s", text.Printable(by.Label), show.MemberChanges(e)))
			})
		}),
	}
}
