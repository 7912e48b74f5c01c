package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/text"
)

// This file words what is wrong with a command line.

// onUsageError words what the flag package has found, which writes options with one dash,
// and keeps the cli package from printing a page of help for one of them.
func onUsageError(c *cli.Context, err error, _ bool) error {
	text := err.Error()
	if name, ok := strings.CutPrefix(text, "flag provided but not defined: -"); ok {
		return failure.UsageHint(failure.DidYouMean(strings.TrimLeft(name, "-"), optionNames(c), dashed), "no option %s", dashed(strings.TrimLeft(name, "-")))
	}
	if name, ok := strings.CutPrefix(text, "flag needs an argument: -"); ok {
		return failure.Usage("option %s needs a value", dashed(strings.TrimLeft(name, "-")))
	}
	for _, known := range unfit {
		m := known.FindStringSubmatch(text)
		if m == nil {
			continue
		}
		return failure.Usage("option %s is %s, not %s", dashed(m[2]), wanted(optionOf(c, m[2])), m[1])
	}
	return &failure.UsageError{Err: err}
}

// unfit are the forms in which package flag reports values that it cannot parse, with the value in
// quotes and the option.
var unfit = []*regexp.Regexp{
	regexp.MustCompile(`^invalid value (".*") for flag -([^:]+):`),
	regexp.MustCompile(`^invalid boolean value (".*") for -([^:]+):`),
}

// wanted says what the value of an option has to be.
func wanted(option cli.Flag) string {
	switch option.(type) {
	case *cli.BoolFlag:
		return settings.Bool.String()
	case *cli.IntFlag, *cli.UintFlag:
		return settings.Number.String()
	default:
		return settings.Text.String()
	}
}

// optionOf returns an option of a command, or a global one; or nil.
func optionOf(c *cli.Context, name string) cli.Flag {
	if c != nil && c.Command != nil {
		if option := lookup(c.Command.Flags, name); option != nil {
			return option
		}
	}
	return lookup(globalFlags(), name)
}

func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// optionNames are the options of a command and the global ones.
func optionNames(c *cli.Context) []string {
	var names []string
	flags := globalFlags()
	if c != nil && c.Command != nil {
		flags = append(flags, c.Command.Flags...)
	}
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return names
}

// noCommand is for a command that is not there, in a group of commands or among all.
func noCommand(group, word string, commands []*cli.Command) error {
	full := strings.TrimSpace(group + " " + word)
	hint := failure.DidYouMean(word, commandNames(commands), func(name string) string { return strings.Join(strings.Fields("hsmkeys "+group+" "+name), " ") })
	names := commandNames(commands)
	if group != "" && len(names) == 1 {
		if hint == "" { // the word may be what that command takes
			hint = fmt.Sprintf("hsmkeys %s %s %s", group, names[0], word)
		}
		return failure.UsageHint(hint, "no command %q; there is %s", full, names[0])
	}
	if group != "" {
		return failure.UsageHint(hint, "no command %q; there are %s", full, text.Enumerate(names))
	}
	if hint == "" {
		hint = "hsmkeys help lists them"
	}
	return failure.UsageHint(hint, "no command %q", full)
}

// groupAction is what a command does that has commands of its own and was given none.
func groupAction(c *cli.Context) error {
	if c.Args().Present() {
		return noCommand(c.Command.Name, c.Args().First(), c.Command.Subcommands)
	}
	return failure.UsageHint("hsmkeys help "+c.Command.Name, "%s needs a command: %s", c.Command.Name, text.Enumerate(commandNames(c.Command.Subcommands)))
}

func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden && c.Name != "help" {
			names = append(names, c.Name)
		}
	}
	return names
}
