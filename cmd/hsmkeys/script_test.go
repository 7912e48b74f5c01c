package main

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"filippo.io/age"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/hsmkeys/hsmkeys/cmd/internal/ageplugin"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/softhsm"
)

func TestMain(m *testing.M) {
	syscall.Umask(0o022) // or nobody but root would trust the files that scripts make
	// Under -race a process sleeps for a second before it ends, and we start many.
	if os.Getenv("GORACE") == "" {
		os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	testscript.Main(m, map[string]func(){"hsmkeys": main, ageplugin.Program: main, wrapProgram: wrapWithLoaded})
}

// TestScripts runs the sessions under testdata, each with a SoftHSM environment,
// a token "office" and a store of its own. Every hsmkeys is a process of its own.
func TestScripts(t *testing.T) { runScripts(t, "testdata") }

func runScripts(t *testing.T, dir string) { runScriptsWith(t, dir, setup) }

func runScriptsWith(t *testing.T, dir string, setup func(*testscript.Env) error) {
	testscript.Run(t, testscript.Params{
		Dir:   dir,
		Setup: setup,
		Condition: func(condition string) (bool, error) {
			if condition != "root" { // who can make files of other users
				return false, fmt.Errorf("unknown condition %q", condition)
			}
			return os.Getuid() == 0, nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"status":     exitStatus,
			"json":       oneJSON,
			"prefix":     prefix,
			"ber":        ber,
			"nowhere":    nowhere,
			"flip":       flip,
			"size":       size,
			"smalldisk":  smallDisk,
			"readonly":   readOnly,
			"ageencrypt": ageEncrypt,
			"absent":     absent,
			"glob":       glob,
			"losetoken":  loseToken,
			"expired":    expired,
			"agekey":     ageKey,
			"bech32":     bech32,
			"stanza":     stanza,
			"stolen":     stolen,
			"faulty":     faulty,
			"keep":       keep,
			"journald":   journald,
			"journal":    journal,

			"bucketuser":     bucketUser,
			"bucketversions": bucketVersions,
		},
	})
}

// TestDiskScripts runs the sessions that mount small file systems, in a mount
// namespace of their own; in a user namespace too where the user is not root.
func TestDiskScripts(t *testing.T) {
	const inside = "HSMKEYS_TEST_NAMESPACE"
	if os.Getenv(inside) != "" {
		// Without this the mounts would be seen outside as well.
		if err := syscall.Mount("", "/", "", syscall.MS_REC|syscall.MS_PRIVATE, ""); err != nil {
			t.Fatalf("make mounts private: %v", err)
		}
		runScripts(t, "testdata/disk")
		return
	}
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.count=1", "-test.v")
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	if os.Getuid() != 0 {
		cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWUSER
		cmd.SysProcAttr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		cmd.SysProcAttr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	out, err := cmd.CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("--- PASS: "+t.Name()+"/full")) {
		t.Errorf("%v (as user %d; without root this needs user namespaces)\n%s", err, os.Getuid(), out)
	}
}

const testPIN, testSOPIN = "1357924680", "2468013579"

func setup(e *testscript.Env) error {
	env, err := softhsm.New()
	if err != nil {
		return err
	}
	e.Defer(func() { env.Close() })
	e.Values[softhsmKey{}] = env
	for name, content := range map[string]string{"pin": testPIN, "so-pin": testSOPIN} {
		if err := os.WriteFile(filepath.Join(e.WorkDir, name), []byte(content+"\n"), 0o600); err != nil {
			return err
		}
	}
	e.Vars = append(e.Vars, env.Environ()...)
	scripts, err := filepath.Abs("../../scripts")
	if err != nil {
		return err
	}
	e.Vars = append(e.Vars, "SCRIPTS="+scripts)
	e.Vars = append(e.Vars,
		"HSMKEYS_MODULE="+env.Module(), "HSMKEYS_TOKEN=office", "HSMKEYS_STORE="+filepath.Join(e.WorkDir, "store"),
		"HSMKEYS_PIN_SOURCE=file:"+filepath.Join(e.WorkDir, "pin"), "HOME="+e.WorkDir, "GORACE="+os.Getenv("GORACE"), "MODULE="+env.Module())
	return addAge(e)
}

// softhsmKey is where a script has its SoftHSM environment.
type softhsmKey struct{}

// faulty [FUNCTION ACTION [CALL]]: the module $FAULTY does that wrong, at that call or at
// every one, see [softhsm.Fault]; without arguments it is honest.
func faulty(ts *testscript.TestScript, _ bool, args []string) {
	env := ts.Value(softhsmKey{}).(*softhsm.Env)
	module, err := env.FaultyModule()
	ts.Check(err)
	ts.Setenv("FAULTY", module)
	var faults []softhsm.Fault
	if len(args) > 1 {
		f := softhsm.Fault{Function: args[0], Action: softhsm.Action(args[1])}
		if len(args) > 2 {
			f.Call, err = strconv.Atoi(args[2])
			ts.Check(err)
		}
		faults = append(faults, f)
	}
	ts.Check(env.SetFaults(faults...))
}

// status N COMMAND…: the command ends with exit status N, nothing that it prints
// shows a PIN, and a failure is told in lines of which each says what it is.
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	err = ts.Exec(args[1], args[2:]...)
	got := 0
	if exit := (*exec.ExitError)(nil); err != nil {
		if !errors.As(err, &exit) {
			ts.Fatalf("%v", err)
		}
		got = exit.ExitCode()
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
	stderr := ts.ReadFile("stderr")
	for _, out := range []string{ts.ReadFile("stdout"), stderr} {
		if strings.Contains(out, testPIN) || strings.Contains(out, testSOPIN) {
			ts.Fatalf("the output shows a PIN")
		}
	}
	if got == 0 {
		return
	}
	if strings.HasPrefix(stderr, "{") { // under --json
		for line := range strings.Lines(stderr) {
			var m message.Document
			d := json.NewDecoder(strings.NewReader(line))
			d.DisallowUnknownFields()
			if err := d.Decode(&m); err != nil || m.Error == "" && m.Warning == "" && m.Note == "" {
				ts.Fatalf("not a line of JSON: %q, %v", line, err)
			}
		}
		return
	}
	if !strings.HasPrefix(stderr, "hsmkeys: ") {
		ts.Fatalf("no word about the failure")
	}
	for line := range strings.Lines(stderr) {
		if !strings.HasPrefix(line, "hsmkeys: ") && !strings.HasPrefix(line, "hint: ") {
			ts.Fatalf("an error of more than one line: %q", line)
		}
	}
}

// json FILE: it holds one JSON document and nothing else.
func oneJSON(ts *testscript.TestScript, neg bool, args []string) {
	if data := ts.ReadFile(args[0]); !json.Valid([]byte(data)) {
		ts.Fatalf("not one JSON document: %q", data)
	}
}

// prefix FILE WHOLE: the first is the start of the second, and neither nothing
// nor all of it.
func prefix(ts *testscript.TestScript, neg bool, args []string) {
	part, whole := ts.ReadFile(args[0]), ts.ReadFile(args[1])
	if part == "" || len(part) >= len(whole) || !strings.HasPrefix(whole, part) {
		ts.Fatalf("%d bytes are not the start of the %d", len(part), len(whole))
	}
}

// ber FILE: makes the length of its outermost value indefinite, which BER allows
// and DER does not. It has to have four bytes of header.
func ber(ts *testscript.TestScript, neg bool, args []string) {
	der := ts.ReadFile(args[0])
	if der[:2] != "\x30\x82" {
		ts.Fatalf("it starts with %x", der[:2])
	}
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), []byte("\x30\x80"+der[4:]+"\x00\x00"), 0o600))
}

