package main

import (
	"context"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
)

// everyCommand gives all commands that help shows, by their full names.
func everyCommand(app *cli.App) map[string]*cli.Command {
	all := map[string]*cli.Command{}
	var walk func(path string, commands []*cli.Command)
	walk = func(path string, commands []*cli.Command) {
		for _, c := range commands {
			if c.Hidden {
				continue
			}
			full := strings.TrimSpace(path + " " + c.Name)
			all[full] = c
			walk(full, c.Subcommands)
		}
	}
	walk("", app.Commands)
	return all
}

func TestEveryCommandHasAnExample(t *testing.T) {
	commands := everyCommand(newApp())
	for path := range commands {
		if len(commandline.Examples[path]) == 0 {
			t.Errorf("hsmkeys %s has no example", path)
		}
	}
	for path := range commandline.Examples {
		if commands[path] == nil && path != "" {
			t.Errorf("there are examples of %q, which is no command", path)
		}
	}
}

// An example that does not parse is worse than none. [TestEveryExampleRuns] runs them.
func TestEveryExampleParses(t *testing.T) {
	for path, all := range commandline.Examples {
		for i, e := range all {
			if strings.ContainsFunc(e.What+e.Line, func(r rune) bool { return r < ' ' || r > '~' }) {
				t.Errorf("%q is not one line of ASCII, which is what a manual page shows everywhere", e.Line)
			}
			if i > 0 && strings.HasPrefix(e.Line, "age ") {
				continue // what comes after
			}
			ran := parsed(t, e.Line)
			if i == 0 && path != "" && ran != path && !strings.HasPrefix(ran, path+" ") {
				t.Errorf("%q is the first example of %q and runs %q", e.Line, path, ran)
			}
		}
	}
}

// parsed parses a command line of the shell up to where its hsmkeys would do something.
func parsed(t *testing.T, line string) (command string) {
	t.Helper()
	_, after, ok := strings.Cut(" "+strings.Replace(line, `eval "$(`, "", 1), " hsmkeys ")
	if !ok {
		t.Fatalf("%q does not run hsmkeys", line)
	}
	after, _, _ = strings.Cut(after, " | ")
	after, _, _ = strings.Cut(after, " >")
	after, _, _ = strings.Cut(after, `)"`)
	words, err := exec.Command("sh", "-c", `printf '%s\0' `+after).Output()
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	var args []string
	app := newApp()
	for path, c := range everyCommand(app) {
		c.Action = func(c *cli.Context) error {
			command, args = path, c.Args().Slice()
			return nil
		}
	}
	app.Before = nil
	app.Writer, app.ErrWriter = io.Discard, io.Discard
	given := strings.Split(strings.TrimSuffix(string(words), "\x00"), "\x00")
	if err := app.RunContext(context.Background(), commandline.Arrange(app, slices.Concat([]string{"hsmkeys"}, given))); err != nil {
		t.Errorf("%q: %v", line, err)
	}
	if command == "" {
		t.Errorf("%q runs no command", line)
	}
	takes := ""
	if c := everyCommand(newApp())[command]; c != nil {
		takes = c.ArgsUsage
	}
	if n := len(args); !strings.Contains(takes, "…") && n > len(strings.Fields(takes)) || n == 0 && takes != "" && takes[0] != '[' {
		t.Errorf("%q: %d arguments, and it takes %q", line, n, takes)
	}
	return command
}

func TestHelpShowsExamples(t *testing.T) {
	o := &office{dir: t.TempDir()}
	for path := range everyCommand(newApp()) {
		out, err := o.command(append([]string{"help"}, strings.Fields(path)...)...).Output()
		if err != nil {
			t.Errorf("hsmkeys help %s: %v", path, err)
		}
		for _, want := range []string{"NAME:\n   hsmkeys " + path + " - ", "\nEXAMPLES:\n", commandline.Examples[path][0].Line} {
			if !strings.Contains(string(out), want) {
				t.Errorf("hsmkeys help %s does not show %q", path, want)
			}
		}
		same, err := o.command(append(strings.Fields(path), "--help")...).Output()
		if err != nil || string(same) != string(out) {
			t.Errorf("hsmkeys %s --help is not what hsmkeys help %s shows: %v", path, path, err)
		}
	}
}
