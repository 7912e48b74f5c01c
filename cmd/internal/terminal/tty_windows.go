package terminal

import (
	"errors"
	"fmt"
	"io"
	"os"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/sys/windows"
)

// A TTY is the console of the process.
type TTY struct{ in, out *os.File }

// Open opens the terminal.
func Open() (TTY, error) {
	in, err := OpenInput()
	if err != nil {
		return TTY{}, err
	}
	out, err := os.OpenFile("CONOUT$", os.O_RDWR, 0)
	if err != nil {
		return TTY{}, errors.Join(err, in.Close())
	}
	return TTY{in, out}, nil
}

// OpenInput opens the console of the process, as stdin of another program.
func OpenInput() (*os.File, error) { return os.OpenFile("CONIN$", os.O_RDWR, 0) }

func (t TTY) Close() error { return errors.Join(t.in.Close(), t.out.Close()) }

// Fd returns the handle of the console's screen.
func (t TTY) Fd() uintptr { return t.out.Fd() }

func (t TTY) Write(p []byte) (int, error) { return t.out.Write(p) }

// Read reads a line, which ends with "\n"; ^Z at its start is the end of the file. The console's
// lines are UTF-16; [os.File] would keep parts of them in buffers of its own.
func (t TTY) Read(p []byte) (int, error) {
	line := make([]uint16, min(len(p), MaxSecret+2))
	defer clear(line)
	if len(line) == 0 {
		return 0, io.ErrShortBuffer
	}
	var n uint32
	if err := windows.ReadConsole(windows.Handle(t.in.Fd()), &line[0], uint32(len(line)), &n, nil); err != nil {
		return 0, fmt.Errorf("read from the console: %w", err)
	}
	if n == 0 || line[0] == 'Z'-'@' {
		return 0, io.EOF
	}
	size := 0
	for i := 0; i < int(n); i++ {
		r := rune(line[i])
		if utf16.IsSurrogate(r) {
			var second rune
			if i++; i < int(n) {
				second = rune(line[i])
			}
			r = utf16.DecodeRune(r, second) // U+FFFD if it is half a pair
		}
		if r == '\r' {
			continue
		}
		if size+utf8.RuneLen(r) > len(p) {
			return size, fmt.Errorf("more than %d bytes were typed", MaxSecret)
		}
		size += utf8.EncodeRune(p[size:], r)
	}
	return size, nil
}

// withoutEcho turns off the echo of the console and discards what was typed before. Lines can still
// be edited, and ^C still interrupts.
func (t TTY) withoutEcho() (restore func(), err error) {
	console := windows.Handle(t.in.Fd())
	var before uint32
	if err := windows.GetConsoleMode(console, &before); err != nil {
		return nil, fmt.Errorf("read the mode of the console: %w", err)
	}
	const lines = windows.ENABLE_LINE_INPUT | windows.ENABLE_PROCESSED_INPUT
	if err := windows.SetConsoleMode(console, before&^windows.ENABLE_ECHO_INPUT|lines); err != nil {
		return nil, fmt.Errorf("turn off the console's echo: %w", err)
	}
	_ = windows.FlushConsoleInputBuffer(console)
	return func() { _ = windows.SetConsoleMode(console, before) }, nil
}
