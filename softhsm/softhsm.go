// Package softhsm makes throw-away SoftHSM2 tokens for tests, demonstrations and
// continuous integration: real PKCS#11 tokens, with random PINs, that leave
// nothing behind and never touch the SoftHSM tokens of the user.
//
// An [Env] is one SoftHSM2 configuration in a temporary directory of its own.
// [Env.InitToken] makes a token in it; [Env.Close] removes everything.
//
// A single test can have an environment to itself with [Run], which makes its tokens too, or [NewT]. A
// test binary usually makes one in TestMain, and a token for each test:
//
//	var env *softhsm.Env
//
//	func TestMain(m *testing.M) {
//		var err error
//		if env, err = softhsm.New(); err == nil {
//			err = env.Use()
//		}
//		if err != nil {
//			log.Fatal(err)
//		}
//		code := m.Run()
//		env.Close()
//		os.Exit(code)
//	}
//
// # One environment in a process
//
// SoftHSM reads the variable SOFTHSM2_CONF once, in C_Initialize, so a process
// works in one environment at a time: the one whose [Env.Use] it called. Child
// processes are not limited by that. Give each child the [Env.Environ] of its own
// environment, and any number of environments can be used in parallel, without Use.
//
// A process in which SoftHSM is initialised keeps the list of tokens that it read
// in C_Initialize: it does not see tokens that another process makes afterwards, not
// even with a new C_GetSlotList. Tokens that InitToken makes are visible at once.
//
// # Tokens that are lost, modules that fail
//
// [Env.FaultyModule] is a module in front of SoftHSM that forwards every call, except for tokens
// that are lost and for faults. A program that is tested with it finds what no test bench has:
//
//	env, tokens := softhsm.Run(t, "office", "vault")
//	cmd := exec.Command("program", "--module", env.Module())
//	cmd.Env = append(os.Environ(), env.Environ()...)
//	…
//	err := tokens[0].Lose() // unplugged, also for processes that have it open
//	…
//	err = tokens[0].Restore()
//	err = tokens[1].FailAt("C_Sign", 3, pkcs11.CKR_DEVICE_ERROR)
//
// A [Fault] is a function, the number of a call and an [Action]. The module returns errors, flips
// bits in what SoftHSM returned, returns other keys, claims that there are more objects than fit into
// memory, hangs, or crashes. [Token.Break] adds a fault of one token, and [Env.SetFaults]
// sets those of all.
//
// [Env.RecordCalls] and [Env.Calls] show which functions a program calls, how often, and
// whether a fault took place: a test in which none did proves nothing. [Env.Clone] copies the
// tokens, for a series of trials.
package softhsm

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// confVar is the variable with the path of SoftHSM's configuration.
const confVar = "SOFTHSM2_CONF"

// mu guards what belongs to the process and not to an Env: the variable
// SOFTHSM2_CONF, and SoftHSM's blank slot, of which there is one at a time.
var mu sync.Mutex

// An Env is a SoftHSM2 environment: a configuration and the tokens under it, in a
// temporary directory. It is safe for concurrent use.
type Env struct {
	module string // SoftHSM
	dir    string
	loaded string // what Module returns, if it is another

	borrowed bool // another process made it, and removes it

	// Guarded by mu.
	closed  bool
	restore func() // undoes Use; nil before
}

