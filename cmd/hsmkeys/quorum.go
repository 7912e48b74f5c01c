package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/token/sharing"
)

func quorumCommand() *cli.Command {
	return &cli.Command{
		Name: "quorum", Usage: "quorums: backup authorities of several custodians, of whom some have to agree",
		Subcommands: []*cli.Command{
			quorumCreateCommand(), quorumReplaceCommand(), quorumListCommand(),
			quorumCheckCommand(), quorumRequestCommand(), quorumApproveCommand(),
		},
	}
}

func quorumCreateCommand() *cli.Command {
	return &cli.Command{
		Name: "create", Usage: "make a backup authority whose private key is split among custodians", ArgsUsage: "LABEL CERTIFICATE…",
		Description: "Each CERTIFICATE is that of a custodian's token, and is written LABEL=FILE where its name will not do,\n" +
			"and FILE,SIGNING-FILE where another key signs. The private key is in the memory of this machine alone, for\n" +
			"a moment. What is printed is the protocol, to sign and to file.",
		Flags:  quorumFlags(),
		Action: putQuorum(false),
	}
}

func quorumReplaceCommand() *cli.Command {
	return &cli.Command{
		Name: "replace", Usage: "put a quorum with a new private key in the place of one: after custodians have left, and after each recovery", ArgsUsage: "LABEL CERTIFICATE…",
		Description: "The arguments are those of quorum create. Then hsmkeys rewrap brings the keys to the new quorum.",
		Flags:       append(quorumFlags(), abandonFlag()),
		Action:      putQuorum(true),
	}
}

func quorumFlags() []cli.Flag {
	return append([]cli.Flag{
		&cli.IntFlag{Name: "threshold", Usage: "`N` custodians have to agree"},
		yesFlag(),
	}, proposeFlags()...)
}

// putQuorum returns the action that makes a quorum, or puts one in the place of another.
func putQuorum(replace bool) cli.ActionFunc {
	return action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
		label, custodians, err := quorumFrom(c)
		if err != nil {
			return err
		}
		if err := setPropose(s, c); err != nil {
			return err
		}
		if err := confirm.Possible(c.Bool("yes")); err != nil {
			return err
		}
		threshold := c.Int("threshold")
		return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
			var former blob.Member
			if replace {
				if former, err = k.Quorum(label); err != nil {
					return err
				}
				if err := onlyHolder(ctx, k, former, c.Bool("abandon")); err != nil {
					return err
				}
			}
			shown := [][]string{{"quorum", text.Printable(label)}, {"threshold", fmt.Sprintf("any %d of %d custodians", threshold, len(custodians))}}
			for _, m := range custodians {
				shown = append(shown, show.Party("custodian", m)...)
			}
			question := fmt.Sprintf("Wrap every key to this quorum from now on, so that any %d of them can recover?", threshold)
			if err := confirm.Ask(ctx, c.Bool("yes"), shown, question); err != nil {
				return err
			}
			lockMemory()
			put := k.CreateQuorum
			if replace {
				put = k.ReplaceQuorum
			}
			m, err := put(ctx, label, threshold, custodians)
			if err != nil {
				return err
			}
			return printQuorum(ctx, s, k, m, former)
		})
	})
}

// lockMemory keeps the memory of this process to itself, or warns that it cannot.
func lockMemory() {
	if err := sharing.LockMemory(); err != nil {
		message.Note("the memory of this process may be written to swap space (%v): turn that off (swapoff -a), or run as root", err)
	}
}

// quorumFrom reads the arguments of a command that makes a quorum.
func quorumFrom(c *cli.Context) (label string, custodians []blob.Member, err error) {
	args, threshold := c.Args().Slice(), c.Int("threshold")
	if len(args) < 3 {
		return "", nil, failure.Usage("%s takes the LABEL of the quorum, and the CERTIFICATE of each of 2 to %d custodians", commandline.CommandName(c.Command), blob.MaxCustodians)
	}
	label, args = args[0], args[1:]
	if info, err := os.Stat(label); err == nil && info.Mode().IsRegular() {
		return "", nil, failure.Usage("%q is a file, and the first argument is the LABEL of the quorum", label)
	}
	if err := blob.ValidLabel(label); err != nil {
		return "", nil, failure.Usage("the label %q %v", label, err)
	}
	switch {
	case !c.IsSet("threshold"):
		return "", nil, failure.Usage("%s needs --threshold N: how many custodians have to agree", commandline.CommandName(c.Command))
	case len(args) > blob.MaxCustodians:
		return "", nil, failure.Usage("%d custodians, and at most %d are possible", len(args), blob.MaxCustodians)
	case threshold < 2 || threshold > len(args):
		return "", nil, failure.Usage("--threshold %d of %d custodians: it is 2 to %d", threshold, len(args), len(args))
	}
	for _, arg := range args {
		m, err := custodianFrom(arg)
		if err != nil {
			return "", nil, err
		}
		for _, other := range custodians {
			switch {
			case other.Label == m.Label:
				return "", nil, failure.UsageHint("write LABEL=FILE to give it another", "two custodians have the label %q", m.Label)
			case other.Certificate.Equal(m.Certificate):
				return "", nil, failure.Usage("the custodians %q and %q have one certificate", other.Label, m.Label)
			}
		}
		if err := hsmkeys.CheckRecipient(m.Certificate, time.Now()); err != nil {
			return "", nil, fmt.Errorf("custodian %q: %w", m.Label, err)
		}
		custodians = append(custodians, m)
	}
	return label, custodians, nil
}

