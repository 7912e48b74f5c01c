package main

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/ageplugin"
)

// Clients other than age give the plugin all identities at once. Then it is one error that
// none opens the file, with the reason of each.
func TestIdentitiesAtOnce(t *testing.T) {
	o := newOffice(t)
	if err := os.WriteFile(filepath.Join(o.dir, "plain"), []byte("for the board"), 0o600); err != nil {
		t.Fatal(err)
	}
	o.run(t, "encrypt", "-k", "payroll", "-o", "sealed", "plain")
	file, err := os.ReadFile(filepath.Join(o.dir, "sealed"))
	if err != nil {
		t.Fatal(err)
	}
	identity := func(i ageplugin.Identity) string {
		encoded, err := i.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return encoded
	}
	good, other := identity(ageplugin.Identity{}), identity(ageplugin.Identity{Key: "other"})
	absent, gone := identity(ageplugin.Identity{Token: "absent"}), identity(ageplugin.Identity{Store: "/nonexistent"})
	wrongPIN := append(o.env, "PIN_FOR_TEST=000000")
	for _, tt := range []struct {
		name       string
		identities []string
		env        []string
		want       []string // of the only answer; empty for no error and no key
	}{
		{"the last one opens it", []string{absent, gone, good}, o.env, []string{"file-key 0"}},
		{"the first one opens it", []string{good, absent}, o.env, []string{"file-key 0"}},
		{"none opens it", []string{absent, gone}, o.env, []string{"error stanza 0 0", `token "absent": find the token`, "; ", "/nonexistent"}},
		{"the last one is for something else", []string{absent, other}, o.env, []string{"error stanza 0 0", `token "absent": find the token`}},
		{"one alone is for something else", []string{other}, o.env, nil},
		{"one alone cannot be used", []string{absent}, o.env, []string{"msg", `token "absent": find the token`}},
		{"a PIN that is refused is not sent again", []string{absent, good, gone}, wrongPIN, []string{"error stanza 0 0", `token "absent": find the token`, "PIN refused"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			answers := talkToPlugin(t, o, tt.env, tt.identities, file)
			if len(tt.want) == 0 && len(answers) == 0 {
				return
			}
			if len(answers) != 1 || len(tt.want) == 0 {
				t.Fatalf("%q", answers)
			}
			for _, want := range tt.want {
				if !strings.Contains(answers[0], want) {
					t.Errorf("%q, want %q in it", answers[0], want)
				}
			}
			if n := strings.Count(answers[0], "PIN refused"); n > 1 {
				t.Errorf("the PIN was sent %d times: %q", n, answers[0])
			}
		})
	}
}

// talkToPlugin speaks identity-v1 of age-encryption.org/plugin, and returns what the plugin
// answers, up to its "done".
func talkToPlugin(t *testing.T, o *office, env, identities []string, file []byte) (answers []string) {
	t.Helper()
	cmd := exec.Command(ageplugin.Program, "--age-plugin=identity-v1")
	cmd.Dir, cmd.Env = o.dir, env
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer wait(t, cmd)
	defer in.Close()
	for _, identity := range identities {
		fmt.Fprintf(in, "-> add-identity %s\n\n", identity)
	}
	header, _, _ := strings.Cut(string(file), "\n---")
	_, stanzas, _ := strings.Cut(header, "\n")
	fmt.Fprintf(in, "%s\n-> done\n\n", strings.ReplaceAll(stanzas, "-> ", "-> recipient-stanza 0 "))
	for lines := bufio.NewScanner(out); lines.Scan(); {
		head := strings.TrimPrefix(lines.Text(), "-> ")
		var body []byte
		for lines.Scan() {
			line, err := base64.RawStdEncoding.DecodeString(lines.Text())
			if err != nil {
				t.Fatal(err)
			}
			if body = append(body, line...); len(lines.Text()) < 64 {
				break
			}
		}
		switch kind, _, _ := strings.Cut(head, " "); kind {
		case "done":
			return answers
		case "error", "file-key", "msg":
			answers = append(answers, head+": "+string(body))
			fmt.Fprint(in, "-> ok\n\n")
		default:
			fmt.Fprint(in, "-> unsupported\n\n")
		}
	}
	t.Fatalf("it ended after %q", answers)
	return nil
}
