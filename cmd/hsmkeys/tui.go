package main

// This file owns the terminal. What is asked for goes to /dev/tty, so that stdin
// and stdout stay free for data; nothing that is typed here is echoed or kept.

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/schollz/progressbar/v3"
	"github.com/urfave/cli/v2"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// askSecret asks for a PIN or a password. The caller overwrites what it returns. The
// plugin of age has age ask.
var askSecret = askAtTerminal

func askAtTerminal(ctx context.Context, prompt string) ([]byte, error) {
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return nil, errNoTerminal
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

// endPrompt returns a function that ends the line of a prompt, once. ^C ends it too: what is
// printed then does not stand behind the prompt.
func endPrompt(ctx context.Context, tty io.Writer) func() {
	end := sync.OnceFunc(func() { fmt.Fprintln(tty) })
	stop := context.AfterFunc(ctx, end)
	return func() {
		stop()
		end()
	}
}

// withoutEcho turns the echo of a terminal off, and drops what was typed before. Lines
// can still be edited and ^C still interrupts.
func withoutEcho(fd int) (restore func(), err error) {
	before, err := unix.IoctlGetTermios(fd, getTermios)
	if err != nil {
		return nil, fmt.Errorf("look at the terminal: %w", err)
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

// errNothingTyped is for a prompt that was left without an answer.
var errNothingTyped = errors.New("nothing was typed")

// readTyped reads one line. An end of file (^D) takes back what was typed of it: half a
// PIN would use up a try.
func readTyped(tty io.Reader) ([]byte, error) {
	line := make([]byte, maxPIN+1) // one read gets a whole line
	for n := 0; ; {
		got, err := tty.Read(line[n:])
		n += got
		switch end := bytes.IndexByte(line[:n], '\n'); {
		case end == 0:
			return nil, errNothingTyped
		case end > 0:
			return line[:end], nil
		case n == len(line):
			err = fmt.Errorf("more than %d bytes were typed", maxPIN)
		case errors.Is(err, io.EOF):
			err = fmt.Errorf("%w: the input ended (^D)", errNothingTyped)
		case err == nil:
			continue
		}
		clear(line)
		return nil, err
	}
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

func yesFlag() cli.Flag {
	return &cli.BoolFlag{Name: "yes", Usage: "do not ask"}
}

// mayConfirm refuses early, before anybody is asked for a PIN, what confirm would refuse.
func mayConfirm(c *cli.Context) error {
	if c.Bool("yes") {
		return nil
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return usage("there is no terminal to ask; check what is to be done, such as the fingerprints, and add --yes")
	}
	return tty.Close()
}

// confirm shows what a decision is about and asks for it, unless --yes has made it.
func confirm(c *cli.Context, details [][]string, question string) error {
	if c.Bool("yes") {
		return nil
	}
	if err := mayConfirm(c); err != nil {
		return err
	}
	tty, err := os.OpenFile("/dev/tty", os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer tty.Close()
	if err := writeTable(tty, details); err != nil {
		return err
	}
	fmt.Fprintf(tty, "%s [y/N] ", question)
	ended := context.AfterFunc(c.Context, func() { fmt.Fprintln(tty) })
	line, err := bufio.NewReader(tty).ReadString('\n')
	if ended() && err != nil { // ^D; or else the terminal has echoed the end of the line
		fmt.Fprintln(tty)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	if answer := strings.ToLower(strings.TrimSpace(line)); err != nil || answer != "y" && answer != "yes" {
		return errors.New("nothing was done: the answer was not yes")
	}
	return nil
}

// isTerminal reports whether f is a terminal.
func isTerminal(f *os.File) bool { return term.IsTerminal(int(f.Fd())) }

// progress shows on a terminal how much of a file has been read, once that takes
// longer than a second. size is -1 where it is not known. Where a person types the input or
// reads the output, it would stand among the lines of these. The caller calls done.
func progress(in io.Reader, size int64, toTerminal bool) (_ io.Reader, done func()) {
	if !isTerminal(os.Stderr) || toTerminal || size < 0 && isTerminal(os.Stdin) {
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
	p.advance(n)
	return n, err
}

func (p *progressReader) advance(n int) {
	p.read += int64(n)
	if p.bar == nil && time.Since(p.began) > time.Second {
		p.bar = progressbar.NewOptions64(p.size, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionShowBytes(true),
			progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	if p.bar != nil {
		_ = p.bar.Set64(p.read) // a bar that does not show fails nothing
	}
}

// progressReaderAt is a progressReader that is read at any place, by many at a time.
type progressReaderAt struct {
	*progressReader
	mu sync.Mutex
	at io.ReaderAt
}

func (p *progressReaderAt) ReadAt(b []byte, off int64) (int, error) {
	n, err := p.at.ReadAt(b, off)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.advance(n)
	return n, err
}

// counter shows on a terminal how many keys are done, once that takes longer than a
// second.
type counter struct {
	doing string
	total int
	done  int
	began time.Time
	bar   *progressbar.ProgressBar
}

func counting(doing string, total int) *counter {
	return &counter{doing: doing, total: total, began: time.Now()}
}

func (n *counter) one() {
	n.done++
	if n.bar == nil && isTerminal(os.Stderr) && time.Since(n.began) > time.Second {
		n.bar = progressbar.NewOptions(n.total, progressbar.OptionSetWriter(os.Stderr), progressbar.OptionSetDescription(n.doing),
			progressbar.OptionShowCount(), progressbar.OptionThrottle(200*time.Millisecond), progressbar.OptionClearOnFinish(), progressbar.OptionSetWidth(30))
	}
	if n.bar != nil {
		_ = n.bar.Set(n.done)
	}
}

// clear makes room for a line of text.
func (n *counter) clear() {
	if n.bar != nil {
		_ = n.bar.Clear()
	}
}

// done clears the line.
func (p *progressReader) done() {
	if p.bar != nil {
		_ = p.bar.Clear()
	}
}