// custodianFrom reads [LABEL=]FILE[,SIGNING-FILE]. A file that has such a name is taken as it is.
func custodianFrom(arg string) (blob.Member, error) {
	var o memberOptions
	path := arg
	if _, err := os.Stat(arg); errors.Is(err, fs.ErrNotExist) {
		if label, file, ok := strings.Cut(path, "="); ok {
			o.label, path = label, file
		}
		if file, signing, ok := strings.Cut(path, ","); ok {
			path, o.signing = file, signing
		}
	}
	return memberFrom(path, o, blob.Custodian)
}

// printQuorum prints the protocol of a quorum that was made.
func printQuorum(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, m, former blob.Member) error {
	now := text.Time(time.Now())
	if s.ProposeTo != "" {
		return printProposed(s)
	}
	if s.JSON {
		versions, err := k.Versions(ctx)
		if err != nil {
			return err
		}
		j := changeJSON(k, len(versions))
		j["quorum"], j["time"] = show.MemberOf(m), now
		return output.JSON(j)
	}
	if err := printChange(ctx, s, k, fmt.Sprintf("quorum %s made on %s", text.Printable(m.Label), now), m); err != nil {
		return err
	}
	rows := [][]string{
		{"  keyring", k.ID().String()},
		{"  made by", text.Printable(k.Self().Label) + ", SHA-256 " + show.MemberOf(k.Self()).Fingerprint},
		{"  shares", blob.SharesPath(m.Quorum.Shares)},
	}
	if err := output.Table(rows); err != nil {
		return err
	}
	if err := output.Line("each custodian checks its share: hsmkeys quorum check %s --vouched-by OWNER.pem", text.ShellQuote(m.Label)); err != nil || former.Quorum == nil {
		return err
	}
	return output.Line("any %d custodians of the former quorum (%s) can still open what was wrapped to it: hsmkeys rewrap takes it out of the keys that are there, hsmkeys rotate --former makes versions that it cannot open",
		former.Quorum.Threshold, session.Labels(former.Quorum.Custodians))
}

func quorumListCommand() *cli.Command {
	return &cli.Command{
		Name: "list", Usage: "list the quorums and their custodians",
		Flags: []cli.Flag{certificateFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return listQuorums(s, k) })
		}),
	}
}

func listQuorums(s *settings.Settings, k *hsmkeys.Keyring) error {
	quorums := []show.Member{}
	rows := [][]string{{"QUORUM", "NEEDS", "CUSTODIAN", "KEY", "KEY ID", "SIGNS WITH", "VALID UNTIL"}}
	for _, m := range show.Members(k) {
		if m.Quorum == nil {
			continue
		}
		quorums = append(quorums, m)
		for _, c := range m.Quorum.Custodians {
			rows = append(rows, []string{text.Printable(m.Label), fmt.Sprintf("%d of %d", m.Quorum.Threshold, len(m.Quorum.Custodians)), text.Printable(c.Label), c.Key, c.SubjectKeyID, cmp.Or(c.Signing, "the same"), text.Time(c.NotAfter)})
		}
	}
	if s.JSON {
		return output.JSON(quorums)
	}
	if len(quorums) == 0 {
		message.Note("no quorum")
	}
	return output.Table(rows)
}

// quorumArgument returns the LABEL of a command that takes one or none.
func quorumArgument(c *cli.Context) (string, error) {
	if c.NArg() > 1 {
		return "", failure.Usage("%s takes the LABEL of a quorum", commandline.CommandName(c.Command))
	}
	return c.Args().First(), nil
}

func quorumCheckCommand() *cli.Command {
	return &cli.Command{
		Name: "check", Usage: "with a custodian's token: open its share, and record a signed proof that it fits", ArgsUsage: "[LABEL]",
		Description: "A custodian is no member of the keyring. The first time it needs --vouched-by with the certificate of an owner,\n" +
			"from outside the storage; the token remembers the keyring from then on.",
		Flags: []cli.Flag{voucherFlag(), yesFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			label, err := quorumArgument(c)
			if err != nil {
				return err
			}
			as := session.AsCustodian{Quorum: hsmkeys.QuorumName{Label: label}, VouchedBy: c.String("vouched-by"), Yes: c.Bool("yes"), Recoveries: recoveryRows}
			return session.WithCustodian(ctx, s, as, func(q *hsmkeys.Custodian) error {
				if err := q.Check(ctx); err != nil {
					return err
				}
				if s.JSON {
					return output.JSON(map[string]any{"keyring": q.Keyring().ID().String(), "quorum": q.Quorum.Label, "custodian": q.Self.Label, "threshold": q.Quorum.Quorum.Threshold, "custodians": len(q.Quorum.Quorum.Custodians)})
				}
				return output.Line("the share of %s opens, and fits the quorum %s: %d of %d needed; the proof is recorded",
					text.Printable(q.Self.Label), text.Printable(q.Quorum.Label), q.Quorum.Quorum.Threshold, len(q.Quorum.Quorum.Custodians))
			})
		}),
	}
}

// recoveryRows returns all about the recoveries that wait to be accepted.
func recoveryRows(k *hsmkeys.Keyring) (rows [][]string) {
	for _, r := range k.State().Recoveries {
		rows = append(rows, show.RecoveryRows(r)...)
	}
	return rows
}
