package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// TestTheExamplesWithAge runs the commands of docs/age.md as they stand, one chapter
// after the other, and looks at what they have done. sops, restic and cryptsetup are not
// there on every machine; scripts/age-examples.sh brings them, and insists.
func TestTheExamplesWithAge(t *testing.T) {
	doc, err := os.ReadFile("../../docs/age.md")
	if err != nil {
		t.Fatal(err)
	}
	ageDir, err := theAge()
	if err != nil {
		t.Fatal(err)
	}
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	dir := t.TempDir()
	work := filepath.Join(dir, "work")
	if err := os.Mkdir(work, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "pin"), []byte(testPIN), 0o600); err != nil {
		t.Fatal(err)
	}
	environ := append(os.Environ(), env.Environ()...)
	environ = append(environ, "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+filepath.Join(dir, "store"),
		"HSMKEYS_PIN_SOURCE=file:"+filepath.Join(dir, "pin"), "HSMKEYS_CONFIG=/dev/null", "HOME="+dir,
		"PATH="+ageDir+":"+os.Getenv("PATH")+":/usr/sbin:/sbin")
	run := func(t *testing.T, script string) {
		t.Helper()
		cmd := exec.Command("sh", "-eu", "-c", script)
		cmd.Env, cmd.Dir = environ, work
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s\n%s", err, script, out)
		}
	}
	run(t, `hsmkeys token init office --so-pin-source "$HSMKEYS_PIN_SOURCE"; hsmkeys init`)
	for _, tt := range []struct{ chapter, needs, holds string }{
		{"Files under a key", "", `test "$(age -d -i office.identity march.age)" = 'The salaries of March.'`},
		{"Files to the pair", "", `test "$(hsmkeys decrypt --pair outside.age)" = 'From somebody outside.'`},
		{"sops", "sops", `SOPS_AGE_KEY_FILE=config.identity sops decrypt config.enc.yaml | cmp - config.yaml; ! grep hunter2 config.enc.yaml`},
		{"git", "git", `
			cd project
			test -z "$(git cat-file blob HEAD:secrets/password | grep hunter2)"
			touch secrets/password; test -z "$(git status --porcelain)"
			echo hunter3 > secrets/password; git diff | grep '^+hunter3$'; git checkout -q secrets/password; grep '^hunter2$' secrets/password
			test -z "$(ls -d .git/age/clean.* 2>/dev/null)"`},
		{"restic", "restic", `restic --repo repository --password-command "sh -c 'hsmkeys reveal backup@1 | base64 -w 0'" ls latest | grep march.age`},
		{"LUKS", "cryptsetup", `! head -c 32 /dev/zero | cryptsetup open --test-passphrase --key-file - disk.img`},
	} {
		t.Run(tt.chapter, func(t *testing.T) {
			if tt.needs != "" && os.Getenv("HSMKEYS_TEST_ALL_EXAMPLES") == "" {
				cmd := exec.Command("sh", "-c", "command -v "+tt.needs)
				cmd.Env = environ
				if cmd.Run() != nil {
					t.Skipf("there is no %s; scripts/age-examples.sh brings it", tt.needs)
				}
			}
			run(t, commands(t, string(doc), tt.chapter))
			run(t, tt.holds)
		})
	}
}
