// Package secret reads PINs and passwords from where the user says they are: a prompt, the
// environment, a file or a command.
package secret

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/hsmkeys/hsmkeys/cmd/internal/failure"
	"github.com/hsmkeys/hsmkeys/cmd/internal/message"
	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
	"github.com/hsmkeys/hsmkeys/token/ownfile"
)

// Read returns the PIN or password from a source: prompt, env:NAME, file:PATH or exec:COMMAND. The
// option that names the source, and what the secret is, are for errors; ask prompts for it. An error
// has the status [failure.StatusToken], or [failure.StatusUsage] if the source has none of these
// forms. The caller must clear what it returns.
func Read(ctx context.Context, option, source, what string, ask func(context.Context, string) ([]byte, error)) ([]byte, error) {
	secret, err := secretFrom(ctx, option, source, what, ask)
	switch {
	case errors.Is(err, errSource):
		return nil, failure.Usage("--%s is prompt, env:NAME, file:PATH or exec:COMMAND", option)
	case errors.Is(err, terminal.ErrNone):
		return nil, failure.Secret(fmt.Errorf("%w to ask for the %s; use --%s: env:NAME, file:PATH or exec:COMMAND", err, what, option))
	case err != nil:
		return nil, failure.Secret(err)
	}
	return secret, nil
}

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
			// The command is not shown: it may contain a secret.
			return nil, fmt.Errorf("%s: the command of --%s: %w", what, option, err)
		}
		return pin, nil
	default:
		return nil, errSource
	}
}

// readSecretFile reads a file or a pipe of this user. It refuses those of other users: a wrong PIN
// would use up a try.
func readSecretFile(what, path string) ([]byte, error) {
	f, err := ownfile.Open(path, true)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	defer f.Close()
	if info, err := f.Stat(); err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o077 != 0 {
		message.Warn(fmt.Errorf("others can read the secret in %q; chmod 600 it", path))
	}
	all, err := io.ReadAll(io.LimitReader(f, terminal.MaxSecret+1))
	if err != nil {
		clear(all)
		return nil, fmt.Errorf("%s: %w", what, err)
	}
	return oneSecret(strconv.Quote(path), all)
}

// oneSecret returns the only line of a file or a variable. With more lines, the secret would not be
// the one that a person types.
func oneSecret(where string, all []byte) ([]byte, error) {
	secret := bytes.TrimRight(all, "\r\n")
	if len(secret) == 0 || len(all) > terminal.MaxSecret || bytes.ContainsAny(secret, "\r\n") {
		clear(all)
		return nil, fmt.Errorf("%s holds no PIN or password: it has one line, of at most %d bytes", where, terminal.MaxSecret)
	}
	return secret, nil
}

// runPINCommand has the shell run a command, and returns the first line of its output. The rest is
// read and discarded: password managers keep notes there. The command inherits stderr; its stdin is
// the terminal or nothing, since the program's own may be the data to encrypt.
func runPINCommand(ctx context.Context, command string) ([]byte, error) {
	cmd := shell(command)
	cmd.Stderr = os.Stderr
	end := func() { _ = cmd.Process.Kill() }
	if tty, err := terminal.OpenInput(); err == nil {
		defer tty.Close()
		cmd.Stdin = tty
	} else {
		end = inGroup(cmd)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	kill := func() {
		end()
		_ = out.Close() // do not wait for other processes that have it open
	}
	stop := context.AfterFunc(ctx, kill)
	pin, err := firstLine(out)
	if err != nil {
		kill()
	}
	if wait := cmd.Wait(); err == nil && wait != nil {
		err = errors.New(wait.Error()) // not an ExitError, which package cli would take for its own
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

// maxPINOutput is the maximal length of the output of a command, in bytes.
const maxPINOutput = 64 << 10

// firstLine reads r to its end, and returns the first line without the line break. It clears every
// other buffer that held what was read.
func firstLine(r io.Reader) ([]byte, error) {
	var buffer [4096]byte
	defer clear(buffer[:])
	line, whole := make([]byte, 0, terminal.MaxSecret+2), false
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
				return fail(fmt.Errorf("its first line is longer than %d bytes", terminal.MaxSecret))
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
	if len(line) > terminal.MaxSecret {
		return fail(fmt.Errorf("its first line is longer than %d bytes", terminal.MaxSecret))
	}
	return line, nil
}

// Ask asks a person for a PIN or a password. The caller must clear what it returns. The age plugin
// replaces it: there age asks.
var Ask = terminal.Ask

// AskNew asks for a new PIN or password twice, and compares the answers.
func AskNew(ctx context.Context, prompt string) ([]byte, error) {
	first, err := Ask(ctx, prompt)
	if err != nil {
		return nil, err
	}
	second, err := Ask(ctx, prompt+", again")
	defer clear(second)
	if err == nil && !bytes.Equal(first, second) {
		err = errors.New("the two are not the same")
	}
	if err != nil {
		clear(first)
		return nil, err
	}
	return first, nil
}
