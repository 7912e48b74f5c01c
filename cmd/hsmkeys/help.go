package main

import (
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// helpCommand replaces the help command of package cli, which knows only the first word of a
// command.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Aliases: []string{"h"}, Usage: "show the commands, or all about one, with examples", ArgsUsage: "[COMMAND…]",
		Action: func(c *cli.Context) error {
			command := &cli.Command{Subcommands: c.App.Commands}
			for _, word := range c.Args().Slice() {
				next := commandline.Find(command.Subcommands, word)
				if next == nil && len(command.Subcommands) == 0 {
					name := commandline.CommandName(command)
					return failure.UsageHint("hsmkeys help "+name, "%s has no commands, and %q is none", name, word)
				}
				if next == nil {
					return commandline.NoCommand(strings.TrimSpace(strings.TrimPrefix(command.HelpName, c.App.Name)), word, command.Subcommands)
				}
				command = next
			}
			if c.NArg() == 0 {
				return cli.ShowAppHelp(c)
			}
			cli.HelpPrinter(c.App.Writer, cli.CommandHelpTemplate, command)
			return nil
		},
	}
}
