package settings

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/BurntSushi/toml"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/token"
)

// The configuration files that the documentation shows can be used.
func TestConfigurationsOfTheDocs(t *testing.T) {
	page, err := os.ReadFile("../../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	parts := strings.Split(string(page), "    # ~/.config/hsmkeys/config.toml\n")
	if len(parts) != 3 {
		t.Fatalf("%d configurations, want 2", len(parts)-1)
	}
	sections := 0
	for _, part := range parts[1:] {
		var text strings.Builder
		for line := range strings.Lines(part) {
			if strings.TrimSpace(line) != "" && !strings.HasPrefix(line, "    ") {
				break
			}
			text.WriteString(line)
		}
		var file map[string]any
		if err := toml.Unmarshal([]byte(text.String()), &file); err != nil {
			t.Fatalf("%v\n%s", err, &text)
		}
		s := &Settings{path: "configuration.md"}
		top, err := s.parse(file)
		if err != nil || top["token"] != "office" {
			t.Errorf("%v, %v", top, err)
		}
		sections += len(s.sections)
	}
	if sections != 2 {
		t.Errorf("%d sections, want 2", sections)
	}
}

func TestWhichSectionASelectorNames(t *testing.T) {
	label, serial := token.Selector{Label: "office"}, token.Selector{Serial: "1f"}
	both := token.Selector{Label: "office", Serial: "1f"}
	for _, tt := range []struct {
		name        string
		section     token.Selector
		sel         token.Selector
		yes, unsure bool
	}{
		{"the label", label, label, true, false},
		{"another label", label, token.Selector{Label: "vault"}, false, false},
		{"more than the label", label, both, true, false},
		{"less than the section has", both, label, false, true},
		{"less, and that is another", both, token.Selector{Label: "vault"}, false, false},
		{"the serial number of a token that is called so", label, serial, false, true},
		{"nothing", label, token.Selector{}, false, true},
		{"a slot", label, token.Selector{SlotID: new(uint)}, false, true},
		{"both, of which one is another", both, token.Selector{Label: "office", Serial: "2f"}, false, false},
	} {
		if yes, unsure := (section{token: tt.section}).names(tt.sel); yes != tt.yes || unsure != tt.unsure {
			t.Errorf("%s: %v, %v", tt.name, yes, unsure)
		}
	}
}

func TestWhichSourcesAreOne(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pin")
	link := filepath.Join(dir, "link")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(path, link); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		a, b string
		same bool
	}{
		{"file:" + path, "file:" + path, true},
		{"file:" + path, "file:" + link, true},
		{"file:" + path, "file:" + dir + "/./x/../pin", true},
		{"file:" + path, "file:" + dir, false},
		{"file:" + path, "exec:cat " + path, false},
		{"file:/none/a", "file:/none/./a", true},
		{"file:/none/a", "file:/none/b", false},
		{"env:PIN", "env:PIN", true},
		{"env:PIN", "env:PIN2", false},
		{"exec:cat pin", "exec:cat pin ", true},
		{"prompt", "prompt", false}, // a person types what belongs to the token that asks
		{"", "", false},
	} {
		if got := sameSource(tt.a, tt.b); got != tt.same {
			t.Errorf("%q and %q: %v", tt.a, tt.b, got)
		}
	}
}

// FuzzConfiguration: whatever the file says, it is taken or refused, and what is taken has
// the types that the options have.
func FuzzConfiguration(f *testing.F) {
	for _, seed := range []string{
		"", "token = \"office\"", "[token.office]\nstore = \"x\"\nsessions = 3", "[token.\"pkcs11:serial=1\"]\nrequire-token = true",
		"[token]\noffice = 1", "[[token.office]]", "default-token = \"a\"\n[token.a.b]", "json = true\nsessions = 17", "token = 2026-01-01",
	} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		var file map[string]any
		if toml.Unmarshal([]byte(text), &file) != nil {
			return
		}
		s := &Settings{path: "fuzzed"}
		top, err := s.parse(file)
		if err != nil {
			if failure.Status(err) != failure.StatusUsage {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		for name, value := range top {
			if err := Lookup(name).check(value, name); err != nil {
				t.Errorf("%q: %v", text, err)
			}
		}
		for _, x := range s.sections {
			if yes, unsure := x.names(x.token); !yes || unsure {
				t.Errorf("%q: %s does not name its own token", text, x.name)
			}
		}
	})
}
