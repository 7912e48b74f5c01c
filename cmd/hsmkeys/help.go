package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"
)

// helpCommand takes the place of the cli package's own, which knows only the first
// word of a command.
func helpCommand() *cli.Command {
	return &cli.Command{
		Name: "help", Aliases: []string{"h"}, Usage: "the commands, or all about one, with examples", ArgsUsage: "[COMMAND…]",
		Action: func(c *cli.Context) error {
			command := &cli.Command{Subcommands: c.App.Commands}
			for _, word := range c.Args().Slice() {
				next := find(command.Subcommands, word)
				if next == nil {
					return usage("no command %q; hsmkeys help lists them", strings.Join(c.Args().Slice(), " "))
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

// helpPrinter prints a page of help with its examples, which are put together only now:
// most who start the program do not ask for help.
func helpPrinter(app *cli.App) func(w io.Writer, template string, page any) {
	return func(w io.Writer, template string, page any) {
		addHelp(app.Name, app.Commands)
		switch page := page.(type) {
		case *cli.App:
			template = cli.AppHelpTemplate + examplesHelp(app.Name)
		case *cli.Command:
			template = page.CustomHelpTemplate
		}
		cli.HelpPrinterCustom(w, template, page, nil)
	}
}

// addHelp gives every command a page of help with its examples. What a subcommand is
// called in full the cli package sets only on the way to the one that runs.
func addHelp(path string, commands []*cli.Command) {
	for _, c := range commands {
		full := path + " " + c.Name
		c.CustomHelpTemplate = cli.CommandHelpTemplate
		if len(c.Subcommands) > 0 {
			// Categories, which we have none of, are known only of commands that run.
			c.CustomHelpTemplate = strings.Replace(cli.SubcommandHelpTemplate, "visibleCommandCategoryTemplate", "visibleCommandTemplate", 1)
		}
		c.CustomHelpTemplate += examplesHelp(full)
		for _, sub := range c.Subcommands {
			sub.HelpName = full + " " + sub.Name
		}
		addHelp(full, c.Subcommands)
	}
}

// examplesHelp is the part of a page of help, as a template.
func examplesHelp(path string) string {
	var b strings.Builder
	b.WriteString("\nEXAMPLES:\n")
	for _, e := range examplesOf(path) {
		if e.what != "" {
			fmt.Fprintf(&b, "   # %s\n", e.what)
		}
		fmt.Fprintf(&b, "   %s\n", e.line)
	}
	return fmt.Sprintf("{{%q}}", b.String()) // an example may have braces
}
