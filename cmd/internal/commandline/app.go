// Package commandline is what package cli (v2) does not do: options anywhere on the line, errors
// that name the option or command that was perhaps meant, help with examples. Each function says
// why it exists.
package commandline

import (
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// Adapt sets on every command what package cli has to be told for each. A command without
// subcommands must not have the subcommand "help" either: keys and files called help or h would
// print help in place of being verified.
func Adapt(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = OnUsageError
		c.HideHelpCommand = len(c.Subcommands) == 0
		if len(c.Subcommands) > 0 {
			if c.Action == nil {
				c.Action = groupAction
			}
		} else {
			c.Before = refuseEmpty
		}
		Adapt(c.Subcommands)
	}
}

// GlobalFlags returns the options that all commands have in common. Package settings alone reads
// the environment and the configuration file, so that the age plugin and completion need no command
// line.
func GlobalFlags() []cli.Flag {
	var flags []cli.Flag
	for _, o := range settings.Options {
		if o.Kind == settings.Bool {
			flags = append(flags, &cli.BoolFlag{Name: o.Name, Aliases: o.Aliases, Usage: o.Usage})
		} else {
			flags = append(flags, &cli.StringFlag{Name: o.Name, Aliases: o.Aliases, Usage: o.Usage, DefaultText: o.Default})
		}
	}
	return flags
}
