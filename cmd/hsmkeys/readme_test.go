package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

// Every command that the README and the runbook show is one, with options that it has.
func TestCommandsOfTheDocsParse(t *testing.T) {
	for path, least := range map[string]int{"../../README.md": 30, "../../docs/recovery.md": 25} {
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
				parsed(t, command)
				shown++
			}
		}
		if shown < least {
			t.Errorf("%s: %d commands, want %d or more", path, shown, least)
		}
	}
}

// The README's table of commands has all of them, and each with options that it has.
func TestTheReadmeListsEveryCommand(t *testing.T) {
	page, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## Commands\n")
	table, _, _ = strings.Cut(strings.TrimLeft(table, "\n"), "\n\n")
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
				if lookup(c.Flags, name[1]) == nil && lookup(newApp().Flags, name[1]) == nil {
					t.Errorf("%q: %s has no option %s", match[1], path, name[1])
				}
			}
		}
	}
	for path := range commands {
		likewise := strings.Replace(path, "owner", "authority", 1) // "owner likewise"
		if !listed[path] && !listed[likewise] {
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
