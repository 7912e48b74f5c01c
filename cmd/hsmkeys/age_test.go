package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"
)

// theAge builds the age command of the version in go.mod, once, and gives its directory.
var theAge = sync.OnceValues(func() (string, error) {
	var stderr bytes.Buffer
	cmd := exec.Command("go", "tool", "-n", "filippo.io/age/cmd/age")
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("build age: %w\n%s", err, &stderr)
	}
	return filepath.Dir(strings.TrimSpace(string(out))), nil
})

// addAge puts it on a script's path.
func addAge(e *testscript.Env) error {
	dir, err := theAge()
	if err != nil {
		return err
	}
	e.Setenv("PATH", e.Getenv("PATH")+string(os.PathListSeparator)+dir)
	return nil
}

// agekey IDENTITY RECIPIENT: files with a key of age's own.
func ageKey(ts *testscript.TestScript, neg bool, args []string) {
	identity, err := age.GenerateX25519Identity()
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte(identity.String()+"\n"), 0o600))
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(identity.Recipient().String()+"\n"), 0o600))
}

// stanzabody IN OUT: another first character of the first stanza's body.
func stanzaBody(ts *testscript.TestScript, neg bool, args []string) {
	lines := strings.SplitAfterN(ts.ReadFile(args[0]), "\n", 4) // version, stanza, body, the rest
	first := "A"
	if strings.HasPrefix(lines[2], "A") {
		first = "B"
	}
	lines[2] = first + lines[2][1:]
	ts.Check(os.WriteFile(ts.MkAbs(args[1]), []byte(strings.Join(lines, "")), 0o600))
}
