package token

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/miekg/pkcs11"

	"github.com/hsmkeys/hsmkeys/token/guard"
)

// ModuleInfo is what a module tells about itself (CK_INFO, PKCS #11 v2.40 §3.1).
type ModuleInfo struct {
	Path         string `json:"path"`     // with links resolved, as it is loaded
	Cryptoki     string `json:"cryptoki"` // version of the interface
	Manufacturer string `json:"manufacturer"`
	Description  string `json:"description"`
	Version      string `json:"version"` // of the library
}

// ReadModule loads a module and reads its CK_INFO. The error is an [ErrModule].
func ReadModule(module string) (ModuleInfo, error) {
	module = resolve(module)
	librariesMu.Lock()
	defer librariesMu.Unlock()
	var info ModuleInfo
	err := withModule(module, func(ctx *pkcs11.Ctx) error {
		i, err := ctx.GetInfo()
		if err != nil {
			return &Error{Op: "ask the module what it is", Token: module, Kind: ErrModule, Err: err}
		}
		info = ModuleInfo{
			Path: module, Cryptoki: fmt.Sprintf("%d.%d", i.CryptokiVersion.Major, i.CryptokiVersion.Minor),
			Manufacturer: i.ManufacturerID, Description: i.LibraryDescription,
			Version: fmt.Sprintf("%d.%d", i.LibraryVersion.Major, i.LibraryVersion.Minor),
		}
		return nil
	})
	return info, err
}

// resolve returns the canonical path of a module: the same library under two names is one library
// to the dynamic loader, and must be here. A name without a slash is left for the loader to look
// up.
func resolve(path string) string {
	if !strings.ContainsRune(path, filepath.Separator) {
		return path
	}
	if real, err := filepath.EvalSymlinks(path); err == nil {
		path = real
	}
	if absolute, err := filepath.Abs(path); err == nil {
		path = absolute
	}
	return path
}

// load opens the module's file and checks what can be checked before its code is run.
func load(path string) (*pkcs11.Ctx, error) {
	bad := func(err, facts error) error {
		return &Error{Op: "load the module", Token: path, Kind: ErrModule, Err: err, Facts: facts}
	}
	if path == "" {
		return nil, bad(ErrNoModule, nil)
	}
	if filepath.IsAbs(path) {
		info, err := os.Stat(path)
		if err != nil {
			return nil, bad(errors.Unwrap(err), ErrModulePath)
		}
		if !info.Mode().IsRegular() {
			return nil, bad(ErrModuleFile, nil)
		}
		f, err := os.Open(path)
		if errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) { // nothing is wrong with the module
			return nil, &Error{Op: "load the module", Token: path, Err: errors.Unwrap(err)}
		}
		if err != nil {
			return nil, bad(errors.Unwrap(err), ErrModuleRead)
		}
		_ = f.Close()
	}
	ctx, err := guard.New(path)
	if err != nil {
		if !strings.ContainsRune(path, filepath.Separator) && isFile(path) {
			return nil, bad(err, ErrModuleWorkingDir)
		}
		return nil, bad(err, ErrModuleLoad)
	}
	return ctx, nil
}

// withModule calls f with the module initialised, and leaves the module as it was. librariesMu
// must be held.
func withModule(path string, f func(*pkcs11.Ctx) error) error {
	if lib := libraries[path]; lib != nil {
		return f(lib.ctx)
	}
	ctx, err := load(path)
	if err != nil {
		return err
	}
	defer guard.Destroy(ctx, path)
	switch err := ctx.Initialize(); {
	case is(err, pkcs11.CKR_CRYPTOKI_ALREADY_INITIALIZED): // by other code of this process, which finalises it
	case err != nil:
		return &Error{Op: "initialise the module", Token: path, Kind: ErrModule, Err: err}
	default:
		defer func() { _ = ctx.Finalize() }()
	}
	return f(ctx)
}
