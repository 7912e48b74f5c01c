// Package terminal owns the terminal: prompts for secrets, colours, widths and progress. Prompts go
// to /dev/tty, so that stdin and stdout stay free for data; nothing that is typed there is echoed or
// kept.
package terminal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"

	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// Ask asks for a PIN or a password on /dev/tty, without echo. The caller must clear what it returns.
func Ask(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, ErrNone
	}
	defer tty.Close()
	restore, err := withoutEcho(int(tty.Fd()))
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

// withoutEcho turns off the echo of a terminal and discards what was typed before. Lines can still
// be edited, and ^C still interrupts.
func withoutEcho(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, fmt.Errorf("read the settings of the terminal: %w", err)
	}
	quiet := *before
	quiet.Lflag &^= unix.ECHO
	quiet.Lflag |= unix.ICANON | unix.ISIG
	quiet.Iflag |= unix.ICRNL
	if err := unix.IoctlSetTermios(fd, setTermiosFlush, &quiet); err != nil {
		return nil, fmt.Errorf("turn off the terminal's echo: %w", err)
	}
	return func() { _ = unix.IoctlSetTermios(fd, setTermios, before) }, nil
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
func Is(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// MaxSecret is the maximal length of a PIN or a password, in bytes.
const MaxSecret = 1024

// ErrNone means that there is no terminal to ask at.
var ErrNone = errors.New("there is no terminal")
