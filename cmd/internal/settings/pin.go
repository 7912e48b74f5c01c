package settings

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/secret"
	"github.com/hsmkeys/hsmkeys/token"
)

// ErrPINValue is a warning.
var ErrPINValue = errors.New("the token's URI has the PIN in it (pin-value), where the list of processes, the shell's history and logs show it; use --pin-source, or pin-source in the URI")

// Selector parses --token, and returns the module that goes with it: "" if the user has named none.
// The caller must clear the PIN in the selector.
func (s *Settings) Selector() (sel token.Selector, module string, err error) {
	if sel, err = token.ParseSelector(s.Token); err != nil {
		return sel, "", err
	}
	module = s.Module
	if module == "" {
		module = sel.ModulePath
	}
	if module == "" && sel.ModuleName != "" {
		module, err = token.ModuleNamed(sel.ModuleName)
	}
	return sel, module, err
}

// Modules returns the modules to search if none is named: those of the configuration file's sections,
// and those that p11-kit knows.
func (s *Settings) Modules() ([]token.ModuleConfig, error) {
	known, err := token.Modules()
	known = append(s.sectionModules(), known...)
	if err == nil && len(known) == 0 {
		err = failure.Usage("no PKCS #11 module named, and p11-kit knows none; use --module, HSMKEYS_MODULE or a URI's module-path")
	}
	return known, err
}

// UserPINSource returns where the PIN of the token's user comes from, or the PIN itself if the URI
// has it. What is said of this very token has precedence over what is said of any: --pin-source, the
// token's URI, the section of the configuration file; then HSMKEYS_PIN_SOURCE, and the top of the
// file.
func (s *Settings) UserPINSource(sel token.Selector) (source string, value []byte) {
	if s.PINSource != "" && s.OnLine("pin-source") {
		return s.PINSource, nil
	}
	if sel.PINValue != nil {
		return "", sel.PINValue
	}
	return sourceIn(sel, s.PINSource), nil
}

// Unattended reports whether the PIN comes from a source that asks no person.
func (s *Settings) Unattended(sel token.Selector) bool {
	source, value := s.UserPINSource(sel)
	return value != nil || source != "" && source != "prompt"
}

// ReadUserPIN reads the PIN of a token's user, which what names, from its source. The caller must
// clear it.
func (s *Settings) ReadUserPIN(ctx context.Context, sel token.Selector, info token.Info, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	source, value := s.UserPINSource(sel)
	if value != nil {
		return bytes.Clone(value), nil
	}
	if err := s.CheckSource(source, info); err != nil {
		return nil, err
	}
	return secret.Read(ctx, "pin-source", source, what, ask)
}

// ReadPassword reads a password, which what names, from --password-source. The caller must clear it.
func (s *Settings) ReadPassword(ctx context.Context, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	return secret.Read(ctx, PasswordOption, s.PasswordSource, what, ask)
}

// sourceIn returns the source that a token's URI names, or else another one.
func sourceIn(sel token.Selector, otherwise string) string {
	if sel.PINSource == "" {
		return otherwise
	}
	// RFC 7512 §2.4: a command, a path, or a URI of the scheme file.
	if command, ok := strings.CutPrefix(sel.PINSource, "|"); ok {
		return "exec:" + command
	}
	if u, err := url.Parse(sel.PINSource); err == nil && u.Scheme == "file" {
		return "file:" + u.Path
	}
	return "file:" + sel.PINSource
}
