package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/datafile"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func fileCommand() *cli.Command {
	return &cli.Command{
		Name: "file", Usage: "inspect encrypted files",
		Subcommands: []*cli.Command{fileInfoCommand()},
	}
}

func fileInfoCommand() *cli.Command {
	return &cli.Command{
		Name: "info", Usage: "show which key a file needs, and who holds it; needs no token", ArgsUsage: "[IN]",
		Description: "Reads the header of an age file, which is not authenticated before the file is decrypted. With\n" +
			"--certificate the keys are looked up in the store, and their holders shown as verified there.",
		Flags: []cli.Flag{certificateFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if c.NArg() > 1 {
				return failure.Usage("file info takes one file, not %d", c.NArg())
			}
			in, err := datafile.Open(c.Args().First())
			if err != nil {
				return err
			}
			needs, err := readNeeds(in)
			if err = errors.Join(err, in.Close()); err != nil {
				return err
			}
			if c.String("certificate") != "" {
				if err := session.WithReading(ctx, s, c.String("certificate"), func(k *hsmkeys.Keyring) error { return lookUp(ctx, k, needs) }); err != nil {
					return err
				}
			}
			if s.JSON {
				return output.JSON(needs)
			}
			return printNeeds(needs)
		}),
	}
}

// need is one way to open a file: a key, a key exchange pair, or another age recipient. Its JSON
// form is stable.
type need struct {
	Type    string           `json:"type"` // of the age stanza
	Name    string           `json:"name,omitempty"`
	Version int              `json:"version,omitempty"`
	KeyID   string           `json:"key_id,omitempty"`
	Now     string           `json:"name_now,omitempty"` // of a key that was renamed; with a certificate
	Status  string           `json:"status,omitempty"`   // with a certificate
	Pair    bool             `json:"pair,omitempty"`     // to a key exchange pair itself
	Holders []hsmkeys.Holder `json:"holders,omitempty"`  // verified; with a certificate
	Problem string           `json:"problem,omitempty"`  // why the holders are not known

	recipient hsmkeys.FileRecipient
}

func readNeeds(in io.Reader) ([]need, error) {
	recipients, err := hsmkeys.FileRecipients(hsmkeys.Dearmor(in))
	if err != nil {
		return nil, err
	}
	needs := make([]need, len(recipients))
	for i, r := range recipients {
		needs[i] = need{Type: r.Stanza.Type, Pair: hsmkeys.IsPairStanza(r.Stanza), recipient: r}
		if r.Key != (hsmkeys.Ref{}) {
			needs[i].Name, needs[i].Version, needs[i].KeyID = r.Key.Name, r.Key.Version, r.KeyID.String()
		}
	}
	return needs, nil
}

// lookUp looks up the holders in the keyring. It is no error if the keyring lacks a key: the file
// may belong to another keyring.
func lookUp(ctx context.Context, k *hsmkeys.Keyring, needs []need) error {
	for i := range needs {
		n := &needs[i]
		switch {
		case n.Name != "":
			e, ok, err := k.ShowID(ctx, n.Name, n.recipient.KeyID)
			switch {
			case err != nil:
				return err
			case !ok:
				n.Problem = "the keyring has no such key"
				if other, err := k.Show(ctx, n.recipient.Key); err == nil {
					n.Problem = "the keyring has another key of that name, with id " + other.KeyID
				}
			case e.Status == ledger.Destroyed.String():
				n.Status, n.Problem = e.Status, fmt.Sprintf("the key was destroyed on %s by %s: %s", e.Changed.UTC().Format(time.DateOnly), text.Printable(e.StatusBy), text.Printable(e.StatusWhy))
			default:
				n.Status, n.Holders = e.Status, append(e.Holders, e.Earlier...)
				if e.Name != n.Name {
					n.Now = e.Name
				}
			}
		case n.Pair:
			for _, m := range k.Members() {
				tag, err := hsmkeys.PairTagOf(m.Certificate.PublicKey)
				if err != nil {
					return err
				}
				if tag.Matches(n.recipient.Stanza) {
					n.Holders = append(n.Holders, hsmkeys.Holder{Label: m.Label, Role: m.Role.String(), SubjectKeyID: show.MemberOf(m).SubjectKeyID})
				}
			}
		}
	}
	return nil
}

func printNeeds(needs []need) error {
	var rows [][]string
	for _, n := range needs {
		switch {
		case n.Name != "":
			rows = append(rows, []string{"key", fmt.Sprintf("%s, id %s", n.recipient.Key, n.KeyID)})
			if n.Now != "" {
				rows = append(rows, []string{"  renamed", "it is called " + n.Now + " now"})
			}
			if n.Status != "" {
				rows = append(rows, []string{"  status", n.Status})
			}
		case n.Pair:
			rows = append(rows, []string{"pair", "a key exchange pair itself (hsmkeys decrypt --pair)"})
		default:
			rows = append(rows, []string{"other", text.Printable(n.Type) + ", which age or another plugin opens"})
		}
		for _, h := range n.Holders {
			rows = append(rows, []string{"  holder", fmt.Sprintf("%s (%s), key %s", text.Printable(h.Label), h.Role, h.SubjectKeyID)})
		}
		if n.Problem != "" {
			rows = append(rows, []string{"  unknown", n.Problem})
		}
	}
	return output.Table(rows)
}
