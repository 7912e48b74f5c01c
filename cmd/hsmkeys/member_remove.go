package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"

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
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

func removeMemberCommand(role blob.Role) *cli.Command {
	return &cli.Command{
		Name: "remove", Usage: "wrap no more keys to a member, and trust nothing that it signs from now on", ArgsUsage: "LABEL",
		Description: "A former member can open for ever what was wrapped to it: it may have kept the blobs, or the keys. So\n" +
			"encrypt would go on encrypting for it. --rotate makes new versions, which it cannot open.\n" +
			"--rewrap removes it from the holders of the existing versions, which keep the same keys.",
		Flags: append([]cli.Flag{
			&cli.BoolFlag{Name: "rotate", Usage: "then make a new version of every key that it can open, as rotate --former does"},
			&cli.BoolFlag{Name: "rewrap", Usage: "then wrap all versions of all keys to the current members alone, as rewrap does"},
			abandonFlag(), yesFlag(),
		}, proposeFlags()...),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			label, err := oneArgument(c, "the LABEL of a member")
			if err != nil {
				return err
			}
			if err := setPropose(s, c); err != nil {
				return err
			}
			if s.ProposeTo != "" && (c.Bool("rotate") || c.Bool("rewrap")) {
				return failure.Usage("--rotate and --rewrap come after the removal, which another owner has to approve first")
			}
			return removeMember(ctx, s, role, label, removal{c.Bool("yes"), c.Bool("rotate"), c.Bool("rewrap"), c.Bool("abandon")})
		}),
	}
}

// removal has the options of a removal.
type removal struct{ yes, rotate, rewrap, abandon bool }

func removeMember(ctx context.Context, s *settings.Settings, role blob.Role, label string, o removal) error {
	if err := confirm.Possible(o.yes); err != nil {
		return err
	}
	return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
		m, err := k.MayRemove(role, label)
		if err != nil {
			return meantMember(k, role, label, err)
		}
		if err := onlyHolder(ctx, k, m, o.abandon); err != nil {
			return err
		}
		question := fmt.Sprintf("Remove this %s from the keyring?", role)
		if role == blob.Owner {
			question = "Remove this owner from the keyring, and trust nothing that it signs from now on?"
		}
		shown := show.MemberRows(m)
		if lost := lostWithout(k, m); lost != "" {
			shown = append(shown, []string{"  afterwards", lost})
			message.Warn(errors.New(lost + " (hsmkeys authority add)"))
			question = fmt.Sprintf("Remove this %s all the same?", role)
		}
		if err := confirm.Ask(ctx, o.yes, shown, question); err != nil {
			return err
		}
		// By its key: the label may name another member by now.
		if err := k.RemoveMember(ctx, role, show.MemberOf(m).SubjectKeyID, message.Warn); err != nil {
			return err
		}
		if s.ProposeTo != "" {
			return printProposed(s)
		}
		return afterRemoval(ctx, s, k, m, o)
	})
}

func abandonFlag() cli.Flag {
	return &cli.BoolFlag{Name: "abandon", Usage: "do it even if keys are wrapped to nobody else: they are lost then"}
}

// onlyHolder refuses to take a member out of the keyring to whom alone keys are wrapped, as to a backup
// authority before the new owner has taken over what it has recovered.
func onlyHolder(ctx context.Context, k *hsmkeys.Keyring, m blob.Member, abandon bool) error {
	_, _, missing, err := k.HeldBy(ctx, func(other blob.Member) bool { return !other.Certificate.Equal(m.Certificate) })
	if err != nil || abandon || len(missing) == 0 {
		return err
	}
	return failure.WithHint(fmt.Errorf("%s %s: keys such as %v are wrapped to no other member", m.Role, text.Printable(m.Label), missing[0]),
		"after a recovery the new owner first takes the keys over with hsmkeys rewrap; otherwise a member who opens them runs it; --abandon gives them up")
}

// lostWithout returns what is at risk when a member leaves: the last backup authority, or, without
// one, the last owner but one. It returns "" for any other member.
func lostWithout(k *hsmkeys.Keyring, m blob.Member) string {
	rest := slices.DeleteFunc(k.Members(), func(other blob.Member) bool { return other.Certificate.Equal(m.Certificate) })
	if m.Role == blob.Owner && len(rest) > 1 {
		return "" // nothing changes
	}
	return show.Alone(rest)
}

// meantMember adds to an error about an unknown label which member may be meant.
func meantMember(k *hsmkeys.Keyring, role blob.Role, label string, err error) error {
	if !errors.Is(err, blob.ErrNotFound) {
		return err
	}
	var known []string
	for _, m := range k.Members() {
		if m.Role == role {
			known = append(known, m.Label)
		}
	}
	hint := failure.DidYouMean(label, known, strconv.Quote)
	if hint == "" {
		hint = fmt.Sprintf("hsmkeys %s list shows them", role)
	}
	return failure.WithHint(err, hint)
}

// afterRemoval rotates and rewraps keys as asked for, and prints what the former member can still
// open.
func afterRemoval(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, m blob.Member, o removal) error {
	asJSON := s.JSON
	if !asJSON {
		if err := printChanged(k, fmt.Sprintf("%s %s removed", m.Role, text.Printable(m.Label))); err != nil {
			return err
		}
	}
	var failed error
	done := map[string]any{}
	for _, step := range []struct {
		wanted         bool
		did, unchanged string
		run            func() (tally.Tally, error)
	}{
		{o.rotate, "rotated", "not needed", func() (tally.Tally, error) { return rotateFormer(ctx, k, "") }},
		{o.rewrap, "rewrapped", "up to date", func() (tally.Tally, error) { return rewrapAll(ctx, k) }},
	} {
		if !step.wanted {
			continue
		}
		t, err := step.run()
		failed = errors.Join(failed, err)
		if done[step.did] = t; !asJSON {
			failed = errors.Join(failed, t.Print(s, step.did, step.unchanged, ""))
		}
	}
	versions, err := k.Versions(ctx)
	if err != nil {
		return errors.Join(failed, err)
	}
	if asJSON {
		document := changeJSON(k, len(versions))
		for name, t := range done {
			document[name] = t
		}
		return errors.Join(failed, output.JSON(document))
	}
	return errors.Join(failed, printRemains(m, len(versions), o))
}

// printRemains prints what a former member can still open.
func printRemains(m blob.Member, versions int, o removal) error {
	if versions == 0 {
		return nil
	}
	who := text.Printable(m.Label)
	var lines []string
	if o.rotate {
		lines = []string{fmt.Sprintf("%s can still open the versions from before, and the files under them; encrypt again what it must not read", who)}
	} else {
		lines = []string{
			fmt.Sprintf("%s can still open the keys that were wrapped to it, and what is encrypted under them from now on", who),
			"hsmkeys rotate --former makes new versions, which it cannot open",
		}
	}
	if !o.rewrap {
		lines = append(lines, "hsmkeys rewrap takes it out of the versions that are there; what it has copied it keeps")
	}
	for _, line := range lines {
		if err := output.Line("%s", line); err != nil {
			return err
		}
	}
	return nil
}
