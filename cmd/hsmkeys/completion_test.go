package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// completed gives the kind of an answer, and its candidates without what they are about.
func completed(t *testing.T, o *office, args ...string) (kind string, candidates []string) {
	t.Helper()
	cmd := o.command(append([]string{completeWord}, args...)...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output() // what hangs there does so for ever
	if err != nil || stderr.Len() > 0 {
		t.Errorf("%q: %v, and on stderr: %s", args, err, &stderr)
	}
	if strings.ContainsFunc(string(out), func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f }) {
		t.Errorf("%q: control characters in %q", args, out)
	}
	lines := strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
	kind, _, _ = strings.Cut(lines[0], "\t")
	for _, line := range lines[1:] {
		word, _, _ := strings.Cut(line, "\t")
		candidates = append(candidates, word)
	}
	return kind, candidates
}

// completionOffice has more keys and tokens than newOffice, some with names that a shell
// must quote; and a PIN that must not be asked for.
func completionOffice(t *testing.T) *office {
	t.Helper()
	o := newOffice(t)
	o.run(t, "create", "site-b/audit")
	for _, label := range []string{"back office (2nd)", "it's $HOME"} {
		o.run(t, "token", "init", label, "--so-pin-source", "env:SO_PIN_FOR_TEST")
	}
	// hsmkeys itself makes no such token.
	foreign := exec.Command("softhsm2-util", "--init-token", "--free", "--label", "red\x1b[31m", "--pin", testPIN, "--so-pin", testSOPIN)
	foreign.Env = o.env
	if out, err := foreign.CombinedOutput(); err != nil {
		t.Fatalf("softhsm2-util: %v\n%s", err, out)
	}
	for _, name := range []string{"letter.txt", "my letter.txt"} {
		if err := os.WriteFile(filepath.Join(o.dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	asked := filepath.Join(o.dir, "asked")
	o.env = append(o.env, "HSMKEYS_PIN_SOURCE=exec:touch "+asked)
	t.Cleanup(func() {
		if _, err := os.Stat(asked); err == nil {
			t.Error("the PIN was asked for")
		}
	})
	return o
}

// blobName is what the file of a first version is called.
var blobName = "1.1." + strings.Repeat("0", 64) + ".cms"

func TestComplete(t *testing.T) {
	o := completionOffice(t)
	// What is in the store may be anybody's.
	for _, dir := range []string{"keys/evil\x1b[31m", "keys/Capital", "keys/two\nlines", "keys/.hidden", "keys/empty"} {
		if err := os.MkdirAll(filepath.Join(o.dir, "store", dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if dir != "keys/empty" {
			if err := os.WriteFile(filepath.Join(o.dir, "store", dir, blobName), nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.WriteFile(filepath.Join(o.dir, "config.toml"), []byte("store = \"elsewhere\"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		words []string
		kind  string
		want  string
	}{
		{[]string{"rec"}, kindWords, "recover"},
		{[]string{"authority", ""}, kindWords, "add list remove"},
		{[]string{"help", "authority", "r"}, kindWords, "remove"},
		{[]string{"bogus", "sh"}, kindWords, ""},
		{[]string{"create", "x", "--al"}, kindWords, "--algorithm"},
		{[]string{"create", "--json", "x", "--algorithm", "hmac"}, kindWords, "hmac-sha256 hmac-sha384 hmac-sha512"},
		{[]string{"init", "--key-type=p"}, kindWords, "--key-type=p256 --key-type=p384 --key-type=p521"},
		{[]string{"show", ""}, kindWords, "payroll site-b/"},
		{[]string{"show", "site-b/"}, kindWords, "site-b/audit"},
		{[]string{"show", "payroll@"}, kindWords, "payroll@1"},
		{[]string{"show", "../"}, kindWords, ""},
		{[]string{"history", "payroll@"}, kindWords, ""},
		{[]string{"create", ""}, kindWords, "site-b/"},
		{[]string{"verify", "payroll", "s"}, kindWords, "site-b/"},
		{[]string{"encrypt", "-k", "p"}, kindWords, "payroll"},
		{[]string{"--store", "store", "show", "p"}, kindWords, "payroll"},
		{[]string{"show", "--store=elsewhere", "p"}, kindWords, ""},
		{[]string{"--config", "none.toml", "show", "p"}, kindWords, ""},
		{[]string{"--token", "of"}, kindWords, "office"},
		{[]string{"list", "--token=of"}, kindWords, "--token=office"},
		{[]string{"list", "--module", "none.so", "--token", ""}, kindWords, ""},
		{[]string{"list", "--pin-source", ""}, kindWords, "env: exec: file: prompt"},
		{[]string{"list", "--pin-source", "env:PIN_FOR"}, kindWords, "env:PIN_FOR_TEST"},
		{[]string{"list", "--pin-source", "file:"}, kindFiles, ""},
		{[]string{"join", "--vouched-by", ""}, kindFiles, ""},
		{[]string{"decrypt", "l"}, kindFiles, ""},
		{[]string{"decrypt", "--", "-l"}, kindFiles, ""},
		{[]string{"list", "--store", ""}, kindDirectories, ""},
		{[]string{"merge", ""}, kindDirectories, ""},
		{[]string{"store", "move", ""}, kindDirectories, ""},
		{[]string{"store", ""}, kindWords, "compact move"},
		{[]string{"log", "pay"}, kindWords, "payroll"},
		{[]string{"accept", ""}, kindWords, ""},
		{[]string{"completion", "z"}, kindWords, "zsh"},
		{[]string{""}, kindWords, strings.Join(visibleCommands(), " ")},
	} {
		kind, got := completed(t, o, append([]string{"fish"}, tt.words...)...)
		if kind != tt.kind || strings.Join(got, " ") != tt.want {
			t.Errorf("%q: %s %q, want %s %q", tt.words, kind, got, tt.kind, tt.want)
		}
	}
	_, labels := completed(t, o, "fish", "list", "--token", "")
	if len(labels) != 4 || labels[0] != "back office (2nd)" || labels[1] != "it's $HOME" || !strings.HasPrefix(labels[3], "pkcs11:serial=") {
		t.Errorf("tokens: %q", labels)
	}
	o.env = append(o.env, "HSMKEYS_STORE=", "HSMKEYS_CONFIG=config.toml")
	if _, got := completed(t, o, "fish", "show", ""); got != nil {
		t.Errorf("the configuration file names another store, and there is %q", got)
	}
	if _, got := completed(t, o, "fish"); got != nil {
		t.Errorf("without a word there is %q", got)
	}
}

func visibleCommands() []string {
	var all []string
	for path := range everyCommand(newApp()) {
		if !strings.Contains(path, " ") {
			all = append(all, path)
		}
	}
	slices.Sort(all)
	return all
}

// A configuration that would hang must not hang the shell.
func TestCompleteEnds(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	o := &office{dir, append(os.Environ(), "HSMKEYS_CONFIG="+fifo, "HOME="+dir)}
	if kind, got := completed(t, o, "fish", "show", ""); kind != "words" || len(got) > 0 {
		t.Errorf("%s %q", kind, got)
	}
}

// Nor must a module, whatever it does when it is loaded.
func TestCompleteIsSparedWhatModulesDo(t *testing.T) {
	dir := t.TempDir()
	o := &office{dir, append(os.Environ(), "HOME="+dir)}
	for name, does := range map[string]string{
		"noise": `puts("noise \033[31m"); fflush(stdout); fputs("and an error\n", stderr);`,
		"hang":  `for (;;) pause();`,
	} {
		source, module := filepath.Join(dir, name+".c"), filepath.Join(dir, name+".so")
		code := "#include <stdio.h>\n#include <unistd.h>\n__attribute__((constructor)) void load(void) { " + does + " }\n"
		if err := os.WriteFile(source, []byte(code), 0o600); err != nil {
			t.Fatal(err)
		}
		if out, err := exec.Command("gcc", "-shared", "-fPIC", "-o", module, source).CombinedOutput(); err != nil {
			t.Fatalf("gcc: %v\n%s", err, out)
		}
		if kind, got := completed(t, o, "fish", "--module", module, "--token", ""); kind != kindWords || got != nil {
			t.Errorf("%s: %s %q", name, kind, got)
		}
	}
}

func TestCompleteOfManyKeysIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * mostCandidates {
		key := filepath.Join(dir, "keys", "key-"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String())
		if err := os.MkdirAll(key, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(key, blobName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := &office{dir, append(os.Environ(), "HSMKEYS_STORE="+dir, "HOME="+dir)}
	if _, got := completed(t, o, "fish", "show", ""); len(got) != mostCandidates {
		t.Errorf("%d candidates, want %d", len(got), mostCandidates)
	}
	if _, got := completed(t, o, "fish", "show", "key-xa7"); len(got) == 0 || len(got) == mostCandidates {
		t.Errorf("%d candidates", len(got))
	}
}

// The closed lists are those that help names, and no option that lists is forgotten.
func TestChoicesAreThoseOfHelp(t *testing.T) {
	commands := everyCommand(newApp())
	for option, values := range choices {
		path, name, _ := strings.Cut(option, " --")
		c := commands[path]
		if c == nil || lookup(c.Flags, name) == nil {
			t.Errorf("%s: no such option", option)
			continue
		}
		said := lookup(c.Flags, name).(cli.DocGenerationFlag).GetUsage()
		words := strings.FieldsFunc(said, func(r rune) bool { return strings.ContainsRune(" ,;:()", r) })
		for _, value := range values {
			if !slices.Contains(words, value) {
				t.Errorf("%s: help does not name %q: %s", option, value, said)
			}
		}
	}
	for path, c := range commands {
		for _, f := range c.Flags {
			said := f.(cli.DocGenerationFlag).GetUsage()
			if takesValue(f) && !strings.Contains(said, "`") && f.Names()[0] != "so-pin-source" && choices[path+" --"+f.Names()[0]] == nil && strings.Contains(said, " or ") {
				t.Errorf("hsmkeys %s --%s is one of a few, and has no choices: %s", path, f.Names()[0], said)
			}
		}
	}
}

func TestBashQuoting(t *testing.T) {
	for _, tt := range []struct{ raw, word, want string }{
		{"ba", "back office", `back\ office`},
		{`back\ o`, "back office", `back\ office`},
		{"'ba", "back 'office'", `back '\''office'\''`},
		{`"ba`, `back "$office`, `back \"\$office`},
		{"--token=ba", "--token=back office", `back\ office`},
		{"--token='ba", "--token=back office", "back office"},
		{"", "~root; $(x) `y` *", "\\~root\\;\\ \\$\\(x\\)\\ \\`y\\`\\ \\*"},
		{"payroll@", "payroll@1", "@1"},
		{"", "Zoë", "Zoë"},
	} {
		if got := bashQuoting("=:@", tt.raw)(tt.word); got != tt.want {
			t.Errorf("%s, %s: %s, want %s", tt.raw, tt.word, got, tt.want)
		}
	}
	if got := bashQuoting("", "--token=ba")("--token=bank"); got != "--token=bank" {
		t.Errorf("nothing breaks words, and it is %s", got)
	}
}

func TestFish(t *testing.T) {
	o := completionOffice(t)
	for line, want := range map[string]string{
		"hsmkeys sh":                           "show",
		"hsmkeys show site":                    "site-b/",
		"hsmkeys show site-b/":                 "site-b/audit",
		"hsmkeys list --token ba":              "back office (2nd)",
		"hsmkeys list --token 'ba":             "back office (2nd)",
		`hsmkeys list --token back\ o`:         "back office (2nd)",
		"hsmkeys list --token=ba":              "--token=back office (2nd)",
		"hsmkeys --token 'back office' show p": "payroll",
		"hsmkeys create x --algo":              "--algorithm",
		"hsmkeys encrypt my":                   "my letter.txt",
		"hsmkeys --pin-source file:let":        "file:letter.txt",
		"hsmkeys --store=st":                   "--store=store/",
		"hsmkeys nothing ":                     "",
	} {
		cmd := exec.Command("fish", "--no-config", "-c", "hsmkeys completion fish | source; complete -C $argv[1]", line)
		cmd.Dir, cmd.Env = o.dir, o.env
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("fish: %v\n%s", err, out)
		}
		got, _, _ := strings.Cut(strings.TrimSuffix(string(out), "\n"), "\t")
		if got != want {
			t.Errorf("%s: %q, want %q", line, got, want)
		}
	}
}
