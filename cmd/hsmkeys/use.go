package main

import (
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
)

// commandUse returns what a command line is about, for the records of use: the command, and the keys and
// files that it names.
func commandUse(c *cli.Context) hsmkeys.Use {
	u := hsmkeys.Use{Command: commandline.CommandName(c.Command)}
	keys := c.StringSlice("key")
	switch takes := c.Command.ArgsUsage; {
	case strings.HasPrefix(takes, "NAME NEW-NAME"):
		keys = c.Args().Slice()[:min(c.NArg(), 1)]
	case strings.HasPrefix(strings.TrimLeft(takes, "["), "NAME"):
		keys = c.Args().Slice()
	case takes == "[IN]", takes == "FILE":
		u.File = absolute(c.Args().First())
	}
	u.Key = strings.Join(keys, " ")
	if c.Command.Name == "import" {
		u.File = absolute(c.String("capi"))
	}
	if commandline.Lookup(c.Command.Flags, "output") != nil {
		u.Output = absolute(c.String("output"))
	}
	return u
}

// absolute returns the absolute path of a file, or "" for stdin and stdout.
func absolute(path string) string {
	if path == "" || path == "-" {
		return ""
	}
	if at, err := filepath.Abs(path); err == nil {
		return at
	}
	return path
}
