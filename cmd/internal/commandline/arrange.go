package commandline

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

// Arrange puts the words of a command line in the order that package cli wants: global options,
// command, the command's options, and the rest. Users write options anywhere, also global ones
// after the command or after the name of a key. --help, wherever it stands, asks for help with the
// command. (Version 3 of package cli still stops at the first argument.)
func Arrange(app *cli.App, args []string) []string {
	if len(args) == 0 {
		return args
	}
	var global, path, local, rest []string
	commands, flags := app.Commands, []cli.Flag{}
	inCommand := true // the next word may be a command
	help := false
	for i := 1; i < len(args); i++ {
		arg := args[i]
		if arg == "--" {
			rest = append(rest, args[i+1:]...)
			break
		}
		if len(arg) < 2 || arg[0] != '-' {
			if next := Find(commands, arg); inCommand && next != nil {
				path, commands, flags = append(path, arg), next.Subcommands, next.Flags
			} else {
				inCommand = false
				rest = append(rest, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag, target := Lookup(flags, name), &local
		if flag == nil {
			if flag = Lookup(app.Flags, name); flag != nil {
				target = &global
			}
		}
		if flag == cli.HelpFlag {
			help = true
			continue
		}
		if len(path) == 0 {
			target = &global
		}
		*target = append(*target, arg)
		if flag != nil && !hasValue && TakesValue(flag) {
			if i++; i == len(args) { // it must not take what would be arranged behind it
				if target == &global {
					path = nil
				}
				return slices.Concat(args[:1], path, []string{arg})
			}
			*target = append(*target, args[i])
		}
	}
	if help && len(path) == 0 {
		path = rest
	}
	if help {
		return slices.Concat(args[:1], []string{"help"}, path)
	}
	out := slices.Concat(args[:1], global, path, local)
	if len(rest) > 0 {
		out = append(append(out, "--"), rest...)
	}
	return out
}

// refuseEmpty refuses empty arguments and empty values of options, which package cli accepts. They
// come from variables of the shell that are not set; taken for none, they would make a command read
// stdin instead of the file that was meant. The arguments of another program are its own.
func refuseEmpty(c *cli.Context) error {
	ours := !strings.HasPrefix(c.Command.ArgsUsage, "-- ")
	for _, arg := range c.Args().Slice() {
		if arg == "" && ours {
			return failure.Usage("an argument of %s is empty", CommandName(c.Command))
		}
	}
	for _, f := range c.Command.Flags {
		if f, ok := f.(*cli.StringFlag); ok && c.IsSet(f.Name) && c.String(f.Name) == "" {
			return failure.Usage("the value of option %s is empty", dashed(f.Name))
		}
	}
	return nil
}

// Find returns the command of that name, or nil.
func Find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

// Lookup returns the option of that name, or nil.
func Lookup(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

// TakesValue reports whether an option takes a value.
func TakesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
