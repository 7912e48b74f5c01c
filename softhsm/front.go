package softhsm

import (
	_ "embed"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"

	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// frontName is the name of the module in front of SoftHSM: in an environment, and where a package has
// installed it.
const frontName = "faulty-softhsm.so"

const maxFront = 16 << 20 // bytes

// ErrNoCompiler means that the module in front of SoftHSM is not installed and cannot be compiled.
var ErrNoCompiler = errors.New("no C compiler")

// FaultyModule returns the path of a PKCS #11 module for e that forwards every call to
// SoftHSM, except for what [Env.SetFaults] asks of it, and for tokens that are lost (see
// [Token.Lose]). It is the one that is installed with the program that calls this, in
// ../lib/hsmkeys beside it, if only this user or root can have written it. Or else it is compiled when
// FaultyModule is first called, with the C compiler and its options in the variable CC, or else cc. The error is an [ErrNoCompiler] if there is neither.
//
// The module reads its faults from the directory of the file that SOFTHSM2_CONF names: it works in
// the environment of the process that loads it, and in that of a child process with [Env.Environ].
// Its state is SoftHSM's: a process that loads both works with one.
func (e *Env) FaultyModule() (string, error) {
	mu.Lock()
	defer mu.Unlock()
	if e.closed {
		return "", fmt.Errorf("softhsm: faulty module: environment is closed: %w", os.ErrClosed)
	}
	path := filepath.Join(e.dir, frontName)
	if isFile(path) {
		return path, nil
	}
	library, err := front()
	if err == nil {
		err = os.WriteFile(path, library, 0o700)
	}
	if err != nil {
		return "", fmt.Errorf("softhsm: faulty module: %w", err)
	}
	return path, nil
}

//go:embed fault/module.c
var faultySource []byte

//go:embed fault/functions.h
var faultyFunctions []byte

// front returns the library. It is kept in memory, so that nothing outlives the process and
// environments do not wait for a compiler.
var front = sync.OnceValues(func() ([]byte, error) {
	if program, err := os.Executable(); err == nil {
		installed := filepath.Join(filepath.Dir(program), "..", "lib", "hsmkeys", frontName)
		// It gets loaded: another user's is not taken.
		if library, err := ownfile.Read(installed, maxFront); err == nil {
			return library, nil
		}
	}
	return compileFront()
})

func compileFront() (library []byte, err error) {
	dir, err := os.MkdirTemp("", "softhsm-fault-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	for name, data := range map[string][]byte{"module.c": faultySource, "functions.h": faultyFunctions} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			return nil, err
		}
	}
	cc := strings.Fields(os.Getenv("CC")) // as make(1) takes it: "ccache gcc"
	if len(cc) == 0 {
		cc = []string{"cc"}
	}
	cmd := exec.Command(cc[0], append(cc[1:], "-shared", "-fPIC", "-O1", "-o", frontName, "module.c", "-ldl", "-lpthread")...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); errors.Is(err, exec.ErrNotFound) {
		return nil, fmt.Errorf("%w: %w", ErrNoCompiler, err)
	} else if err != nil {
		return nil, fmt.Errorf("%s: %w\n%s", cc[0], err, out)
	}
	return os.ReadFile(filepath.Join(dir, frontName))
}
