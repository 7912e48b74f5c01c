package commandline

import (
	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
)

// Adapt does to every command what the cli package wants done to each. One
// without subcommands must not have the subcommand "help" either, or keys and
// files called help or h would print help in place of being verified.
func Adapt(commands []*cli.Command) {
	for _, c := range commands {
		c.OnUsageError = OnUsageError
		c.HideHelpCommand = len(c.Subcommands) == 0
		if len(c.Subcommands) > 0 {
			c.Action = groupAction
		} else {
			c.Before = refuseEmpty
		}
		Adapt(c.Subcommands)
	}
}

// GlobalFlags are the options that all commands have in common, as package cli parses them. Only
// package settings knows what is in the environment and in the configuration file.
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
