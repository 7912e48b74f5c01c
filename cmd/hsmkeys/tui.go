package main

// This file owns the terminal. What is asked for goes to /dev/tty, so that stdin
// and stdout stay free for data; nothing that is typed here is echoed or kept.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// askSecret asks for a PIN. The caller overwrites what it returns.
func askSecret(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, usage("there is no terminal to ask for the PIN; use --pin-source env:NAME or file:PATH")
	}
	defer tty.Close()
	fd := int(tty.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return nil, err
	}
	// ^C while somebody types must not leave a terminal without echo.
	defer context.AfterFunc(ctx, func() { _ = term.Restore(fd, state) })()
	fmt.Fprint(tty, prompt+": ")
	secret, err := term.ReadPassword(fd)
	fmt.Fprintln(tty)
	if err == nil && len(secret) == 0 {
		err = errors.New("nothing was typed")
	}
	return secret, err
}

// askNewSecret asks twice.
func askNewSecret(ctx context.Context, prompt string) ([]byte, error) {
	first, err := askSecret(ctx, prompt)
	if err != nil {
		return nil, err
	}
	second, err := askSecret(ctx, prompt+", again")
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

// isTerminal says whether a person reads what is written there.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// progress shows on a terminal how much of a file has been read, once that takes
// longer than a second. size is -1 where it is not known. The caller calls done.
func progress(in io.Reader, size int64) (_ io.Reader, done func()) {
	if !isTerminal(os.Stderr) {
		return in, func() {}
	}
	p := &progressReader{in: in, size: size, began: time.Now()}
	return p, p.done
}

type progressReader struct {
	in    io.Reader
	size  int64
	began time.Time
	read  int64
	bar   *progressbar.ProgressBar // nil in the first second
}

func (p *progressReader) Read(b []byte) (int, error) {
	n, err := p.in.Read(b)
	p.read += int64(n)
	if p.bar == nil && time.Since(p.began) > time.Second {
		p.bar = progressbar.NewOptions64(p.size, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	if p.bar != nil {
		_ = p.bar.Set64(p.read) // a bar that does not show fails nothing
	}
	return n, err
}

// done clears the line.
func (p *progressReader) done() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
