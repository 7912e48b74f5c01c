package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/hsmkeys/hsmkeys"
	"github.com/hsmkeys/hsmkeys/ledger"
)

// printLine prints a line for people. That stdout cannot be written is a failure,
// on a pipe or a full disk as well.
func printLine(format string, args ...any) error {
	_, err := fmt.Printf(format+"\n", args...)
	return err
}

// printable quotes a text that somebody else wrote when it could play tricks on
// the terminal.
func printable(s string) string {
	if q := strconv.Quote(s); q != `"`+s+`"` {
		return q
	}
	return s
}

func when(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// versionOf is the key in the form NAME@VERSION.
func versionOf(e hsmkeys.Entry) string { return fmt.Sprintf("%s@%d", e.Name, e.Version) }

// printEntry describes one key.
func printEntry(c *cli.Context, e hsmkeys.Entry) error {
	if c.Bool("json") {
		return printJSON(e)
	}
	rows := [][]string{
		{"name", e.Name},
		{"version", fmt.Sprintf("%d, revision %d", e.Version, e.Revision)},
		{"key id", e.KeyID},
		{"algorithm", e.Kind()},
		{"purpose", e.Purpose},
		{"created", when(e.Created)},
		{"signed", fmt.Sprintf("%s by %s, %s (%s)", when(e.Signed), printable(e.Signer.Label), e.Signature, printable(e.Why))},
	}
	if e.Status != ledger.Active.String() {
		rows = append(rows, []string{"status", e.Status + ", encrypts nothing"})
	}
	if e.Effective != 0 {
		rows = append(rows, []string{"effective bits", strconv.Itoa(e.Effective)})
	}
	if e.Salt != "" {
		rows = append(rows, []string{"salt", e.Salt})
	}
	if e.Imported {
		rows = append(rows, []string{"origin", "imported: whoever made it may have it too"})
	}
	if e.Password != "" {
		rows = append(rows, []string{"from a password", fmt.Sprintf("%s, %d bytes", e.Password, e.Bits/8)}, []string{"", "no backup authority can help: the key is in the password alone"})
	}
	for i, h := range e.Holders {
		title := "holders"
		if i > 0 {
			title = ""
		}
		rows = append(rows, []string{title, fmt.Sprintf("%s (%s), %s, key %s", printable(h.Label), h.Role, h.Wrapping, h.SubjectKeyID)})
	}
	for _, h := range e.Earlier {
		rows = append(rows, []string{"former holder", fmt.Sprintf("%s (%s), of an earlier revision, which holds the same key, key %s", printable(h.Label), h.Role, h.SubjectKeyID)})
	}
	if len(e.Former()) > 0 {
		rows = append(rows, []string{"", "hsmkeys rotate " + e.Name + " makes a version that no former member can open"})
	}
	for _, h := range e.Unable {
		rows = append(rows, []string{"not for", fmt.Sprintf("%s (%s): a key that is so short cannot be wrapped to its EC pair", printable(h.Label), h.Role)})
	}
	if e.CheckValue != "" {
		rows = append(rows, []string{"check value", e.CheckValue})
	}
	if e.Residence != "" {
		rows = append(rows, []string{"residence", e.Residence})
	}
	rows = append(rows, []string{"keyring", e.Keyring}, []string{"blob sha256", e.Digest})
	return table(rows)
}

// openInput opens a file, or stdin for "-" or nothing.
func openInput(path string) (io.ReadCloser, error) {
	if path == "" || path == "-" {
		if isTerminal(os.Stdin) {
			note("reading from the terminal; end with ^D")
		}
		widenPipe(os.Stdin)
		return io.NopCloser(os.Stdin), nil
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err == nil && info.IsDir() {
		return nil, errors.Join(usage("%q is a directory", path), f.Close())
	}
	return f, nil
}

// inputSize is the size of a file in bytes, or -1 for a pipe.
func inputSize(in io.Reader) int64 {
	if f, ok := in.(*os.File); ok {
		if info, err := f.Stat(); err == nil && info.Mode().IsRegular() {
			return info.Size()
		}
	}
	return -1
}

// outBuffer gathers what is written in small pieces. It is smaller than age's chunks of 64
// KiB, which then are not copied once more.
const outBuffer = 32 << 10

// writeBuffered lets f write. What it has written before a failure is authentic, and
// written too.
func writeBuffered(out io.Writer, f func(io.Writer) error) error {
	w := bufio.NewWriterSize(out, outBuffer)
	err := f(w)
	if flushed := w.Flush(); err == nil { // or else it is the same error
		err = flushed
	}
	return err
}

// copyAll copies until the end or until ctx is done.
func copyAll(ctx context.Context, dst io.Writer, src io.Reader) error {
	buffer := make([]byte, 64<<10) // a chunk of age's
	defer clear(buffer)
	_, err := io.CopyBuffer(struct{ io.Writer }{dst}, &interruptible{ctx, src}, buffer)
	return err
}

type interruptible struct {
	ctx context.Context
	src io.Reader
}

func (r *interruptible) Read(p []byte) (int, error) {
	if err := r.ctx.Err(); err != nil {
		return 0, err
	}
	return r.src.Read(p)
}
