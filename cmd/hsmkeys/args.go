package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/failure"
)

// arrange lets options stand anywhere, as people write them: after the name of a
// key, and global ones after the command. The cli package wants global options,
// command, the command's options and then the rest, in this order. --help, wherever
// it stands, asks for help with the command.
func arrange(app *cli.App, args []string) []string {
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
			if next := find(commands, arg); inCommand && next != nil {
				path, commands, flags = append(path, arg), next.Subcommands, next.Flags
			} else {
				inCommand = false
				rest = append(rest, arg)
			}
			continue
		}
		name, _, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
		flag, target := lookup(flags, name), &local
		if flag == nil {
			if flag = lookup(app.Flags, name); flag != nil {
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
		if flag != nil && !hasValue && takesValue(flag) {
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

// refuseEmpty refuses empty arguments and empty values of options. They come from a variable of
// the shell that is not set, and read as none they would have a command take stdin in place of
// the file that was meant, or another store.
func refuseEmpty(c *cli.Context) error {
	for _, arg := range c.Args().Slice() {
		if arg == "" {
			return failure.Usage("an argument of %s is empty", commandName(c.Command))
		}
	}
	for _, f := range c.Command.Flags {
		if f, ok := f.(*cli.StringFlag); ok && c.IsSet(f.Name) && c.String(f.Name) == "" {
			return failure.Usage("the value of option %s is empty", dashed(f.Name))
		}
	}
	return nil
}

func find(commands []*cli.Command, name string) *cli.Command {
	for _, c := range commands {
		if c.HasName(name) {
			return c
		}
	}
	return nil
}

func lookup(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if slices.Contains(f.Names(), name) {
			return f
		}
	}
	return nil
}

func takesValue(f cli.Flag) bool {
	d, ok := f.(cli.DocGenerationFlag)
	return ok && d.TakesValue()
}
