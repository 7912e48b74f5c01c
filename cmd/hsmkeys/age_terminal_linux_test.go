package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// age asks at its terminal for what the plugin wants to know.
func TestPINAtThePromptOfAge(t *testing.T) {
	o := newOffice(t)
	dir, err := theAge()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, args ...string) {
		t.Helper()
		out, err := o.command(args...).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(o.dir, name), out, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	const password = "correct horse battery"
	o.env = append(o.env, "PASSWORD_FOR_TEST="+password, "HSMKEYS_PASSWORD_SOURCE=env:PASSWORD_FOR_TEST")
	o.run(t, "create", "archive", "--from-password", "--kdf", "pbkdf2")
	write("letter", "list")
	write("identity", "age", "identity")
	o.run(t, "encrypt", "-k", "payroll", "-o", "letter.age", "letter")
	o.run(t, "encrypt", "-k", "archive", "-o", "archive.age", "letter")
	write("recipient", "age", "recipient", "payroll")
	const pin = "PIN of token office"
	for _, tt := range []struct {
		name   string
		args   []string
		typed  []exchange
		status int
		shows  string
	}{
		{"to decrypt", []string{"-d", "-i", "identity", "letter.age"}, []exchange{{pin, testPIN + "\n"}}, 0, "payroll"},
		{"to encrypt", []string{"-a", "-R", "recipient", "letter"}, []exchange{{pin, testPIN + "\n"}}, 0, "BEGIN AGE ENCRYPTED FILE"},
		{"a wrong PIN is asked for once", []string{"-d", "-i", "identity", "letter.age"}, []exchange{{pin, "000000\n"}}, 1, "CKR_PIN_INCORRECT"},
		{"nothing is typed", []string{"-d", "-i", "identity", "letter.age"}, []exchange{{pin, "\n"}}, 1, "nothing was typed"},
		{"a password too", []string{"-d", "-j", "hsmkeys", "archive.age"}, []exchange{{pin, testPIN + "\n"}, {"password of key archive@1", password + "\n"}}, 0, "payroll"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p := newTerminal(t)
			cmd := exec.Command(filepath.Join(dir, "age"), tt.args...)
			cmd.Dir, cmd.Env = o.dir, append(o.env, "HSMKEYS_PIN_SOURCE=prompt", "HSMKEYS_PASSWORD_SOURCE=")
			p.converse(t, cmd, tt.typed, tt.status)
			Until(t, tt.shows, func() bool { return strings.Contains(p.shows(), tt.shows) })
			for _, secret := range []string{testPIN, password} {
				if strings.Contains(p.shows(), secret) {
					t.Errorf("the terminal shows what was typed: %q", p.shows())
				}
			}
		})
	}
}
