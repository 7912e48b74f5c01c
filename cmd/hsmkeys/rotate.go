package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/session"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/show"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
)

func rotateCommand() *cli.Command {
	return &cli.Command{
		Name: "rotate", Usage: "make new versions of session keys", ArgsUsage: "[NAME…]",
		Description: "Takes NAME, or PREFIX/ for the active keys below it. With --due or --older-than it rotates, of these or of\n" +
			"all keys, those that are due. A key from a password gets a new salt, and with --new-password a new password;\n" +
			"it is rotated by itself.\n" +
			"With --former it rotates each key, of all or of the named ones, whose newest version was ever\n" +
			"wrapped to a former member; it can be interrupted and started again.",
		Flags: append(manyFlags(),
			&cli.BoolFlag{Name: "due", Usage: "rotate the keys whose newest version is as old as --rotate-every of create or describe says"},
			&cli.StringFlag{Name: "older-than", Usage: "rotate the keys whose newest version is older than this `AGE`, such as 90d or 12h"},
			&cli.BoolFlag{Name: "new-password", Usage: "take a new password, for a key from a password"},
			&cli.BoolFlag{Name: "former", Usage: "rotate each key that a former member can open; NAME may be left out, or several"},
		),
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			o, err := rotateOptionsOf(c, time.Now())
			if err != nil {
				return err
			}
			return session.WithKeyring(ctx, s, func(k *hsmkeys.Keyring) error {
				switch {
				case o.former:
					t, err := rotateFormer(ctx, k, o.reason, o.args...)
					return errors.Join(t.Print(s, "rotated", "not needed", ""), err)
				case o.one() && !o.dryRun:
					return rotateOne(ctx, s, k, o)
				}
				return rotateMany(ctx, s, k, o)
			})
		}),
	}
}

type rotateOptions struct {
	args                              []string
	reason                            string
	former, newPassword, dryRun, some bool // some: only those that are due
	due                               bool
	before                            time.Time // made before; zero: at any time
}

// one reports whether the options name a single key.
func (o rotateOptions) one() bool {
	return len(o.args) == 1 && !strings.HasSuffix(o.args[0], "/") && !o.some
}

func rotateOptionsOf(c *cli.Context, now time.Time) (o rotateOptions, err error) {
	o = rotateOptions{
		args: c.Args().Slice(), former: c.Bool("former"), newPassword: c.Bool("new-password"), dryRun: c.Bool("dry-run"),
		due: c.Bool("due"), some: c.Bool("due") || c.IsSet("older-than"),
	}
	if c.IsSet("older-than") {
		if o.before, err = parseAge(c.String("older-than"), now); err != nil {
			return o, err
		}
	}
	switch {
	case o.former && o.newPassword:
		return o, failure.Usage("--former and --new-password do not go together: a key from a password is wrapped to nobody")
	case o.former && (o.some || o.dryRun):
		return o, failure.Usage("--former does not go with --due, --older-than or --dry-run")
	case o.newPassword && !o.one():
		return o, failure.Usage("--new-password goes with the NAME of one key")
	case len(o.args) == 0 && !o.former && !o.some:
		return o, failure.Usage("rotate takes at least one NAME or PREFIX/, or --due, --older-than or --former")
	}
	if o.former {
		err = validNames(c)
	} else {
		err = refArguments(c, false)
	}
	if err != nil {
		return o, unquoted(c.String("reason"), err)
	}
	o.reason, err = reasonOption(c, false)
	return o, err
}

// means reports whether a prefix, or a condition, means a key.
func (o rotateOptions) means(s hsmkeys.Selected) bool {
	return isActive(s) && s.Entry.Current && !s.Entry.Legacy && s.Entry.Password == ""
}

// isDue reports whether a key fulfils the conditions.
func (o rotateOptions) isDue(e hsmkeys.Entry, now time.Time) bool {
	return (!o.due || e.RotationDue(now)) && (o.before.IsZero() || e.Created.Before(o.before))
}

func rotateMany(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o rotateOptions) error {
	all, err := choose(ctx, k, o.args, o.means)
	if err != nil {
		return err
	}
	if o.some {
		all = all.only(func(e hsmkeys.Entry) bool { return o.isDue(e, time.Now()) })
	}
	m := manyChange{
		doing: "rotate", done: "rotated", passedOver: "not active, legacy or from a password",
		do:   func(ctx context.Context) iter.Seq[hsmkeys.Result] { return k.RotateMany(ctx, all.current(), o.reason) },
		line: madeLine,
	}
	if o.dryRun {
		return m.dryRun(s, all)
	}
	noKeyChosen(all)
	if len(all.refs) > 0 {
		show.NoteAlone(k)
	}
	return m.run(ctx, s, all)
}

// madeLine describes a key that was made.
func madeLine(r hsmkeys.Result) string {
	return fmt.Sprintf("%s created: %s, key id %s", show.Version(r.Entry), r.Entry.Algorithm, r.Entry.KeyID)
}

func rotateOne(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o rotateOptions) error {
	e, err := rotate(ctx, s, k, o)
	if err != nil {
		return err
	}
	if e.Password != "" {
		notePassword()
	} else {
		show.NoteAlone(k)
	}
	return printMade(s, k, e)
}

func rotateFormer(ctx context.Context, k *hsmkeys.Keyring, reason string, names ...string) (tally.Tally, error) {
	results, total, err := k.RotateFormer(ctx, reason, names...)
	if err != nil {
		return tally.Tally{Failed: []tally.Failed{}}, err
	}
	return tally.Run(results, total, "rotate", nil)
}

func rotate(ctx context.Context, s *settings.Settings, k *hsmkeys.Keyring, o rotateOptions) (hsmkeys.Entry, error) {
	name := o.args[0]
	if !o.newPassword {
		return k.Rotate(ctx, name, o.reason)
	}
	e, err := k.Show(ctx, hsmkeys.Ref{Name: name})
	if err != nil {
		return e, err
	}
	if e.Password == "" {
		return e, failure.Usage("key %q is stored, and has no password", name)
	}
	password, err := session.NewPassword(ctx, s, name)
	if err != nil {
		return e, err
	}
	defer clear(password)
	return k.RotatePassword(ctx, name, password, o.reason)
}
