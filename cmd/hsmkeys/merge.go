package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/binding"
	"github.com/hsmkeys/hsmkeys/cmd/internal/confirm"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/place"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
	"github.com/hsmkeys/hsmkeys/ledger"
)

func mergeCommand() *cli.Command {
	return &cli.Command{
		Name: "merge", Usage: "take in the keys of another copy of the keyring that was written to as well", ArgsUsage: "STORE[@N:DIGEST]",
		Description: "STORE is the directory or bucket of the other copy. After one was put over the other both are in this store:\n" +
			"@N:DIGEST alone names the checkpoint where the other one ends. What comes in under a name that is here\n" +
			"gets a version of its own, which opens its files and never encrypts. Changes of members are shown and\n" +
			"not taken. It can be interrupted and started again.",
		Flags: []cli.Flag{yesFlag()},
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			arg, err := oneArgument(c, "the STORE, @N:DIGEST or STORE@N:DIGEST")
			if err != nil {
				return err
			}
			path, at, err := parseCopy(arg)
			if err != nil {
				return err
			}
			var store blob.Store // nil: the store itself
			if path != "" {
				if err := session.Bind(ctx, s); err != nil {
					return err // before the store is known
				}
				other, err := openCopy(ctx, s, path)
				if err != nil {
					return err
				}
				defer other.Close()
				store = other
			}
			if err := confirm.Possible(c.Bool("yes")); err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				m, err := k.BeginMerge(ctx, store, at)
				if errors.Is(err, hsmkeys.ErrContinues) && path != "" {
					return failure.WithHint(err, fmt.Sprintf("bring the store up to date: hsmkeys store sync %s %s", text.ShellQuote(path), text.ShellQuote(s.StorePath())))
				}
				if err != nil {
					return explainMerge(err)
				}
				return merge(ctx, s, k, m, c.Bool("yes"))
			})
		}),
	}
}

// explainMerge adds to an error of opening the other copy what to do about it.
func explainMerge(err error) error {
	switch {
	case errors.Is(err, ledger.ErrCompacted), errors.Is(err, ledger.ErrIncomplete):
		return failure.WithHint(err, "name a copy from before the compaction, STORE@N:DIGEST; nothing is to be done if it was merged before")
	case errors.Is(err, ledger.ErrFork), errors.Is(err, blob.ErrNotFound), errors.Is(err, hsmkeys.ErrOtherKeyring):
		return failure.WithHint(err, "is STORE a copy of this keyring's store?")
	}
	return session.Explain(err)
}

var copyAt = regexp.MustCompile(`@[0-9]*:[^/]*$`)

// parseCopy parses STORE[@N:DIGEST].
func parseCopy(s string) (path string, at *ledger.Point, err error) {
	place := copyAt.FindStringIndex(s)
	if place == nil {
		if strings.HasPrefix(s, "@") || s == "" {
			return "", nil, failure.Usage("merge takes STORE, @N:DIGEST or STORE@N:DIGEST, not %q", s)
		}
		return s, nil, nil
	}
	point, err := ledger.ParsePoint(s[place[0]+1:])
	if err != nil {
		return "", nil, failure.Usage("%v", err)
	}
	return s[:place[0]], &point, nil
}

// openCopy opens the store of the other copy.
func openCopy(ctx context.Context, s *settings.Settings, path string) (place.Store, error) {
	own, err := s.NamedStore()
	if err != nil {
		return nil, err
	}
	if binding.Identity(own) == binding.Identity(path) {
		return nil, failure.Usage("%q is the store itself; @N:DIGEST names another copy that was put over it", path)
	}
	store, err := place.Open(ctx, path, "")
	if err != nil {
		return nil, fmt.Errorf("the other copy: %w", err)
	}
	return store, nil
}

