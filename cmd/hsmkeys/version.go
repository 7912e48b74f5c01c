package main

import (
	"context"
	"runtime"
	"runtime/debug"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/output"
	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/settings"
)

// build is what a program knows of how it was made. Its JSON form is stable.
type build struct {
	Version  string `json:"version"`
	Commit   string `json:"commit,omitempty"`
	Date     string `json:"date,omitempty"` // of the commit, RFC 3339
	Modified bool   `json:"modified"`       // there were changes that are in no commit
	Go       string `json:"go"`
	Platform string `json:"platform"`
}

// built reads it from where the linker put it: nothing is passed to the build that
// could say something else.
func built() build {
	b := build{Version: "(devel)", Go: runtime.Version(), Platform: runtime.GOOS + "/" + runtime.GOARCH}
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return b
	}
	if info.Main.Version != "" {
		b.Version = info.Main.Version
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			b.Commit = s.Value
		case "vcs.time":
			b.Date = s.Value
		case "vcs.modified":
			b.Modified = s.Value == "true"
		}
	}
	return b
}

func version() string { return built().Version }

func versionCommand() *cli.Command {
	return &cli.Command{
		Name: "version", Usage: "version, commit and date of this program",
		Description: "As the build has put them into the program. One that was built outside a git repository knows no commit.",
		Action: action(func(ctx context.Context, s *settings.Settings, c *cli.Context) error {
			if err := noArgument(c); err != nil {
				return err
			}
			return printVersion(s)
		}),
	}
}

func printVersion(s *settings.Settings) error {
	b := built()
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
