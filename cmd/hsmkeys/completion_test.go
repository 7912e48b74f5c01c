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

	"github.com/hsmkeys/hsmkeys/cmd/internal/commandline"
	"github.com/hsmkeys/hsmkeys/cmd/internal/completion"
)

// completed gives the kind of an answer, and its candidates without what they are about.
func completed(t *testing.T, o *office, args ...string) (kind string, candidates []string) {
	t.Helper()
	cmd := o.command(append([]string{completion.Command}, args...)...)
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
	o.env = append(o.env, "HSMKEYS_SOFTHSM_TOKENS=one,two")
	for _, tt := range []struct {
		words []string
		kind  string
		want  string
	}{
		{[]string{"rec"}, completion.KindWords, "recover"},
		{[]string{"authority", ""}, completion.KindWords, "add list remove"},
		{[]string{"help", "authority", "r"}, completion.KindWords, "remove"},
		{[]string{"bogus", "sh"}, completion.KindWords, ""},
		{[]string{"create", "x", "--al"}, completion.KindWords, "--algorithm"},
		{[]string{"create", "--json", "x", "--algorithm", "hmac"}, completion.KindWords, "hmac-sha256 hmac-sha384 hmac-sha512"},
		{[]string{"init", "--key-type=p"}, completion.KindWords, "--key-type=p256 --key-type=p384 --key-type=p521"},
		{[]string{"show", ""}, completion.KindWords, "payroll site-b/"},
		{[]string{"show", "site-b/"}, completion.KindWords, "site-b/audit"},
		{[]string{"show", "payroll@"}, completion.KindWords, "payroll@1"},
		{[]string{"show", "../"}, completion.KindWords, ""},
		{[]string{"history", "payroll@"}, completion.KindWords, ""},
		{[]string{"create", ""}, completion.KindWords, "site-b/"},
		{[]string{"verify", "payroll", "s"}, completion.KindWords, "site-b/"},
		{[]string{"encrypt", "-k", "p"}, completion.KindWords, "payroll"},
		{[]string{"--store", "store", "show", "p"}, completion.KindWords, "payroll"},
		{[]string{"show", "--store=elsewhere", "p"}, completion.KindWords, ""},
		{[]string{"--config", "none.toml", "show", "p"}, completion.KindWords, ""},
		{[]string{"--token", "of"}, completion.KindWords, "office"},
		{[]string{"list", "--token=of"}, completion.KindWords, "--token=office"},
		{[]string{"list", "--module", "none.so", "--token", ""}, completion.KindWords, ""},
		{[]string{"list", "--pin-source", ""}, completion.KindWords, "env: exec: file: prompt"},
		{[]string{"list", "--pin-source", "env:PIN_FOR"}, completion.KindWords, "env:PIN_FOR_TEST"},
		{[]string{"list", "--pin-source", "file:"}, completion.KindFiles, ""},
		{[]string{"list", "--audit", ""}, completion.KindWords, "file: journald syslog"},
		{[]string{"list", "--audit", "file:"}, completion.KindFiles, ""},
		{[]string{"join", "--vouched-by", ""}, completion.KindFiles, ""},
		{[]string{"decrypt", "l"}, completion.KindFiles, ""},
		{[]string{"decrypt", "--", "-l"}, completion.KindFiles, ""},
		{[]string{"list", "--store", ""}, completion.KindDirectories, ""},
		{[]string{"merge", ""}, completion.KindDirectories, ""},
		{[]string{"store", "move", ""}, completion.KindDirectories, ""},
		{[]string{"store", ""}, completion.KindWords, "compact copy move sync"},
		{[]string{"log", "pay"}, completion.KindWords, "payroll"},
		{[]string{"accept", ""}, completion.KindWords, ""},
		{[]string{"completion", "z"}, completion.KindWords, "zsh"},
		{[]string{"softhsm", ""}, completion.KindWords, "break lose restore run"},
		{[]string{"softhsm", "lose", ""}, completion.KindWords, "one two"},
		{[]string{"softhsm", "break", "one", "--function", "C_SignF"}, completion.KindWords, "C_SignFinal"},
		{[]string{"softhsm", "break", "one", "--with", "CKR_DEVICE_"}, completion.KindWords, "CKR_DEVICE_ERROR CKR_DEVICE_MEMORY CKR_DEVICE_REMOVED"},
		{[]string{"softhsm", "break", "one", "--with", "ha"}, completion.KindWords, "hang"},
		{[]string{"softhsm", "run", "--", "./"}, completion.KindFiles, ""},
		{[]string{""}, completion.KindWords, strings.Join(visibleCommands(), " ")},
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
	o := &office{dir: dir, env: append(os.Environ(), "HSMKEYS_CONFIG="+fifo, "HOME="+dir)}
	if kind, got := completed(t, o, "fish", "show", ""); kind != "words" || len(got) > 0 {
		t.Errorf("%s %q", kind, got)
	}
}

// Nor must a module, whatever it does when it is loaded.
func TestCompleteIsSparedWhatModulesDo(t *testing.T) {
	dir := t.TempDir()
	o := &office{dir: dir, env: append(os.Environ(), "HOME="+dir)}
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
		if kind, got := completed(t, o, "fish", "--module", module, "--token", ""); kind != completion.KindWords || got != nil {
			t.Errorf("%s: %s %q", name, kind, got)
		}
	}
}

func TestCompleteOfManyKeysIsBounded(t *testing.T) {
	dir := t.TempDir()
	for i := range 2 * completion.MostCandidates {
		key := filepath.Join(dir, "keys", "key-"+strings.Repeat("x", i%7)+string(rune('a'+i%26))+time.Duration(i).String())
		if err := os.MkdirAll(key, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(key, blobName), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o := &office{dir: dir, env: append(os.Environ(), "HSMKEYS_STORE="+dir, "HOME="+dir)}
	if _, got := completed(t, o, "fish", "show", ""); len(got) != completion.MostCandidates {
		t.Errorf("%d candidates, want %d", len(got), completion.MostCandidates)
	}
	if _, got := completed(t, o, "fish", "show", "key-xa7"); len(got) == 0 || len(got) == completion.MostCandidates {
		t.Errorf("%d candidates", len(got))
	}
}

// The closed lists are those that help names, and no option that lists is forgotten.
func TestChoicesAreThoseOfHelp(t *testing.T) {
	commands := everyCommand(newApp())
	for option, values := range completion.Choices {
		path, name, _ := strings.Cut(option, " --")
		c := commands[path]
		if c == nil || commandline.Lookup(c.Flags, name) == nil {
			t.Errorf("%s: no such option", option)
			continue
		}
		said := commandline.Lookup(c.Flags, name).(cli.DocGenerationFlag).GetUsage()
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
			if commandline.TakesValue(f) && !strings.Contains(said, "`") && f.Names()[0] != "so-pin-source" && completion.Choices[path+" --"+f.Names()[0]] == nil && strings.Contains(said, " or ") {
				t.Errorf("hsmkeys %s --%s is one of a few, and has no choices: %s", path, f.Names()[0], said)
			}
		}
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
