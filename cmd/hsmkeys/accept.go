package main

import (
	"context"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func acceptCommand() *cli.Command {
	return &cli.Command{
		Name: "accept", Usage: "accept a recovery, which has replaced an owner with a new one", ArgsUsage: "N:DIGEST",
		Description: "A backup authority can replace an owner whose token was lost with a new one. Until that is accepted,\n" +
			"nothing is encrypted or signed with this token. Ask the authority, over another channel, whether it has\n" +
			"done so, and whether the fingerprint of the new owner is the right one.",
		Flags: []cli.Flag{yesFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			arg, err := oneArgument(c, "the checkpoint N:DIGEST of the recovery, as the warning shows it")
			if err != nil {
				return err
			}
			at, err := ledger.ParsePoint(arg)
			if err != nil {
				return failure.Usage("%v", err)
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error { return accept(ctx, s, c.Bool("yes"), k, at) })
		}),
	}
}

func accept(ctx context.Context, s *settings.Settings, yes bool, k *hsmkeys.Keyring, at ledger.Point) error {
	recoveries := k.State().Recoveries
	var shown [][]string
	for _, r := range recoveries {
		shown = append(shown, show.RecoveryRows(r)...)
	}
	if n := len(recoveries); n > 0 && recoveries[n-1].At == at {
		question := "Accept this recovery, and trust what the new owner signs?"
		if n > 1 {
			question = fmt.Sprintf("Accept these %d recoveries, and trust what the new owners sign?", n)
		}
		if err := confirm.Ask(ctx, yes, shown, question); err != nil {
			return err
		}
	}
	if err := k.Accept(ctx, at); err != nil { // its error also says why there is nothing to accept
		return err
	}
	if s.JSON {
		accepted := []show.Recovery{}
		for _, r := range recoveries {
			accepted = append(accepted, show.RecoveryOf(r))
		}
		return output.JSON(map[string]any{"keyring": k.ID().String(), "checkpoint": k.State().At.String(), "list": k.State().List, "accepted": accepted})
	}
	for _, r := range recoveries {
		if err := output.Line("accepted: owner %s in the place of %s, by %s", text.Printable(r.To.Label), text.Printable(r.From.Label), text.Printable(r.Authority.Label)); err != nil {
			return err
		}
	}
	return output.Line("list of members %d, checkpoint %d is pinned", k.State().List, k.State().At.Number)
}
