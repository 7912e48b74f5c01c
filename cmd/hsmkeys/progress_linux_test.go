package main

import (
	"os"
	"testing"

	"github.com/hsmkeys/hsmkeys/cmd/internal/terminal"
)

// Progress is for a person who looks on, and not among the lines that are typed or printed.
func TestProgressKeepsOutOfLines(t *testing.T) {
	p := newTerminal(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	defer func(in, out *os.File) { os.Stdin, os.Stderr = in, out }(os.Stdin, os.Stderr)
	os.Stderr = p.tty
	for _, tt := range []struct {
		name       string
		stdin      *os.File
		size       int64
		toTerminal bool
		want       bool
	}{
		{"a pipe into a file", null, -1, false, true},
		{"a file into a file, at a terminal", p.tty, 100, false, true},
		{"a person types", p.tty, -1, false, false},
		{"a person reads", null, 100, true, false},
	} {
		os.Stdin = tt.stdin
		in, done := terminal.Progress(null, tt.size, tt.toTerminal)
		done()
		if got := in != null; got != tt.want {
			t.Errorf("%s: progress %v, want %v", tt.name, got, tt.want)
		}
	}
}
