package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
)

func policyCommand() *cli.Command {
	return &cli.Command{
		Name: "policy", Usage: "show or change who may recover, and who may change the members",
		Description: "A change obeys the policy that is in force before it. Without options the policy is shown.",
		Flags: append([]cli.Flag{
			&cli.StringFlag{Name: "recovery", Usage: "`WHO` may recover: authority, any backup authority; or quorum-only"},
			&cli.StringFlag{Name: "changes", Usage: "`WHO` may change members and policy: owner, any owner; or two-owners, of whom one proposes and another approves"},
			certificateFlag(), yesFlag(),
		}, proposeFlags()...),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			if !c.IsSet("recovery") && !c.IsSet("changes") {
				return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return printPolicy(s, k) })
			}
			if c.IsSet("certificate") {
				return failure.Usage("the policy is changed with a token, and --certificate goes without")
			}
			change, err := policyFrom(c)
			if err != nil {
				return err
			}
			if err := setPropose(s, c); err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				p := k.Policy()
				change(&p)
				shown := [][]string{{"so far", show.Policy(k.Policy())}, {"from now on", show.Policy(p)}}
				if err := confirm.Ask(ctx, c.Bool("yes"), shown, "Change the policy?"); err != nil {
					return err
				}
				if err := k.SetPolicy(ctx, p); err != nil {
					return err
				}
				if s.ProposeTo != "" {
					return printProposed(s)
				}
				if owners := ownersOf(k); p.SecondOwner && owners == 2 {
					message.Note("with two owners, the loss of one token keeps the other from every change of members until a backup authority has recovered it")
				}
				return printPolicy(s, k)
			})
		}),
	}
}

func ownersOf(k *hsmkeys.Keyring) (n int) {
	for _, m := range k.Members() {
		if m.Role == blob.Owner {
			n++
		}
	}
	return n
}

// policyFrom returns the change of the policy that the options ask for.
func policyFrom(c *cli.Context) (func(*blob.Policy), error) {
	recovery, changes := c.String("recovery"), c.String("changes")
	if c.IsSet("recovery") && recovery != "authority" && recovery != "quorum-only" {
		return nil, failure.Usage("--recovery is authority or quorum-only")
	}
	if c.IsSet("changes") && changes != "owner" && changes != "two-owners" {
		return nil, failure.Usage("--changes is owner or two-owners")
	}
	return func(p *blob.Policy) {
		if c.IsSet("recovery") {
			p.QuorumOnly = recovery == "quorum-only"
		}
		if c.IsSet("changes") {
			p.SecondOwner = changes == "two-owners"
		}
	}, nil
}

// policyJSON is a policy in JSON. Its form is stable.
type policyJSON struct {
	Recovery string `json:"recovery"` // authority or quorum-only
	Changes  string `json:"changes"`  // owner or two-owners
}

func policyAsJSON(p blob.Policy) policyJSON {
	j := policyJSON{"authority", "owner"}
	if p.QuorumOnly {
		j.Recovery = "quorum-only"
	}
	if p.SecondOwner {
		j.Changes = "two-owners"
	}
	return j
}

func printPolicy(s *settings.Settings, k *hsmkeys.Keyring) error {
	j := policyAsJSON(k.Policy())
	if s.JSON {
		return output.JSON(struct {
			Keyring string `json:"keyring"`
			List    int    `json:"list"`
			policyJSON
		}{k.ID().String(), k.ListNumber(), j})
	}
	return output.Table([][]string{{"recovery", j.Recovery}, {"changes", j.Changes}})
}
