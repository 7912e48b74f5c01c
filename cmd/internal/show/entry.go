// Package show presents keys, members, recoveries and tokens: as rows of a table for people, and as
// JSON for programs.
package show

import (
	"cmp"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// Version returns NAME@VERSION of a key.
func Version(e hsmkeys.Entry) string { return fmt.Sprintf("%s@%d", e.Name, e.Version) }

// Entry prints all about one key.
func Entry(s *settings.Settings, e hsmkeys.Entry) error {
	if s.JSON {
		return output.JSON(e)
	}
	rows := [][]string{{"name", e.Name}}
	if len(e.FormerNames) > 0 {
		rows = append(rows, []string{"former names", strings.Join(e.FormerNames, ", ")})
	}
	if e.Description != "" {
		rows = append(rows, []string{"description", text.Printable(e.Description)})
	}
	rows = append(rows, [][]string{
		{"version", fmt.Sprintf("%d, revision %d", e.Version, e.Revision)},
		{"key id", e.KeyID},
		{"algorithm", e.Kind()},
		{"purpose", e.Purpose},
		{"created", text.Time(e.Created)},
	}...)
	if e.Signature != "" { // of the blob, which is gone if the key was destroyed
		rows = append(rows, []string{"signed", fmt.Sprintf("%s by %s, %s (%s)", text.Time(e.Signed), text.Printable(e.Signer.Label), e.Signature, text.Printable(e.Why))})
	}
	rows = append(rows, []string{"status", statusText(e)})
	if dates := Dates(e); dates != "" {
		rows = append(rows, []string{"dates", dates})
	}
	if e.Effective != 0 {
		rows = append(rows, []string{"effective bits", strconv.Itoa(e.Effective)})
	}
	if e.Salt != "" {
		rows = append(rows, []string{"salt", e.Salt})
	}
	if e.Imported {
		rows = append(rows, []string{"origin", "imported: its maker may have it too"})
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

// statusText returns the status of a key in words.
func statusText(e hsmkeys.Entry) string {
	if e.Status == ledger.Active.String() {
		if e.Current {
			return "active, encrypts"
		}
		return "active, not the version that encrypts"
	}
	line := fmt.Sprintf("%s since %s, encrypts nothing", e.Status, text.Time(e.Changed))
	if e.StatusBy != "" {
		line += fmt.Sprintf(" (%s: %s)", text.Printable(e.StatusBy), text.Printable(cmp.Or(e.StatusWhy, "no reason given")))
	}
	return line
}

// Dates returns the dates of a key in words, or "" if it has none.
func Dates(e hsmkeys.Entry) string {
	var all []string
	if !e.Expires.IsZero() {
		all = append(all, "expires "+text.Time(e.Expires))
	}
	if e.RotateEvery > 0 {
		all = append(all, fmt.Sprintf("to be rotated every %d days", e.RotateEvery))
	}
	if !e.Due.IsZero() {
		all = append(all, "due "+e.Due.UTC().Format(time.DateOnly))
	}
	return strings.Join(all, ", ")
}

// Labels returns the labels of holders.
func Labels(holders []hsmkeys.Holder) []string {
	var all []string
	for _, h := range holders {
		all = append(all, h.Label)
	}
	return all
}

// NotProven returns the end of a line about keys wrapped to holders whose tokens have not opened
// them yet, or "" if there are none.
func NotProven(until []string) string {
	if len(until) == 0 {
		return ""
	}
	have := "has"
	if len(until) > 1 {
		have = "have"
	}
	return fmt.Sprintf("; not proven until %s %s run hsmkeys drill --prove", text.Printable(strings.Join(until, ", ")), have)
}

// Leftover describes n key blobs of destroyed keys.
func Leftover(n int) string {
	return text.Plural(n, "key blob of a destroyed key is", "key blobs of destroyed keys are") + " still in the store: hsmkeys destroy deletes them if it is run again"
}

// Unknown describes n key blobs that are not in the state of the keyring.
func Unknown(n int) string {
	return text.Plural(n, "key blob is", "key blobs are") + " not in the state of the keyring: left by a command that was interrupted, recovered and not adopted yet (hsmkeys rewrap), or from another copy of the store (hsmkeys merge)"
}
