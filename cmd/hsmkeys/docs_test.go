package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
)

// Every command that the documentation shows exists, with the options it is given.
func TestCommandsOfTheDocsParse(t *testing.T) {
	places := strings.NewReplacer("$HSMKEYS_STORE", "/srv/store", "$MEDIUM", "/media/disk")
	for path, least := range map[string]int{
		"../../README.md": 20, "../../docs/recovery.md": 25, "../../docs/commands.md": 4, "../../docs/pins.md": 3, "../../docs/windows.md": 8, "../../docs/s3.md": 1, "../../docs/ci.md": 6,
	} {
		page, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		shown, fenced := 0, false
		for line := range strings.Lines(strings.ReplaceAll(string(page), "\\\n", " ")) {
			text := strings.TrimSpace(line)
			if strings.HasPrefix(text, "```") {
				fenced = !fenced
				continue
			}
			text, _, _ = strings.Cut(text, " # ") // a comment of ours, such as another way
			command, prompted := strings.CutPrefix(text, "$ ")
			if !fenced && !strings.HasPrefix(line, "    ") || !prompted && !strings.HasPrefix(text, "hsmkeys ") {
				continue
			}
			if strings.HasPrefix(command, "age ") {
				continue // which has an option called like us
			}
			if strings.HasPrefix(text, "hsmkeys ") || strings.Contains(command, " hsmkeys ") || strings.HasPrefix(command, "hsmkeys ") {
				parsed(t, places.Replace(command))
				shown++
			}
		}
		if shown < least {
			t.Errorf("%s: %d commands, want %d or more", path, shown, least)
		}
	}
}

// The table of commands in the documentation has every command, with options that exist.
func TestTheDocsListEveryCommand(t *testing.T) {
	page, err := os.ReadFile("../../docs/commands.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "| command | does |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	commands := everyCommand(newApp())
	listed := map[string]bool{"help": true}
	span, option := regexp.MustCompile("`([^`]+)`"), regexp.MustCompile(`(?:^|[\s[])--?([a-z][a-z0-9-]*)`)
	for row := range strings.Lines(table) {
		cell, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " | ")
		group := "" // of the row: "authority add CERT", "list"
		for _, match := range span.FindAllStringSubmatch(cell, -1) {
			path := longest(commands, match[1])
			if sub := longest(commands, group+" "+match[1]); group != "" && sub != group {
				path = sub
			}
			c := commands[path]
			if c == nil {
				if match[1] != "help [COMMAND]" {
					t.Errorf("%q is no command", match[1])
				}
				continue
			}
			listed[path] = true
			if parent, _, sub := strings.Cut(path, " "); sub {
				group, listed[parent] = parent, true
			}
			for _, name := range option.FindAllStringSubmatch(match[1], -1) {
				if commandline.Lookup(c.Flags, name[1]) == nil && commandline.Lookup(newApp().Flags, name[1]) == nil {
					t.Errorf("%q: %s has no option %s", match[1], path, name[1])
				}
			}
		}
	}
	for path := range commands {
		if !listed[path] {
			t.Errorf("%q is not in the table of commands", path)
		}
	}
}

// longest returns the command that a line starts with: the longest name there is.
func longest(commands map[string]*cli.Command, line string) string {
	path := ""
	for word := range strings.FieldsSeq(line) {
		next := strings.TrimSpace(path + " " + word)
		if commands[next] == nil {
			break
		}
		path = next
	}
	return path
}

// The table of options in the documentation has every global option, with its environment
// variable.
func TestTheDocsListEveryGlobalOption(t *testing.T) {
	page, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range commandline.GlobalFlags() {
		name := f.Names()[0]
		_, row, ok := strings.Cut(string(page), "\n| `--"+name+"`")
		if !ok {
			t.Errorf("--%s is not in the table of options", name)
			continue
		}
		row, _, _ = strings.Cut(row, "\n")
		for _, variable := range f.(cli.DocGenerationFlag).GetEnvVars() {
			if !strings.Contains(row, "`"+variable+"`") {
				t.Errorf("--%s: %s is not in its row", name, variable)
			}
		}
	}
}
