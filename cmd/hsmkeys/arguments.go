package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/blob"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
)

// Arguments and options that several commands take.

// certificateFlag is for commands that only verify.
func certificateFlag() cli.Flag {
	return &cli.StringFlag{Name: "certificate", Usage: "use the certificate in this `FILE`, of an owner in force who has signed a checkpoint, in place of the token"}
}

// outputFlag is for commands that write data.
func outputFlag() cli.Flag {
	return &cli.StringFlag{Name: "output", Aliases: []string{"o"}, Usage: "write to this `FILE`", DefaultText: "stdout"}
}

// yesFlag is for commands that ask for confirmation.
func yesFlag() cli.Flag { return &cli.BoolFlag{Name: "yes", Usage: "do not ask"} }

// oneArgument returns the argument of a command that takes exactly one, which what names.
func oneArgument(c *cli.Context, what string) (string, error) {
	if c.NArg() != 1 {
		return "", failure.Usage("%s takes one argument, %s", commandline.CommandName(c.Command), what)
	}
	return c.Args().First(), nil
}

// noArgument refuses arguments.
func noArgument(c *cli.Context) error {
	if c.NArg() != 0 {
		return failure.Usage("%s takes no argument, but there is %q", commandline.CommandName(c.Command), c.Args().First())
	}
	return nil
}

// keyArgument returns the NAME[@VERSION] of a command that takes one key.
func keyArgument(c *cli.Context) (hsmkeys.Ref, error) {
	arg, err := oneArgument(c, "NAME or NAME@VERSION")
	if err != nil {
		return hsmkeys.Ref{}, err
	}
	return hsmkeys.ParseRef(arg)
}

// nameArgument returns the NAME of a command that takes a key without a version.
func nameArgument(c *cli.Context) (string, error) {
	name, err := oneArgument(c, "the NAME of the key")
	if err != nil {
		return "", err
	}
	return name, validName(c, name)
}

// newNameArgument is [nameArgument] for a key that does not exist yet.
func newNameArgument(c *cli.Context) (string, error) {
	name, err := nameArgument(c)
	if err != nil {
		return "", err
	}
	return name, blob.ValidNewName(name)
}

// validNames checks the arguments of a command that takes keys by name.
func validNames(c *cli.Context) error {
	for _, name := range c.Args().Slice() {
		if err := validName(c, name); err != nil {
			return err
		}
	}
	return nil
}

// validName checks the name of a key where no version may follow it.
func validName(c *cli.Context, name string) error {
	if key, _, versioned := strings.Cut(name, "@"); versioned && blob.ValidName(key) == nil {
		return failure.UsageHint(fmt.Sprintf("hsmkeys %s %s", commandline.CommandName(c.Command), key), "%s takes the NAME of a key, without a version", commandline.CommandName(c.Command))
	}
	return blob.ValidName(name)
}

// validLabel checks --label, of an object that is to be made on the token, before anything else is
// done.
func validLabel(c *cli.Context) error {
	if label := c.String("label"); label != "" && token.ValidLabel(label) != nil {
		return failure.Usage("--label %q: %v", label, token.ValidLabel(label))
	}
	return nil
}

// unquoted adds to an error about the name of a key that the name may be a word of a reason that
// was not quoted.
func unquoted(reason string, err error) error {
	if reason == "" || strings.ContainsRune(reason, ' ') || !errors.Is(err, blob.ErrNotFound) && !errors.Is(err, blob.ErrName) {
		return err
	}
	return failure.WithHint(err, fmt.Sprintf("%q is taken for the whole reason, and what follows for keys; put a reason of several words in quotes", reason))
}
