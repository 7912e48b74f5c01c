package main

import (
	"context"
	"errors"
	"time"

	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/proposal"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/urfave/cli/v2"
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
			within, err := expires(c)
			if err != nil {
				return err
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return withQuorumRecovery(ctx, s, c, label, func(r *quorumRecovery) error {
				p, key, err := r.propose(time.Now().Add(within))
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
