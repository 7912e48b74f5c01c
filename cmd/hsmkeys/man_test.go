package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/manual"
	"github.com/hsmkeys/hsmkeys/cmd/internal/settings"
	"github.com/hsmkeys/hsmkeys/docs"
)

// writtenManual has the program write its manual, and gives the paths of the pages.
func writtenManual(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	if err := manual.Write(newApp(), dir); err != nil {
		t.Fatal(err)
	}
	pages, err := filepath.Glob(filepath.Join(dir, "man*", "*"))
	if err != nil {
		t.Fatal(err)
	}
	return pages
}

func TestManualHasEveryCommandAndSection(t *testing.T) {
	pages := manual.Pages(newApp())
	want := []string{"hsmkeys.1", "hsmkeys-config.5", "hsmkeys-format.5"}
	for path := range everyCommand(newApp()) {
		want = append(want, manual.PageName("hsmkeys "+path)+".1")
	}
	for _, name := range want {
		sections := []string{"NAME", "SYNOPSIS", "DESCRIPTION", "OPTIONS", "EXAMPLES", "EXIT STATUS", "SEE ALSO"}
		if name == "hsmkeys-format.5" {
			sections = []string{"NAME", "SYNOPSIS", "DESCRIPTION", "SEE ALSO"}
		}
		at := -1
		for _, section := range sections {
			next := strings.Index(pages[name], "\n.SH "+section+"\n")
			if next <= at {
				t.Errorf("%s: section %s is missing, or not where it belongs", name, section)
			}
			at = next
		}
	}
	if len(pages) != len(want) {
		t.Errorf("%d pages, want %d", len(pages), len(want))
	}
}

func TestManualSaysWhatHelpSays(t *testing.T) {
	pages := manual.Pages(newApp())
	for path, c := range everyCommand(newApp()) {
		page := pages[manual.PageName("hsmkeys "+path)+".1"]
		for _, f := range c.Flags {
			if !strings.Contains(page, `\fB\-\-`+manual.RoffCode(f.Names()[0])+`\fR`) {
				t.Errorf("the page of %s has nothing on --%s", path, f.Names()[0])
			}
			if said := manual.RoffText(commandline.Described(f.(cli.DocGenerationFlag))); !strings.Contains(page, said) {
				t.Errorf("the page of %s does not say %q", path, said)
			}
		}
		for _, e := range commandline.Examples[path] {
			if !strings.Contains(page, manual.RoffCode(e.Line)) {
				t.Errorf("the page of %s does not show %q", path, e.Line)
			}
		}
	}
	for _, o := range settings.Options {
		for _, name := range []string{o.Variable, "--" + o.Name} {
			if name == "" {
				continue
			}
			if !strings.Contains(pages["hsmkeys.1"], manual.Bold(name)) {
				t.Errorf("hsmkeys(1) has nothing on %s", name)
			}
			if o.InFile && !strings.Contains(pages["hsmkeys-config.5"], manual.Bold(name)) {
				t.Errorf("hsmkeys-config(5) has nothing on %s", name)
			}
		}
	}
}

// Two programs read manual pages, and neither has a complaint.
func TestManualIsWellFormed(t *testing.T) {
	for _, path := range writtenManual(t) {
		for _, reader := range []string{"mandoc -Tlint -W warning", "man --warnings -E UTF-8 -Tutf8 -P cat -l"} {
			args := append(strings.Fields(reader), path)
			if _, err := exec.LookPath(args[0]); err != nil && args[0] == "man" {
				continue // mandoc brings it on some systems, and with other options
			}
			cmd := exec.Command(args[0], args[1:]...)
			cmd.Env = append(os.Environ(), "MANWIDTH=150", "MANROFFOPT=-ww")
			var complaints strings.Builder
			cmd.Stderr = &complaints
			if args[0] == "mandoc" {
				cmd.Stdout = &complaints
			}
			if err := cmd.Run(); err != nil || complaints.Len() > 0 {
				t.Errorf("%s: %v\n%s", args, err, &complaints)
			}
		}
	}
}

// Who copies a line of an example from the page gets what was written.
func TestManualKeepsCode(t *testing.T) {
	var format, encrypt string
	for _, path := range writtenManual(t) {
		switch filepath.Base(path) {
		case "hsmkeys-format.5":
			format = path
		case "hsmkeys-encrypt.1":
			encrypt = path
		}
	}
	show := func(path string) string {
		out, err := exec.Command("mandoc", "-Tascii", "-Owidth=200", path).Output()
		if err != nil {
			t.Fatalf("mandoc: %v", err)
		}
		var plain []byte
		for _, c := range out {
			if c == '\b' { // bold is a character, a backspace and the character again
				plain = plain[:len(plain)-1]
				continue
			}
			plain = append(plain, c)
		}
		return string(plain)
	}
	shown := show(format)
	code := false
	for line := range strings.Lines(docs.Format) {
		if strings.HasPrefix(line, "```") {
			code = !code
			continue
		}
		if line = strings.TrimSpace(line); code && !strings.Contains(shown, line) {
			t.Errorf("hsmkeys-format(5) does not show %q", line)
		}
	}
	if want := commandline.Examples["encrypt"][0].Line; !strings.Contains(show(encrypt), want) {
		t.Errorf("hsmkeys-encrypt(1) does not show %q", want)
	}
}

// The foot of a page has the version at the left and the date in the middle, from column 35.
func TestVersionAndDateDoNotOverlap(t *testing.T) {
	for version, want := range map[string]string{
		"v0.0.0-20261126024939-c8f62abcdef0+dirty": "v0.0.0-c8f62ab+dirty",
		"v1.2.4-0.20261126024939-c8f62abcdef0":     "v1.2.4-c8f62ab",
		"v1.2.3":                                   "v1.2.3",
		"(devel)":                                  "(devel)",
	} {
		if got := manual.PseudoVersion.ReplaceAllString(version, "$1"); got != want || len("hsmkeys "+got) > 33 {
			t.Errorf("%q, want %q", got, want)
		}
	}
}