func merge(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, m *hsmkeys.Merge, yes bool) error {
	t := mergeTally{Common: m.Common.String(), Merged: m.At.String(), Names: []mergedJSON{}}
	if m.At == m.Common {
		message.Note("the copy has nothing that this keyring lacks: its newest checkpoint is number %d of this one", m.At.Number)
		return t.print(s, k)
	}
	if err := confirm.Ask(ctx, yes, mergeRows(k, m), "Take in the keys of the other copy?"); err != nil {
		return err
	}
	for _, e := range m.Members {
		message.Warn(errors.New("not taken: " + notTaken(e)))
	}
	var failed error
	for r := range m.Keys(ctx) {
		if err := t.add(s, r); err != nil {
			return err
		}
		if r.Err == nil {
			continue
		}
		if !errors.Is(r.Err, ctx.Err()) || ctx.Err() == nil { // or it is no verdict on the key
			message.Error(r.Err)
		}
		failed = errors.Join(failed, r.Err)
	}
	if failed != nil {
		failed = errors.Join(failure.ErrReported, failed)
	}
	return errors.Join(t.print(s, k), failed)
}

// mergeRows returns both copies, and what is not taken from the other one.
func mergeRows(k *hsmkeys.Keyring, m *hsmkeys.Merge) [][]string {
	state := k.State()
	former := ""
	if m.Former {
		former = ", WHO IS NO MEMBER HERE (any more)"
	}
	rows := [][]string{
		{"this copy", fmt.Sprintf("checkpoint %v of %s by %s", state.At, text.Time(state.Signed), text.Printable(k.Signer()))},
		{"the other copy", fmt.Sprintf("checkpoint %v of %s by %s%s", m.At, text.Time(m.Signed), text.Printable(m.Signer), former)},
		{"common", fmt.Sprintf("checkpoint %v", m.Common)},
	}
	for _, e := range m.Members {
		rows = append(rows, []string{"not taken", notTaken(e)})
	}
	return rows
}

// notTaken describes a change of the other copy that is not merged.
func notTaken(e ledger.Event) string {
	return fmt.Sprintf("list of members %d of %s by %s: %s", e.List, text.Time(e.Created), text.Printable(e.Signer.Label), show.MemberChanges(e))
}

// mergeTally is what a merge has done, in JSON. Its form is stable.
type mergeTally struct {
	Common     string       `json:"common"`
	Merged     string       `json:"merged"`
	Names      []mergedJSON `json:"names"`
	Checkpoint string       `json:"checkpoint"`

	versions, worse, failed int
}

type mergedJSON struct {
	Name     string              `json:"name"`
	New      bool                `json:"new,omitempty"`
	Versions []mergedVersionJSON `json:"versions"`
	Error    string              `json:"error,omitempty"`
}

type mergedVersionJSON struct {
	Theirs int    `json:"theirs"`
	Ours   int    `json:"ours"`
	Status string `json:"status"`
	Known  bool   `json:"known,omitempty"` // it was known already, with a better status
}

// add counts and prints what was done to a name.
func (t *mergeTally) add(s *settings.Settings, r hsmkeys.Merged) error {
	j := mergedJSON{Name: r.Name, New: r.New, Versions: []mergedVersionJSON{}}
	var did []string
	for _, v := range r.Versions {
		j.Versions = append(j.Versions, mergedVersionJSON{v.Theirs, v.Ours, v.Status.String(), v.Known})
		if v.Known {
			t.worse++
			did = append(did, fmt.Sprintf("%s@%d is %v now", r.Name, v.Ours, v.Status))
			continue
		}
		t.versions++
		did = append(did, fmt.Sprintf("%s@%d is %s@%d of the other copy, %v", r.Name, v.Ours, r.Name, v.Theirs, v.Status))
	}
	if r.Err != nil {
		t.failed++
		j.Error = text.Line(r.Err.Error())
	}
	if r.Name != "" { // otherwise the error is about all of them
		t.Names = append(t.Names, j)
	}
	if s.JSON || len(did) == 0 {
		return nil
	}
	return output.Line("%s", strings.Join(did, "; "))
}

func (t *mergeTally) print(s *settings.Settings, k *hsmkeys.Keyring) error {
	t.Checkpoint = k.State().At.String()
	if s.JSON {
		return output.JSON(t)
	}
	return output.Line("merged %s, status changed of %d, failed %d; checkpoint %d", text.Plural(t.versions, "version", "versions"), t.worse, t.failed, k.State().At.Number)
}
