package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/hsmkeys/hsmkeys/softhsm"
)

// TestTheProgramOfTheLibraryPage builds and runs the program that docs/library.md shows, and
// decrypts with hsmkeys what it has written.
func TestTheProgramOfTheLibraryPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/library.md")
	if err != nil {
		t.Fatal(err)
	}
	_, program, _ := strings.Cut(string(page), "```go\n")
	program, _, ok := strings.Cut(program, "```\n")
	if !ok {
		t.Fatal("there is no program")
	}
	env, err := softhsm.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { env.Close() })
	dir := t.TempDir()
	source, pin := filepath.Join(dir, "main.go"), filepath.Join(dir, "pin")
	for path, text := range map[string]string{source: program, pin: testPIN} {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	// The test binary is hsmkeys when it is called so, see TestMain.
	if err := os.Symlink(self, filepath.Join(dir, "hsmkeys")); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("sh", "-eu", "-c", `
		hsmkeys token init office --so-pin-source "$HSMKEYS_PIN_SOURCE"
		hsmkeys init
		hsmkeys create payroll
		go build -o "$DIR/program" "$DIR/main.go"
		"$DIR/program" > "$DIR/out.age"
		test "$(hsmkeys decrypt "$DIR/out.age")" = 'The salaries of March.'`)
	cmd.Env = append(os.Environ(), env.Environ()...)
	cmd.Env = append(cmd.Env, "DIR="+dir, "PATH="+dir+":"+os.Getenv("PATH"), "PIN="+testPIN, "HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office",
		"HSMKEYS_STORE="+filepath.Join(dir, "store"), "HSMKEYS_PIN_SOURCE=file:"+pin, "HSMKEYS_CONFIG=/dev/null", "XDG_STATE_HOME="+filepath.Join(dir, "state"))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
