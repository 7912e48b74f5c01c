// Package softhsm makes throw-away SoftHSM2 tokens for tests, demonstrations and
// continuous integration: real PKCS#11 tokens, with random PINs, that leave
// nothing behind and never touch the SoftHSM tokens of the user.
//
// An [Env] is one SoftHSM2 configuration in a temporary directory of its own.
// [Env.InitToken] makes a token in it; [Env.Close] removes everything.
//
// A single test can have an environment to itself with [NewT]. A test binary
// usually makes one in TestMain, and a token for each test:
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
// # Faulty modules
//
// [Env.FaultyModule] is a module in front of SoftHSM that forwards every call, except for the
// faults that [Env.SetFaults] sets: a [Fault] is a function, the number of a call and an
// [Action]. The module returns errors, flips bits in what SoftHSM returned, returns other keys,
// claims that there are more objects than fit into memory, hangs, or crashes. So a program can be
// tested with faults that no token on the market has:
//
//	module, err := env.FaultyModule()
//	…
//	err = env.SetFaults(softhsm.Fault{Function: "C_WrapKey", Call: 1, Action: softhsm.Flip})
//	…
//	cmd := exec.Command("program", "--module", module)
//	cmd.Env = append(os.Environ(), env.Environ()...)
//
// [Env.RecordCalls] and [Env.Calls] show which functions a program calls, how often, and
// whether a fault took place: a test in which none did proves nothing. [Env.Clone] copies the
// tokens, for a series of trials. A C compiler must be installed, as for every program that uses
// this package.
package softhsm

import (
	"fmt"
	"os"
	"path/filepath"
	"sync"

	"github.com/miekg/pkcs11"
)

// confVar is the variable with the path of SoftHSM's configuration.
const confVar = "SOFTHSM2_CONF"

// mu guards what belongs to the process and not to an Env: the variable
// SOFTHSM2_CONF, and SoftHSM's blank slot, of which there is one at a time.
var mu sync.Mutex

// An Env is a SoftHSM2 environment: a configuration and the tokens under it, in a
// temporary directory. It is safe for concurrent use.
type Env struct {
	module string
	dir    string

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
	dir, err := os.MkdirTemp("", "softhsm-") // mode 0700
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
	return os.WriteFile(e.ConfPath(), []byte(conf), 0o600)
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

// Module returns the path of the PKCS#11 module.
func (e *Env) Module() string { return e.module }

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
	if err := os.RemoveAll(e.dir); err != nil {
		return fmt.Errorf("softhsm: %w", err)
	}
	return nil
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
