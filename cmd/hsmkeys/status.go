package main

import (
	"context"
	"iter"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// The commands that set the status of keys.

// A statusChange is what such a command does.
type statusChange struct {
	name, usage, description string

	done       string // "deactivated"
	passedOver string // what a prefix does not mean
	reason     bool   // is needed
	means      func(hsmkeys.Selected) bool
	set        func(*hsmkeys.Keyring, context.Context, []hsmkeys.Ref, string) iter.Seq[hsmkeys.Result]
	after      func()
}

func isActive(s hsmkeys.Selected) bool { return s.Entry.Status == ledger.Active.String() }

func deactivateCommand() *cli.Command {
	return statusChange{
		name: "deactivate", usage: "let keys encrypt nothing more; they still decrypt", done: "deactivated", passedOver: "not active",
		description: "Takes NAME, for all versions of a key, NAME@VERSION, or PREFIX/ for the active keys below it.",
		means:       isActive, set: (*hsmkeys.Keyring).Deactivate,
	}.command()
}

func activateCommand() *cli.Command {
	return statusChange{
		name: "activate", usage: "let deactivated keys encrypt again", done: "activated", passedOver: "not deactivated",
		description: "Takes NAME, for all deactivated versions of a key, the newest of which encrypts then, NAME@VERSION, or\n" +
			"PREFIX/ for the deactivated keys below it.",
		means: func(s hsmkeys.Selected) bool { return s.Entry.Status == ledger.Deactivated.String() }, set: (*hsmkeys.Keyring).Activate,
	}.command()
}

func compromisedCommand() *cli.Command {
	return statusChange{
		name: "compromised", usage: "record that others may have keys: they encrypt nothing more, and decrypting warns", done: "compromised", passedOver: "compromised or destroyed already",
		description: "Takes NAME, for all versions of a key, NAME@VERSION, or PREFIX/. It cannot be undone. What is encrypted\n" +
			"under the keys must be encrypted anew: hsmkeys rotate makes new versions, hsmkeys files --under finds the files,\n" +
			"hsmkeys reencrypt encrypts them under the newest version.",
		reason: true,
		means: func(s hsmkeys.Selected) bool {
			return s.Entry.Status != ledger.Compromised.String() && !s.Destroyed
		},
		set: (*hsmkeys.Keyring).Compromise,
		after: func() {
			message.Note("hsmkeys rotate makes new versions, hsmkeys files --under NAME finds what is to be encrypted anew")
		},
	}.command()
}

func (s statusChange) command() *cli.Command {
	return &cli.Command{
		Name: s.name, Usage: s.usage, Description: s.description, ArgsUsage: "NAME[@VERSION]…",
		Flags: manyFlags(),
		Action: action(func(ctx context.Context, set *settings.Settings, c *cli.Context) error {
			reason, err := s.check(c)
			if err != nil {
				return err
			}
			return session.WithKeyring(ctx, set, func(k *hsmkeys.Keyring) error {
				all, err := choose(ctx, k, c.Args().Slice(), s.means)
				if err != nil {
					return err
				}
				m := s.change(k, all, reason)
				if c.Bool("dry-run") {
					return m.dryRun(set, all)
				}
				noKeyChosen(all)
				if err := m.run(ctx, set, all); err != nil {
					return err
				}
				if s.after != nil && len(all.refs) > 0 {
					s.after()
				}
				return nil
			})
		}),
	}
}

// check checks the command line, and returns the reason.
func (s statusChange) check(c *cli.Context) (string, error) {
	if c.NArg() == 0 {
		return "", failure.Usage("%s takes at least one NAME, NAME@VERSION or PREFIX/", s.name)
	}
	if err := refArguments(c, true); err != nil {
		return "", unquoted(c.String("reason"), err)
	}
	return reasonOption(c, s.reason)
}

func (s statusChange) change(k *hsmkeys.Keyring, all chosen, reason string) manyChange {
	doing := s.name
	if s.name == "compromised" {
		doing = "mark as compromised"
	}
	return manyChange{
		doing: doing, done: s.done, unchanged: "already so", passedOver: s.passedOver,
		do:   func(ctx context.Context) iter.Seq[hsmkeys.Result] { return s.set(k, ctx, all.refs, reason) },
		line: func(r hsmkeys.Result) string { return versionsText(r.Ref.Name, r.Versions) + ": " + s.done },
	}
}
