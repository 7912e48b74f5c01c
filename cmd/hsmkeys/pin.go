package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys/token"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// maxPIN bounds what is read from a PIN file or a command, in bytes.
const maxPIN = 1024

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
	return readSecret(ctx, "pin-source", source, what, ask)
}

// readSecret takes a PIN or a password from where the user said, with which option:
// prompt, env:NAME, file:PATH or exec:COMMAND. Where it cannot be had, the error is a
// secretError, but for a command line that is wrong.
func readSecret(ctx context.Context, option, source, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	secret, err := secretFrom(ctx, option, source, what, ask)
	switch {
	case errors.Is(err, errSource):
		return nil, usage("--%s is prompt, env:NAME, file:PATH or exec:COMMAND", option)
	case errors.Is(err, errNoTerminal):
		return nil, &secretError{fmt.Errorf("%w to ask for the %s; use --%s: env:NAME, file:PATH or exec:COMMAND", err, what, option)}
	case err != nil:
		return nil, &secretError{err}
	}
	return secret, nil
}

// errNoTerminal is for a secret that nobody can be asked for.
var errNoTerminal = errors.New("there is no terminal")

var errSource = errors.New("not a source of secrets")

func secretFrom(ctx context.Context, option, source, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	kind, name, _ := strings.Cut(source, ":")
	switch {
	case source == "" || source == "prompt":
		return ask(ctx, what)
	case kind == "env" && name != "":
		pin, ok := os.LookupEnv(name)
		if !ok || pin == "" {
			return nil, fmt.Errorf("%s: the environment has no %s", what, name)
		}
		return oneSecret(fmt.Sprintf("the variable %s", name), []byte(pin))
	case kind == "file" && name != "":
		return readSecretFile(what, name)
	case kind == "exec" && strings.TrimSpace(name) != "":
		pin, err := runPINCommand(ctx, name)
		if err != nil {
			// Not which command: it may have a secret in it.
			return nil, fmt.Errorf("%s: the command of --%s: %w", what, option, err)
		}
		return pin, nil
	default:
		return nil, errSource
	}
}

// readSecretFile reads a file or a pipe of this user's. Others' are refused: a wrong PIN of
// theirs would use up a try.
func readSecretFile(what, path string) ([]byte, error) {
	f, err := ownfile.Open(path, true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		warn(fmt.Errorf("others can read the secret in %q; chmod 600 it", path))
	}
	all, err := io.ReadAll(io.LimitReader(f, maxPIN+1))
	if err != nil {
		clear(all)
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return oneSecret(strconv.Quote(path), all)
}

// oneSecret is the one line that a file or a variable holds: with more, who types the
// secret would type another one.
func oneSecret(where string, all []byte) ([]byte, error) {
	secret := bytes.TrimRight(all, "\r\n")
	if len(secret) == 0 || len(all) > maxPIN || bytes.ContainsAny(secret, "\r\n") {
		clear(all)
		return nil, fmt.Errorf("%s holds no PIN or password: it has one line, of at most %d bytes", where, maxPIN)
	}
	return secret, nil
}

// runPINCommand lets the shell run a command, whose first line of output is the PIN.
// What follows is read and dropped: password managers keep notes there. Its stderr
// is ours, and its stdin the terminal or nothing: ours may be the data to encrypt.
func runPINCommand(ctx context.Context, command string) ([]byte, error) {
	cmd := exec.Command("/bin/sh", "-c", command)
	cmd.Stderr = os.Stderr
	if tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0); err == nil {
		defer tty.Close()
		cmd.Stdin = tty
	} else {
		// Without a terminal it gets a process group, so that all of it can be
		// killed; on a terminal it would be stopped when it reads.
		cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := func() {
		if cmd.SysProcAttr != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		_ = cmd.Process.Kill()
		_ = out.Close() // whoever else has the other end is not waited for
	}
	stop := context.AfterFunc(ctx, kill)
	pin, err := firstLine(out)
	if err != nil {
		kill()
	}
	if wait := cmd.Wait(); err == nil && wait != nil {
		err = errors.New(wait.Error()) // the exit status; as an ExitError the cli package would have it for its own
	}
	stop()
	switch {
	case ctx.Err() != nil:
		err = ctx.Err()
	case err == nil && len(pin) == 0:
		err = errors.New("it printed nothing: the secret is the first line of its output")
	}
	if err != nil {
		clear(pin)
		return nil, err
	}
	return pin, nil
}

// maxPINOutput bounds what a command may print behind the PIN, in bytes.
const maxPINOutput = 64 << 10

// firstLine reads to the end, and returns the first line without its own end. No
// buffer but the one that is returned holds what was read any longer.
func firstLine(r io.Reader) ([]byte, error) {
	var buffer [4096]byte
	defer clear(buffer[:])
	line, whole := make([]byte, 0, maxPIN+2), false
	fail := func(err error) ([]byte, error) {
		clear(line)
		return nil, err
	}
	for total := 0; ; {
		n, err := r.Read(buffer[:])
		if total += n; total > maxPINOutput {
			return fail(fmt.Errorf("it printed more than %d bytes", maxPINOutput))
		}
		if !whole {
			first, _, end := bytes.Cut(buffer[:n], []byte("\n"))
			whole = end
			if len(line)+len(first) > cap(line) {
				return fail(fmt.Errorf("its first line is longer than %d bytes", maxPIN))
			}
			line = append(line, first...)
		}
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fail(err)
		}
	}
	line = bytes.TrimRight(line, "\r")
	if len(line) > maxPIN {
		return fail(fmt.Errorf("its first line is longer than %d bytes", maxPIN))
	}
	return line, nil
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