// nowhere FILE DIRECTORY: nothing below the directory contains what the file
// holds, raw or in hexadecimal.
func nowhere(ts *testscript.TestScript, neg bool, args []string) {
	secret := ts.ReadFile(args[0])
	if len(secret) < 16 {
		ts.Fatalf("%d bytes are not much of a secret", len(secret))
	}
	looked := 0
	ts.Check(filepath.WalkDir(ts.MkAbs(args[1]), func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		looked++
		data := ts.ReadFile(path)
		if strings.Contains(data, secret) || strings.Contains(strings.ToLower(data), fmt.Sprintf("%x", secret)) {
			ts.Fatalf("it is in %s", path)
		}
		return nil
	}))
	if looked == 0 {
		ts.Fatalf("there is nothing in %s", args[1])
	}
}

// flip FILE OFFSET: one bit of the byte there, counted from the end when negative.
func flip(ts *testscript.TestScript, neg bool, args []string) {
	path := ts.MkAbs(args[0])
	data, err := os.ReadFile(path)
	ts.Check(err)
	at, err := strconv.Atoi(args[1])
	ts.Check(err)
	if at < 0 {
		at += len(data)
	}
	data[at] ^= 1
	ts.Check(os.WriteFile(path, data, 0o600))
}

// size FILE BYTES: cuts or lengthens a file.
func size(ts *testscript.TestScript, neg bool, args []string) {
	n, err := strconv.ParseInt(args[1], 10, 64)
	ts.Check(err)
	f, err := os.OpenFile(ts.MkAbs(args[0]), os.O_RDWR|os.O_CREATE, 0o600)
	ts.Check(err)
	ts.Check(f.Truncate(n))
	ts.Check(f.Close())
}

