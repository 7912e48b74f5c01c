package main

// This file owns the terminal. What is asked for goes to /dev/tty, so that stdin
// and stdout stay free for data; nothing that is typed here is echoed or kept.

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"

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
