package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/url"
	"os"
	"strings"

	"github.com/hsmkeys/hsmkeys/token"
)

// maxPIN bounds what is read from a PIN file, in bytes.
const maxPIN = 1024

// readPIN takes a PIN from where the user said: prompt, env:NAME or file:PATH.
func readPIN(ctx context.Context, source, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	kind, name, _ := strings.Cut(source, ":")
	switch {
	case source == "" || source == "prompt":
		return ask(ctx, what)
	case kind == "env" && name != "":
		pin, ok := os.LookupEnv(name)
		if !ok || pin == "" {
			return nil, usage("%s: the environment has no %s", what, name)
		}
		return []byte(pin), nil
	case kind == "file" && name != "":
		return readPINFile(name)
	default:
		return nil, usage("--pin-source is prompt, env:NAME or file:PATH")
	}
}

func readPINFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read the PIN: %w", err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		fmt.Fprintf(os.Stderr, "hsmkeys: warning: others can read the PIN in %q; chmod 600 it\n", path)
	}
	all, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		return nil, fmt.Errorf("read the PIN: %w", err)
	}
	pin := bytes.TrimRight(all, "\r\n")
	if len(pin) == 0 || len(all) > maxPIN {
		clear(all)
		return nil, usage("%q holds no PIN: it has one line, of at most %d bytes", path, maxPIN)
	}
	return pin, nil
}

// pinSource is --pin-source, or what the token's URI says.
func pinSource(option string, sel token.Selector) string {
	if option != "" || sel.PINSource == "" {
		return option
	}
	// RFC 7512 §2.4: a path, or a URI of the scheme file.
	if u, err := url.Parse(sel.PINSource); err == nil && u.Scheme == "file" {
		return "file:" + u.Path
	}
	return "file:" + sel.PINSource
}
