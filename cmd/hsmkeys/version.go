package main

import (
	"context"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/build"
	"github.com/hsmkeys/hsmkeys/cmd/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
)

func version() string { return build.Read().Version }

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "print version, commit and date of this program",
		Description: "They are recorded when the program is built. A program built outside a git repository knows no commit.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return printVersion(s)
		}),
	}
}

func printVersion(s *settings.Settings) error {
	b := build.Read()
	if s.JSON {
		return output.JSON(b)
	}
	if b.Commit == "" {
		return output.Line("hsmkeys version %s\n%s, %s", b.Version, b.Go, b.Platform)
	}
	modified := ""
	if b.Modified {
		modified = ", with changes"
	}
	return output.Line("hsmkeys version %s\ncommit %s of %s%s\n%s, %s", b.Version, b.Commit, b.Date, modified, b.Go, b.Platform)
}
