package main

import (
	"context"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/keyfile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func authorityCommand() *cli.Command {
	return memberCommand(blob.BackupAuthority, "authority", "backup authorities: open every key, recover them when a token is lost")
}

func ownerCommand() *cli.Command {
	return memberCommand(blob.Owner, "owner", "owners: open every key and sign")
}

func memberCommand(role blob.Role, name, what string) *cli.Command {
	return &cli.Command{
		Name: name, Usage: what,
		Subcommands: []*cli.Command{
			{
				Name: "add", Usage: "wrap every key to this certificate from now on", ArgsUsage: "CERTIFICATE",
				Flags: append([]cli.Flag{memberLabelFlag(), signingFlag(), yesFlag()}, proposeFlags()...),
				Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
					return addMember(ctx, s, c, role)
				}),
			},
			{
				Name: "list", Usage: "list them",
				Flags: []cli.Flag{certificateFlag()},
				Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
					if err := noArgument(c); err != nil {
						return err
					}
					return listMembers(ctx, s, role, c.String("certificate"))
				}),
			},
			removeMemberCommand(role),
		},
	}
}

func memberLabelFlag() cli.Flag {
	return &cli.StringFlag{Name: "label", Usage: "`LABEL` of the member in the keyring", DefaultText: "the certificate's common name"}
}

func addMember(ctx context.Context, s *settings.Settings, c *cli.Context, role blob.Role) error {
	path, err := oneArgument(c, "the file of a CERTIFICATE")
	if err != nil {
		return err
	}
	m, err := memberFrom(path, memberOptionsOf(c), role)
	if err != nil {
		return err
	}
	if err := hsmkeys.CheckRecipient(m.Certificate, time.Now()); err != nil {
		return fmt.Errorf("%q: %w", path, err) // before anybody is asked
	}
	if err := setPropose(s, c); err != nil {
		return err
	}
	question := fmt.Sprintf("Wrap every key to this %s from now on?", role)
	if role == blob.Owner {
		question = "Wrap every key to this owner from now on, and trust what it signs?"
	}
	if err := confirm.Ask(ctx, c.Bool("yes"), show.MemberRows(m), question); err != nil {
		return err
	}
	return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
		if err := k.AddMember(ctx, m); err != nil {
			return err
		}
		if s.ProposeTo != "" {
			return printProposed(s)
		}
		return printChange(ctx, s, k, fmt.Sprintf("%s %s added", role, text.Printable(m.Label)), m)
	})
}

// memberOptions are the options about a new member.
type memberOptions struct {
	label   string // "" for the name in the certificate
	signing string // file of the certificate of the key that signs; "" if it is the key exchange key
}

func memberOptionsOf(c *cli.Context) memberOptions {
	return memberOptions{c.String("label"), c.String("signing-certificate")}
}

// memberFrom reads the certificate of a new member.
func memberFrom(path string, o memberOptions, role blob.Role) (blob.Member, error) {
	certificate, err := keyfile.ReadCertificate(path)
	if err != nil {
		return blob.Member{}, err
	}
	label := o.label
	if label == "" {
		label = show.CertificateName(certificate)
	}
	if label == "" {
		return blob.Member{}, failure.Usage("%q names nobody: its subject has no name, and it has no alternative one; set a label with --label", path)
	}
	if err := blob.ValidLabel(label); err != nil {
		return blob.Member{}, failure.Usage("the label %q %v; choose another with --label", label, err)
	}
	m := blob.Member{Role: role, Label: label, Certificate: certificate}
	if o.signing != "" {
		if m.Signing, err = keyfile.ReadCertificate(o.signing); err != nil {
			return blob.Member{}, err
		}
	}
	return m, nil
}

// signingFlag is for members whose key exchange key does not sign.
func signingFlag() cli.Flag {
	return &cli.StringFlag{Name: "signing-certificate", Usage: "`CERTIFICATE` of the key that signs for the member, if its key exchange key does not"}
}

// printChange prints the new list of members, and what is left to do.
func printChange(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, done string, m blob.Member) error {
	refs, err := k.Versions(ctx)
	if err != nil {
		return err
	}
	if s.JSON {
		return output.JSON(changeJSON(k, len(refs)))
	}
	if err := printChanged(k, done); err != nil {
		return err
	}
	if err := output.Table(show.MemberRows(m)); err != nil {
		return err
	}
	if len(refs) == 0 {
		return nil
	}
	return output.Line("%s there already: hsmkeys rewrap wraps them to it", text.Plural(len(refs), "version of a key is", "versions of keys are"))
}

func printChanged(k *hsmkeys.Keyring, done string) error {
	s := k.State()
	return output.Line("%s: list of members %d, checkpoint %d", done, s.List, s.At.Number)
}

func changeJSON(k *hsmkeys.Keyring, versions int) map[string]any {
	s := k.State()
	return map[string]any{"keyring": k.ID().String(), "list": s.List, "checkpoint": s.At.String(), "members": show.Members(k), "keys": versions}
}

func listMembers(ctx context.Context, s *settings.Settings, role blob.Role, certificate string) error {
	return session.WithReading(ctx, s, certificate, func(k *hsmkeys.Keyring) error {
		members := []show.Member{}
		rows := [][]string{{"LABEL", "KEY", "KEY ID", "VALID UNTIL", "SUBJECT"}}
		for _, m := range show.Members(k) {
			if m.Role != role.String() {
				continue
			}
			members = append(members, m)
			rows = append(rows, []string{text.Printable(m.Label), m.Key, m.SubjectKeyID, text.Time(m.NotAfter), text.Printable(m.Subject)})
		}
		if s.JSON {
			return output.JSON(members)
		}
		if len(members) == 0 {
			message.Note("no %s", role)
		}
		return output.Table(rows)
	})
}
