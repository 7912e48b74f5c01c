// Package terminal owns the terminal: prompts for secrets, colours, widths and progress. Prompts go
// to /dev/tty, on Windows to the console, so that stdin and stdout stay free for data; nothing that
// is typed there is echoed or kept.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"golang.org/x/term"
)

// Ask asks for a PIN or a password on the terminal, without echo. The caller must clear what it
// returns. The error is [ErrNone] if the process has no terminal.
func Ask(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := Open()
	if err != nil {
		return nil, ErrNone
	}
	defer tty.Close()
	restore, err := tty.withoutEcho()
	if err != nil {
		return nil, err
	}
	defer restore()
	// ^C while somebody types must not leave a terminal without echo.
	defer context.AfterFunc(ctx, restore)()
	endLine := endPrompt(ctx, tty)
	fmt.Fprint(tty, prompt+": ") // only now: what is typed at a prompt must never be seen
	secret, err := readTyped(tty)
	endLine()
	return secret, err
}

// endPrompt returns a function that ends the line of a prompt, once. ^C ends it too, so that the
// next message starts on a line of its own.
func endPrompt(ctx context.Context, tty io.Writer) func() {
	end := sync.OnceFunc(func() { fmt.Fprintln(tty) })
	stop := context.AfterFunc(ctx, end)
	return func() {
		stop()
		end()
	}
}

// errNothingTyped means that a prompt was left without an answer.
var errNothingTyped = errors.New("nothing was typed")

// readTyped reads one line. An end of file (^D) discards what was typed of it: half a PIN would use
// up a try.
func readTyped(tty io.Reader) ([]byte, error) {
	line := make([]byte, MaxSecret+1) // one read gets a whole line
	for n := 0; ; {
		got, err := tty.Read(line[n:])
		n += got
		switch end := bytes.IndexByte(line[:n], '\n'); {
		case end == 0:
			return nil, errNothingTyped
		case end > 0:
			return line[:end], nil
		case n == len(line):
			err = fmt.Errorf("more than %d bytes were typed", MaxSecret)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: the input ended (^D)", errNothingTyped)
		case err == nil:
			continue
		}
		clear(line)
		return nil, err
	}
}

// Is reports whether f is a terminal.
func Is(f File) bool { return term.IsTerminal(int(f.Fd())) }

// MaxSecret is the maximal length of a PIN or a password, in bytes.
const MaxSecret = 1024

// ErrNone means that there is no terminal to ask at.
var ErrNone = errors.New("there is no terminal")
