package main

import (
	"bytes"
	"context"
	"errors"
	"net/url"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/cmd/hsmkeys/internal/secret"
	"github.com/hsmkeys/hsmkeys/token"
)

// errPINValue is a warning.
var errPINValue = errors.New("the token's URI has the PIN in it (pin-value), where the list of processes, the shell's history and logs show it; use --pin-source, or pin-source in the URI")

// userPINSource is where the PIN of the token's user comes from. What is said of this very
// token goes before what is said of any: --pin-source, the token's URI, the section of the
// configuration file; then HSMKEYS_PIN_SOURCE, and the top of the file.
func userPINSource(c *cli.Context, sel token.Selector) (source string, value []byte) {
	option := c.String("pin-source") // the section's is in it, see settings.use
	if option != "" && settingsOf(c).onLine["pin-source"] {
		return option, nil
	}
	if sel.PINValue != nil {
		return "", sel.PINValue
	}
	return pinSource(option, sel), nil
}

// readUserPIN takes the PIN of the user of a token. The caller overwrites what it returns.
func readUserPIN(ctx context.Context, c *cli.Context, sel token.Selector, info token.Info, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	source, value := userPINSource(c, sel)
	if value != nil {
		return bytes.Clone(value), nil
	}
	if err := settingsOf(c).checkSource(source, info); err != nil {
		return nil, err
	}
	return secret.Read(ctx, "pin-source", source, what, ask)
}

// pinSource is the source that the token's URI names, or else the one given.
func pinSource(option string, sel token.Selector) string {
	if sel.PINSource == "" {
		return option
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