// mount puts a tmpfs at a directory until the script ends.
func mount(ts *testscript.TestScript, path, options string) {
	ts.Check(os.MkdirAll(path, 0o700))
	if err := syscall.Mount("tmpfs", path, "tmpfs", 0, options); err != nil {
		ts.Fatalf("mount a tmpfs: %v", err)
	}
	ts.Defer(func() { syscall.Unmount(path, syscall.MNT_DETACH) })
}

// smalldisk DIRECTORY BYTES: a file system that is soon full.
func smallDisk(ts *testscript.TestScript, neg bool, args []string) {
	mount(ts, ts.MkAbs(args[0]), "size="+args[1])
}

// readonly DIRECTORY: remounts a smalldisk read-only.
func readOnly(ts *testscript.TestScript, neg bool, args []string) {
	if err := syscall.Mount("", ts.MkAbs(args[0]), "", syscall.MS_REMOUNT|syscall.MS_RDONLY, ""); err != nil {
		ts.Fatalf("remount: %v", err)
	}
}

// ageencrypt FILE: an age file for somebody else.
func ageEncrypt(ts *testscript.TestScript, neg bool, args []string) {
	identity, err := age.GenerateX25519Identity()
	ts.Check(err)
	var out bytes.Buffer
	w, err := age.Encrypt(&out, identity.Recipient())
	ts.Check(err)
	fmt.Fprint(w, "for somebody else")
	ts.Check(w.Close())
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), out.Bytes(), 0o600))
}

// destroyToken destroys the token with a label.
func destroyToken(env *softhsm.Env, label string) error {
	t, err := tokenLabelled(env, label)
	if err != nil {
		return err
	}
	return env.DestroyToken(t)
}

// losetoken LABEL: the token is gone with all that is on it, as after a fire.
func loseToken(ts *testscript.TestScript, neg bool, args []string) {
	ts.Check(destroyToken(ts.Value(softhsmKey{}).(*softhsm.Env), args[0]))
}

// expired FILE: a certificate that expired at the end of 2020, in DER.
func expired(ts *testscript.TestScript, neg bool, args []string) {
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	ts.Check(err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "expired"}, NotAfter: time.Date(2021, 1, 1, 0, 0, 0, 0, time.UTC),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), der, 0o600))
}

// absent GLOB: no file has such a name.
func absent(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[0]))
	ts.Check(err)
	if len(found) > 0 {
		ts.Fatalf("there is %v", found)
	}
}

// glob NAME PATTERN: the variable is the path of the one file with such a name.
func glob(ts *testscript.TestScript, neg bool, args []string) {
	found, err := filepath.Glob(ts.MkAbs(args[1]))
	ts.Check(err)
	if len(found) != 1 {
		ts.Fatalf("there is %q", found)
	}
	ts.Setenv(args[0], found[0])
}