// New makes an environment without tokens. It changes nothing in the process
// until [Env.Use] is called. The caller must [Env.Close] it.
//
// The error wraps [ErrNotInstalled] if SoftHSM2 is missing.
func New() (*Env, error) {
	module, err := FindModule()
	if err != nil {
		return nil, err
	}
	dir, err := makeDir()
	if err != nil {
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	e := &Env{module: module, dir: dir}
	if err := e.write(); err != nil {
		os.RemoveAll(dir)
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	return e, nil
}

// makeDir makes a directory whose path can stand in SoftHSM's configuration, and holds for processes that work in
// other directories.
func makeDir() (string, error) {
	temp, err := filepath.Abs(os.TempDir())
	if err != nil {
		return "", err
	}
	if strings.ContainsAny(temp, "#=\n\r") {
		return "", fmt.Errorf("the temporary directory %q has a character in its path that SoftHSM's configuration does not take; set TMPDIR to another", temp)
	}
	return os.MkdirTemp(temp, "softhsm-") // mode 0700
}

func (e *Env) write() error {
	if err := os.Mkdir(e.TokenDir(), 0o700); err != nil {
		return err
	}
	// Every build has the file backend. ERROR keeps SoftHSM from logging what a test
	// provokes on purpose to the system log or to stderr.
	conf := "directories.tokendir = " + e.TokenDir() + "\n" +
		"objectstore.backend = file\n" +
		"log.level = ERROR\n" +
		"slots.removable = false\n"
	if err := os.WriteFile(e.modulePath(), []byte(e.module+"\n"), 0o600); err != nil {
		return err
	}
	return os.WriteFile(e.ConfPath(), []byte(conf), 0o600)
}

const maxPath = 4096 // bytes

// modulePath is where the module in front finds SoftHSM.
func (e *Env) modulePath() string { return filepath.Join(e.dir, "module") }

// ErrNoEnvironment means that SOFTHSM2_CONF names no environment that this package made.
var ErrNoEnvironment = errors.New("not in a throw-away environment")

// Current returns the environment that a process works in because its SOFTHSM2_CONF says so, such as one that
// was started with [Env.Environ]. Its [Env.Close] leaves everything to the process that made it. The error is
// an [ErrNoEnvironment] if there is none.
func Current() (*Env, error) {
	conf := os.Getenv(confVar)
	e := &Env{dir: filepath.Dir(conf), borrowed: true}
	if conf != e.ConfPath() {
		return nil, fmt.Errorf("softhsm: %w: %s is %q", ErrNoEnvironment, confVar, conf)
	}
	// What is in it gets loaded. Another user could have left it where a configuration is in a shared directory.
	module, err := ownfile.Read(e.modulePath(), maxPath)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, fmt.Errorf("softhsm: %w: %s is %q", ErrNoEnvironment, confVar, conf)
	case err != nil:
		return nil, fmt.Errorf("softhsm: %w", err)
	}
	e.module = strings.TrimSuffix(string(module), "\n")
	return e, nil
}

// TB is the part of [testing.TB] that [NewT] needs. It exists so that a program that makes
// demonstration tokens does not link package testing.
type TB interface {
	Helper()
	Fatalf(format string, args ...any)
	Cleanup(func())
}

// NewT makes an environment for one test, calls its [Env.Use], and closes it when the
// test ends. If SoftHSM2 is missing, the test fails and is not skipped: a test that
// did not run proves nothing.
//
// Because the whole process uses the environment, tests that call NewT must not be
// parallel.
func NewT(tb TB) *Env {
	tb.Helper()
	e, err := New()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	tb.Cleanup(func() {
		if err := e.Close(); err != nil {
			tb.Fatalf("%v", err)
		}
	})
	if err := e.Use(); err != nil {
		tb.Fatalf("%v", err)
	}
	return e
}

// Run makes an environment for one test with tokens of these labels, as [NewT] does, in which [Env.Module] is the
// one in front of SoftHSM. So the tokens can be lost and broken.
func Run(tb TB, labels ...string) (*Env, []Token) {
	tb.Helper()
	e := NewT(tb)
	module, err := e.FaultyModule()
	if err != nil {
		tb.Fatalf("%v", err)
	}
	e.loaded = module
	var tokens []Token
	for _, label := range labels {
		t, err := e.InitToken(label)
		if err != nil {
			tb.Fatalf("%v", err)
		}
		tokens = append(tokens, t)
	}
	return e, tokens
}

// Module returns the path of the PKCS#11 module: SoftHSM itself, or what is in front of it after [Run].
func (e *Env) Module() string {
	if e.loaded != "" {
		return e.loaded
	}
	return e.module
}

// Dir returns the environment's temporary directory, which contains all its files.
func (e *Env) Dir() string { return e.dir }

// ConfPath returns the path of the configuration, the value for SOFTHSM2_CONF.
func (e *Env) ConfPath() string { return filepath.Join(e.dir, "softhsm2.conf") }

// TokenDir returns the directory that holds one directory for each token.
func (e *Env) TokenDir() string { return filepath.Join(e.dir, "tokens") }

// Environ returns the environment variables that make a child process work in e:
//
//	cmd.Env = append(os.Environ(), env.Environ()...)
func (e *Env) Environ() []string { return []string{confVar + "=" + e.ConfPath()} }

// Use makes e the environment of this process, by setting SOFTHSM2_CONF, until
// [Env.Close] restores the previous value.
//
// It is an error if the module is initialised already, in another environment: SoftHSM would
// not read the variable before the next C_Initialize, and until then the caller would work on
// the tokens of that environment.
func (e *Env) Use() error {
	mu.Lock()
	defer mu.Unlock()
	if e.closed {
		return fmt.Errorf("softhsm: use: environment is closed: %w", os.ErrClosed)
	}
	if e.inUse() {
		return nil
	}
	p := pkcs11.New(e.module)
	if p == nil {
		return fmt.Errorf("softhsm: cannot load %q", e.module)
	}
	defer p.Destroy()
	if initialised(p) {
		return fmt.Errorf("softhsm: use: %q is initialised in this process with another configuration; finalise it first", e.module)
	}
	restore, err := setConf(e.ConfPath())
	if err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	e.restore = restore
	return nil
}

// inUse reports whether SoftHSM, if it were initialised in this process now, would work in e.
func (e *Env) inUse() bool { return os.Getenv(confVar) == e.ConfPath() }

// Close removes the environment with all its tokens and, if it is in use, restores
// the previous SOFTHSM2_CONF. Everything that uses its tokens must be closed first, and the
// module finalised. Closing a second time does nothing.
func (e *Env) Close() error {
	mu.Lock()
	defer mu.Unlock()
	if e.closed {
		return nil
	}
	e.closed = true
	if e.restore != nil && e.inUse() {
		e.restore()
	}
	if e.borrowed {
		return nil
	}
	if err := removeAll(e.dir); err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	return nil
}

// removeAll removes a directory, in which a process that has not ended yet may still make files, for five seconds.
func removeAll(dir string) error {
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		if err := os.RemoveAll(dir); err == nil || time.Now().After(end) {
			return err
		}
	}
}

// setConf sets SOFTHSM2_CONF, and returns a function that restores the previous value.
// SoftHSM calls C's getenv; in a program with cgo, which loading a module requires,
// os.Setenv calls C's setenv too.
func setConf(path string) (restore func(), err error) {
	prev, ok := os.LookupEnv(confVar)
	if err := os.Setenv(confVar, path); err != nil {
		return nil, err
	}
	return func() {
		if ok {
			os.Setenv(confVar, prev)
		} else {
			os.Unsetenv(confVar)
		}
	}, nil
}
