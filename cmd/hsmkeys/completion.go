package main

import (
	_ "embed"
	"io"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/completion"
	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
)

func completionCommand() *cli.Command {
	return &cli.Command{
		Name: "completion", Usage: "print the completion script for a shell: bash, zsh or fish", ArgsUsage: "SHELL",
		Description: "Completes commands, options and their values, the names of keys in the store, the labels of\n" +
			"tokens, and files. It neither asks for a PIN nor verifies anything.",
		Action: func(c *cli.Context) error {
			shell, err := oneArgument(c, "the SHELL: bash, zsh or fish")
			if err != nil {
				return err
			}
			script, ok := completion.Scripts[shell]
			if !ok {
				return failure.Usage("there is a completion for bash, zsh and fish, not for %q", shell)
			}
			_, err = io.WriteString(c.App.Writer, script)
			return err
		},
	}
}
