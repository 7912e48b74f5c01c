package commandline

import (
	"fmt"
	"io"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

// HelpPrinter prints a page of help with its examples. Package cli has no place for these: its
// templates are the same for all commands.
func HelpPrinter(w io.Writer, template string, page any) {
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

// OptionHelp returns the line of an option in a page of help, in two columns. That of package cli
// repeats the placeholder for each name of the option.
func OptionHelp(f cli.Flag) string {
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
		line += " " + Placeholder(d)
	}
	line += "\t" + Described(d)
	if o := settings.Lookup(f.Names()[0]); o != nil && o.Variable != "" {
		line += " [$" + o.Variable + "]"
	}
	return line
}

// NameInFull sets the full names of subcommands, which package cli sets only on the way to the
// command that runs.
func NameInFull(path string, commands []*cli.Command) {
	for _, c := range commands {
		for _, sub := range c.Subcommands {
			sub.HelpName = path + " " + c.Name + " " + sub.Name
		}
		NameInFull(path+" "+c.Name, c.Subcommands)
	}
}

// CommandName returns the full name of a command, without the program's.
func CommandName(c *cli.Command) string {
	if full, ok := strings.CutPrefix(c.HelpName, "hsmkeys "); ok {
		return full
	}
	return c.Name
}

// examplesHelp returns the part of a page of help with examples, as a template.
func examplesHelp(path string) string {
	examples := ExamplesOf(path)
	if len(examples) == 0 {
		return "" // a subcommand "help", which the cli package adds
	}
	var b strings.Builder
	b.WriteString("\nEXAMPLES:\n")
	for _, e := range examples {
		if e.What != "" {
			fmt.Fprintf(&b, "   # %s\n", e.What)
		}
		fmt.Fprintf(&b, "   %s\n", e.Line)
	}
	return fmt.Sprintf("{{%q}}", b.String()) // an example may have braces
}

// Placeholder returns the word in backquotes in the text of an option, or else the last word of its
// name.
func Placeholder(d cli.DocGenerationFlag) string {
	name := d.(cli.Flag).Names()[0]
	if parts := strings.Split(d.GetUsage(), "`"); len(parts) == 3 && !strings.HasSuffix(name, "-source") {
		return parts[1]
	}
	return strings.ToUpper(name[strings.LastIndex(name, "-")+1:])
}

// Described returns the text of an option with its default.
func Described(d cli.DocGenerationFlag) string {
	s := strings.ReplaceAll(d.GetUsage(), "`", "")
	if text := strings.Trim(d.GetDefaultText(), `"`); text != "" && text != "0" && d.TakesValue() {
		s += " (default: " + text + ")"
	}
	return s
}
