package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/tally"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// Commands that change many keys: which they choose, and what they print.

// manyFlags are the options that all of them have.
func manyFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "reason", Usage: "why, in a few `WORDS`; hsmkeys log shows it"},
		&cli.BoolFlag{Name: "dry-run", Usage: "only print what would be done"},
	}
}

// reasonOption returns --reason, which must be there if it is needed.
func reasonOption(c *cli.Context, needed bool) (string, error) {
	reason := c.String("reason")
	if reason == "" && !needed && !c.IsSet("reason") {
		return "", nil
	}
	if reason == "" {
		return "", failure.Usage("%s needs --reason WORDS", commandline.CommandName(c.Command))
	}
	if err := blob.ValidReason(reason); err != nil {
		return "", failure.Usage("--reason %v", err)
	}
	return reason, nil
}

// A chosen is the keys that the arguments of a command choose.
type chosen struct {
	refs        []hsmkeys.Ref
	entries     []hsmkeys.Entry // of the newest version of each
	conditional []bool          // chosen by what they are, as below a prefix, and not by name
	passed      int             // keys below a prefix that the command is not about
}

func (c *chosen) add(ref hsmkeys.Ref, e hsmkeys.Entry, conditional bool) {
	c.refs, c.entries, c.conditional = append(c.refs, ref), append(c.entries, e), append(c.conditional, conditional)
}

func (c chosen) names() []string {
	names := make([]string, len(c.refs))
	for i, ref := range c.refs {
		names[i] = ref.Name
	}
	return names
}

// current returns the keys, with the version that encrypts for those that were chosen because it does.
func (c chosen) current() []hsmkeys.Ref {
	refs := slices.Clone(c.refs)
	for i, e := range c.entries {
		if c.conditional[i] {
			refs[i].Version = e.Version
		}
	}
	return refs
}

// only returns the keys for which a condition holds. The others are not counted: nobody asked for them.
func (c chosen) only(holds func(hsmkeys.Entry) bool) chosen {
	some := chosen{passed: c.passed}
	for i, e := range c.entries {
		if holds(e) {
			some.add(c.refs[i], e, true)
		}
	}
	return some
}

// refArguments checks the arguments of a command that takes NAME, NAME@VERSION and PREFIX/, or no
// versions.
func refArguments(c *cli.Context, versions bool) error {
	for _, arg := range c.Args().Slice() {
		if prefix, ok := strings.CutSuffix(arg, "/"); ok {
			if err := blob.ValidName(prefix); err != nil {
				return err
			}
			continue
		}
		if !versions {
			if err := validName(c, arg); err != nil {
				return err
			}
		} else if _, err := hsmkeys.ParseRef(arg); err != nil {
			return err
		}
	}
	return nil
}

// choose returns the keys that are named; below a prefix, or if none is named, only those that the command
// means.
func choose(ctx context.Context, k *hsmkeys.Keyring, args []string, means func(hsmkeys.Selected) bool) (chosen, error) {
	var all chosen
	var names []string
	for _, arg := range args {
		ref, err := hsmkeys.ParseRef(arg)
		if err != nil || ref.Version == 0 { // a name or a prefix
			names = append(names, arg)
			continue
		}
		e, err := k.Show(ctx, ref)
		if err != nil {
			return all, err
		}
		if !slices.Contains(all.refs, ref) {
			all.add(ref, e, false)
		}
	}
	if len(args) > 0 && len(names) == 0 {
		return all, nil
	}
	selected, err := k.Select(ctx, names)
	if err != nil {
		return all, err
	}
	for _, one := range selected {
		if one.ByPrefix && !means(one) {
			all.passed++
			continue
		}
		all.add(hsmkeys.Ref{Name: one.Entry.Name}, one.Entry, one.ByPrefix)
	}
	return all, nil
}

// A manyChange is what a command does to the keys that were chosen.
type manyChange struct {
	doing, done string // "rotate", "rotated"
	unchanged   string // "not needed"
	passedOver  string // "not active"

	do   func(context.Context) iter.Seq[hsmkeys.Result]
	line func(hsmkeys.Result) string // about a key that was changed
}

// run changes the keys, and prints a line for each and a summary.
func (m manyChange) run(ctx context.Context, s *settings.Settings, all chosen) error {
	t, err := tally.Run(m.do(ctx), len(all.refs), m.doing, m.line)
	t.PassedOver = all.passed
	return errors.Join(t.Print(s, m.done, m.unchanged, m.passedOver), err)
}

// dryRun prints what run would do.
func (m manyChange) dryRun(s *settings.Settings, all chosen) error {
	if s.JSON {
		return output.JSON(dryRun{all.entries, all.passed})
	}
	for i, ref := range all.refs {
		e := all.entries[i]
		if err := output.Line("would %s %s: version %d, %s, created %s", m.doing, ref, e.Version, e.Status, text.Time(e.Created)); err != nil {
			return err
		}
	}
	return output.Line("would %s %s%s", m.doing, text.Plural(len(all.refs), "key", "keys"), tally.PassedOver(all.passed, m.passedOver))
}

// dryRun is what would be done, in JSON. Its form is stable.
type dryRun struct {
	Would  []hsmkeys.Entry `json:"would"` // be changed
	Passed int             `json:"passed_over"`
}

// noKeyChosen prints a note if a command that works on what it finds has found nothing.
func noKeyChosen(all chosen) {
	if len(all.refs) == 0 {
		message.Note("no key was chosen: nothing is done")
	}
}

// singleResult returns the result for one key.
func singleResult(results iter.Seq[hsmkeys.Result]) (r hsmkeys.Result, err error) {
	err = errors.New("there is no result")
	for r = range results {
		if err = r.Err; err != nil {
			return r, err
		}
	}
	return r, err
}

// versionsText returns the versions of a result in words.
func versionsText(name string, versions []int) string {
	switch n := len(versions); {
	case n == 1:
		return hsmkeys.Ref{Name: name, Version: versions[0]}.String()
	case n > 2 && versions[n-1]-versions[0] == n-1:
		return fmt.Sprintf("%s, versions %d to %d", name, versions[0], versions[n-1])
	}
	var all []string
	for _, v := range versions {
		all = append(all, fmt.Sprint(v))
	}
	return fmt.Sprintf("%s, versions %s", name, text.Enumerate(all))
}
