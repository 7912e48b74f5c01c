package commandline

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/cmd/internal/text"
)

// OnUsageError words the errors of package flag, which writes options with one dash, and keeps
// package cli from printing a page of help for each of them.
func OnUsageError(c *cli.Context, err error, _ bool) error {
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
	return failure.Usage("%w", err)
}

// unfit matches the errors of package flag about values that it cannot parse: the value in quotes,
// and the option.
var unfit = []*regexp.Regexp{
	regexp.MustCompile(`^invalid value (".*") for flag -([^:]+):`),
	regexp.MustCompile(`^invalid boolean value (".*") for -([^:]+):`),
}

// wanted returns what the value of an option has to be.
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

// optionOf returns an option of a command or a global one, or nil.
func optionOf(c *cli.Context, name string) cli.Flag {
	if c != nil && c.Command != nil {
		if option := Lookup(c.Command.Flags, name); option != nil {
			return option
		}
	}
	return Lookup(GlobalFlags(), name)
}

// dashed returns the name of an option with its dashes.
func dashed(name string) string {
	if len(name) == 1 {
		return "-" + name
	}
	return "--" + name
}

// optionNames returns the options of a command and the global ones.
func optionNames(c *cli.Context) []string {
	var names []string
	flags := GlobalFlags()
	if c != nil && c.Command != nil {
		flags = append(flags, c.Command.Flags...)
	}
	for _, f := range flags {
		names = append(names, f.Names()...)
	}
	return names
}

// NoCommand returns the error for a command that does not exist, in a group of commands or among
// all.
func NoCommand(group, word string, commands []*cli.Command) error {
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

// groupAction is the action of a group of commands that was given none of them.
func groupAction(c *cli.Context) error {
	if c.Args().Present() {
		return NoCommand(c.Command.Name, c.Args().First(), c.Command.Subcommands)
	}
	return failure.UsageHint("hsmkeys help "+c.Command.Name, "%s needs a command: %s", c.Command.Name, text.Enumerate(commandNames(c.Command.Subcommands)))
}

// commandNames returns the names of the commands that help shows.
func commandNames(commands []*cli.Command) []string {
	var names []string
	for _, c := range commands {
		if !c.Hidden && c.Name != "help" {
			names = append(names, c.Name)
		}
	}
	return names
}
