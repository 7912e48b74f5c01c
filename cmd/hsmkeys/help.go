package main

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
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
				if next == nil && len(command.Subcommands) == 0 {
					name := commandName(command)
					return failure.UsageHint("hsmkeys help "+name, "%s has no commands, and %q is none", name, word)
				}
				if next == nil {
					return noCommand(strings.TrimSpace(strings.TrimPrefix(command.HelpName, c.App.Name)), word, command.Subcommands)
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
func helpPrinter(w io.Writer, template string, page any) {
	switch page := page.(type) {
	case *cli.App:
		template = cli.AppHelpTemplate + examplesHelp(page.Name)
	case *cli.Command:
		template = cli.CommandHelpTemplate
		if len(page.Subcommands) > 0 {
			// Categories, which we have none of, are known only of commands that run.
			template = strings.Replace(cli.SubcommandHelpTemplate, "visibleCommandCategoryTemplate", "visibleCommandTemplate", 1)
		}
		template += examplesHelp(page.HelpName)
	}
	cli.HelpPrinterCustom(w, template, page, nil)
}

// optionHelp is the line of an option in a page of help, in two columns. The cli package's own
// repeats the placeholder for each name of the option.
func optionHelp(f cli.Flag) string {
	d, ok := f.(cli.DocGenerationFlag)
	if !ok {
		return ""
	}
	var names []string
	for _, name := range f.Names() {
		names = append(names, dashed(name))
	}
	line := strings.Join(names, ", ")
	if d.TakesValue() {
		line += " " + placeholder(d)
	}
	line += "\t" + described(d)
	if o := settings.Lookup(f.Names()[0]); o != nil && o.Variable != "" {
		line += " [$" + o.Variable + "]"
	}
	return line
}

// nameInFull tells subcommands what they are called in full, which the cli package does
// only on the way to the one that runs.
func nameInFull(path string, commands []*cli.Command) {
	for _, c := range commands {
		for _, sub := range c.Subcommands {
			sub.HelpName = path + " " + c.Name + " " + sub.Name
		}
		nameInFull(path+" "+c.Name, c.Subcommands)
	}
}

// commandName is what a command is called in full, without the program's name.
func commandName(c *cli.Command) string {
	if full, ok := strings.CutPrefix(c.HelpName, "hsmkeys "); ok {
		return full
	}
	return c.Name
}

// examplesHelp is the part of a page of help, as a template.
func examplesHelp(path string) string {
	examples := examplesOf(path)
	if len(examples) == 0 {
		return "" // a subcommand "help", which the cli package adds
	}
	var b strings.Builder
	b.WriteString("\nEXAMPLES:\n")
	for _, e := range examples {
		if e.what != "" {
			fmt.Fprintf(&b, "   # %s\n", e.what)
		}
		fmt.Fprintf(&b, "   %s\n", e.line)
	}
	return fmt.Sprintf("{{%q}}", b.String()) // an example may have braces
}
