package main

import (
	"fmt"
	"strconv"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// versionOf is the key in the form NAME@VERSION.
func versionOf(e hsmkeys.Entry) string { return fmt.Sprintf("%s@%d", e.Name, e.Version) }

// printEntry describes one key.
func printEntry(s *settings.Settings, e hsmkeys.Entry) error {
	if s.JSON {
		return output.JSON(e)
	}
	rows := [][]string{
		{"name", e.Name},
		{"version", fmt.Sprintf("%d, revision %d", e.Version, e.Revision)},
		{"key id", e.KeyID},
		{"algorithm", e.Kind()},
		{"purpose", e.Purpose},
		{"created", text.Time(e.Created)},
		{"signed", fmt.Sprintf("%s by %s, %s (%s)", text.Time(e.Signed), text.Printable(e.Signer.Label), e.Signature, text.Printable(e.Why))},
	}
	if e.Status != ledger.Active.String() {
		rows = append(rows, []string{"status", e.Status + ", encrypts nothing"})
	}
	if e.Effective != 0 {
		rows = append(rows, []string{"effective bits", strconv.Itoa(e.Effective)})
	}
	if e.Salt != "" {
		rows = append(rows, []string{"salt", e.Salt})
	}
	if e.Imported {
		rows = append(rows, []string{"origin", "imported: whoever made it may have it too"})
	}
	if e.Password != "" {
		rows = append(rows, []string{"from a password", fmt.Sprintf("%s, %d bytes", e.Password, e.Bits/8)}, []string{"", "no backup authority can help: the key is in the password alone"})
	}
	for i, h := range e.Holders {
		title := "holders"
		if i > 0 {
			title = ""
		}
		rows = append(rows, []string{title, fmt.Sprintf("%s (%s), %s, key %s", text.Printable(h.Label), h.Role, h.Wrapping, h.SubjectKeyID)})
	}
	for _, h := range e.Earlier {
		rows = append(rows, []string{"former holder", fmt.Sprintf("%s (%s), of an earlier revision, which holds the same key, key %s", text.Printable(h.Label), h.Role, h.SubjectKeyID)})
	}
	if len(e.Former()) > 0 {
		rows = append(rows, []string{"", "hsmkeys rotate " + e.Name + " makes a version that no former member can open"})
	}
	for _, h := range e.Unable {
		rows = append(rows, []string{"not for", fmt.Sprintf("%s (%s): a key that is so short cannot be wrapped to its EC pair", text.Printable(h.Label), h.Role)})
	}
	if e.CheckValue != "" {
		rows = append(rows, []string{"check value", e.CheckValue})
	}
	if e.Residence != "" {
		rows = append(rows, []string{"residence", e.Residence})
	}
	rows = append(rows, []string{"keyring", e.Keyring}, []string{"blob sha256", e.Digest})
	return output.Table(rows)
}
