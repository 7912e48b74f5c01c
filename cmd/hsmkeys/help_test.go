package main

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
)

// Every option has a placeholder that says what goes there, once, and no default that is not
// one.
func TestHelpNamesWhatOptionsTake(t *testing.T) {
	app := newApp()
	app.Setup()
	var pages bytes.Buffer
	commandline.HelpPrinter(&pages, "", app)
	for _, c := range everyCommand(app) {
		commandline.HelpPrinter(&pages, "", c)
	}
	if !strings.Contains(pages.String(), "--key, -k NAME[@VERSION]  NAME[@VERSION] of the session key") {
		t.Error("the option --key of encrypt is not there as it is to be")
	}
	if !strings.Contains(pages.String(), "--store STORE") || !strings.Contains(pages.String(), "[$HSMKEYS_STORE]") {
		t.Error("the option --store is not there as it is to be")
	}
	for line := range strings.Lines(pages.String()) {
		if regexp.MustCompile(`^ +--?[a-z].*(\bvalue  |\bVALUE  |\(default: (0|false)\))`).MatchString(line) {
			t.Errorf("%q", line)
		}
	}
	for path, c := range everyCommand(app) {
		for _, f := range c.Flags {
			head, _, _ := strings.Cut(cli.FlagStringer(f), "\t")
			if utf8.RuneCountInString(head) > 36 {
				t.Errorf("%s: %q has more than 36 characters before its text", path, head)
			}
		}
	}
}
